"""Tests of what a file says of itself: known tools are recognised, hostile bytes cost nothing, nobody is believed."""

import io
import json
import os
import struct
import time
import zlib
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from forensic_cli.images.decode import Decoded, decode, inspect
from forensic_cli.provenance import CLAIMS, MOST_VALUE, disagrees, read_metadata
from forensic_cli.record import Claim
from pictures import heic
from toys import child_environment, genforensic

WEB_UI = "a cat on a mat\nNegative prompt: dogs\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def encoded(name: str = "PNG", colour: tuple[int, int, int] = (255, 0, 0), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 36), colour).save(buffer, name, **options)
    return buffer.getvalue()


def png(packed: bool = False, international: bool = False, **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        if international:
            info.add_itxt(key, text, zip=packed)
        else:
            info.add_text(key, text, zip=packed)
    return encoded(pnginfo=info)


def exif(**tags: Any) -> bytes:
    found = Image.Exif()
    numbers = {"make": 0x010F, "model": 0x0110, "software": 0x0131, "description": 0x010E}
    for name, value in tags.items():
        if name == "comment":
            found.get_ifd(0x8769)[0x9286] = value
        else:
            found[numbers[name]] = value
    return found.tobytes()


def xmp(body: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {body}/></x:xmpmeta>'.encode()


def claims_of(data: bytes) -> tuple[Claim, ...]:
    return read_metadata(data, inspect(data).blocks)


def said(data: bytes) -> list[tuple[str, str, str]]:
    return [(claim.source, claim.claim, claim.value) for claim in claims_of(data)]


@pytest.mark.parametrize(
    "options", [{}, {"packed": True}, {"international": True}, {"international": True, "packed": True}]
)
def test_the_settings_of_a_stable_diffusion_web_ui(options: dict[str, bool]) -> None:
    line = " ".join(WEB_UI.split())
    assert said(png(parameters=WEB_UI, **options)) == [("png", "generated", f"parameters: {line}")]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("prompt", '{"3": {"class_type": "KSampler"}}', 'prompt of ComfyUI: {"3": {"class_type": "KSampler"}}'),
        ("workflow", '{"nodes": []}', 'workflow of ComfyUI: {"nodes": []}'),
        ("Software", "NovelAI", "NovelAI"),
        ("Source", "Stable Diffusion XL 7BCCAA2C", "Source: Stable Diffusion XL 7BCCAA2C"),
        ("invokeai_metadata", '{"seed": 1}', 'invokeai_metadata of InvokeAI: {"seed": 1}'),
        ("sd-metadata", "{}", "sd-metadata of InvokeAI: {}"),
        (
            "Description",
            "a cat --v 6.0 Job ID: 01234567-89ab-cdef-0123-456789abcdef",
            "Description: a cat --v 6.0 Job ID: 01234567-89ab-cdef-0123-456789abcdef",
        ),
        ("Comment", "Made with DALL-E 3", "Comment: Made with DALL-E 3"),
    ],
)
def test_png_texts_of_known_tools(key: str, text: str, value: str) -> None:
    assert said(png(**{key: text})) == [("png", "generated", value)]


def test_texts_that_say_nothing_of_the_origin_are_left_out() -> None:
    assert said(png(Title="my steps", prompt="what shall I paint?", workflow="ask", Author="A. Firefield")) == []
    assert said(png(Software="GIMP 2.10")) == [("png", "software", "GIMP 2.10")]


def test_a_tiff_is_its_own_exif() -> None:
    packet = xmp(f'Iptc4xmpExt:DigitalSourceType="{VOCABULARY}trainedAlgorithmicMedia"')
    data = encoded("TIFF", tiffinfo={0x010F: "Canon", 0x0131: "ComfyUI", 700: packet})
    assert said(data) == [
        ("exif", "camera", "Canon"),
        ("exif", "generated", "ComfyUI"),
        ("xmp", "generated", "digital source type trainedAlgorithmicMedia"),
    ]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_exif_of_a_camera_an_editor_and_a_generator(name: str) -> None:
    taken = encoded(name, exif=exif(make="Canon", model="EOS 5D", software="Adobe Photoshop 25.0"))
    assert said(taken) == [("exif", "camera", "Canon EOS 5D"), ("exif", "software", "Adobe Photoshop 25.0")]
    assert said(encoded(name, exif=exif(software="Adobe Firefly"))) == [("exif", "generated", "Adobe Firefly")]


@pytest.mark.parametrize(
    "comment",
    [
        b"ASCII\0\0\0" + WEB_UI.encode(),
        b"UNICODE\0" + WEB_UI.encode("utf-16-le"),
        b"UNICODE\0" + WEB_UI.encode("utf-16-be"),
    ],
    ids=["ascii", "little", "big"],
)
@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_web_uis_write_jpeg_and_webp_settings_into_the_user_comment(name: str, comment: bytes) -> None:
    ((source, claim, value),) = said(encoded(name, exif=exif(comment=comment)))
    assert (source, claim) == ("exif", "generated")
    assert value.startswith("a cat on a mat Negative prompt: dogs Steps: 20")


def test_comfyui_writes_webp_graphs_in_place_of_a_camera() -> None:
    data = encoded("WEBP", exif=exif(make='workflow:{"nodes": []}', model='prompt:{"3": {}}'))
    assert said(data) == [("exif", "generated", 'ComfyUI workflow:{"nodes": []}')]


@pytest.mark.parametrize(
    ("term", "claim"),
    [
        ("trainedAlgorithmicMedia", "generated"),
        ("compositeWithTrainedAlgorithmicMedia", "composite"),
        ("digitalCapture", "camera"),
        ("humanEdits", "software"),
    ],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_the_digital_source_type(name: str, term: str, claim: str) -> None:
    packet = xmp(f'Iptc4xmpExt:DigitalSourceType="{VOCABULARY}{term}"')
    options = {"pnginfo": PngImagePlugin.PngInfo()} if name == "PNG" else {"xmp": packet}
    if name == "PNG":
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())
    assert said(encoded(name, **options)) == [("xmp", claim, f"digital source type {term}")]


def test_xmp_names_programs_and_ai_systems() -> None:
    packet = xmp('xmp:CreatorTool="Adobe Firefly" photoshop:Credit="Made with Google AI" x:AISystemUsed="Toy 1"')
    assert said(encoded("JPEG", xmp=packet)) == [
        ("xmp", "generated", "AI system used Toy 1"),
        ("xmp", "generated", "Adobe Firefly"),
        ("xmp", "generated", "Made with Google AI"),
    ]


def test_iptc_and_comments() -> None:
    def dataset(number: int, text: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text

    body = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x20" + dataset(65, b"darktable") + dataset(110, b"OpenAI")
    segment = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    data = encoded("JPEG", comment=b"midjourney")
    data = data[:2] + segment + data[2:]
    assert said(data) == [
        ("iptc", "software", "darktable"),
        ("iptc", "generated", "OpenAI"),
        ("comment", "generated", "midjourney"),
    ]


# One walk: what is applied is also read, and what is beside the image is not


def turned_by_midjourney() -> bytes:
    """EXIF with an orientation and a claim."""
    tags = Image.Exif()
    tags[0x0112], tags[0x0131] = 6, "Midjourney"
    return tags.tobytes()


MIDJOURNEY = [("exif", "generated", "Midjourney")]


def check_turned_and_claimed(data: bytes) -> None:
    decoded = decode(data)
    assert isinstance(decoded, Decoded)
    assert "orientation_applied" in decoded.header.warnings
    assert said(data) == MIDJOURNEY


@pytest.mark.parametrize(
    "stray", [b"", b"?", b"\xff", b"stray bytes", b"\xff" * 5000, b"\xff\xfe\0\0", b"\xff\xfe\0\1"]
)
def test_bytes_before_the_exif_of_a_jpeg_hide_no_claim(stray: bytes) -> None:
    data = encoded("JPEG", exif=turned_by_midjourney())
    segment = data.index(b"\xff\xe1")
    check_turned_and_claimed(data[:segment] + stray + data[segment:])


@pytest.mark.parametrize("count", [65, 5000])
def test_many_segments_before_the_exif_of_a_jpeg_hide_no_claim(count: int) -> None:
    data = encoded("JPEG", exif=turned_by_midjourney())
    segment = data.index(b"\xff\xe1")
    check_turned_and_claimed(data[:segment] + b"\xff\xfe\0\4ab" * count + data[segment:])


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_the_exif_that_turns_an_image_is_also_read_for_claims(name: str) -> None:
    tags = turned_by_midjourney()
    check_turned_and_claimed(
        heic(Image.new("RGB", (40, 36)), exif=tags) if name == "HEIC" else encoded(name, exif=tags)
    )


def test_xmp_of_an_avif() -> None:
    data = encoded("AVIF", xmp=xmp('xmp:CreatorTool="Adobe Firefly"'))
    assert said(data) == [("xmp", "generated", "Adobe Firefly")]


def test_a_text_behind_the_end_of_a_png_is_not_its_own() -> None:
    assert said(encoded() + chunk(b"tEXt", b"Software\0Midjourney")) == []


def test_many_chunks_of_a_png_hide_no_text() -> None:
    data = png(Software="Midjourney")
    place = data.index(b"tEXt") - 4
    assert said(data[:place] + chunk(b"tIME", bytes(7)) * 5000 + data[place:]) == [("png", "generated", "Midjourney")]


def test_many_chunks_of_a_webp_hide_no_claim() -> None:
    data = encoded("WEBP", exif=exif(software="Midjourney"))
    place = data.index(b"EXIF")
    data = data[:place] + b"junk\0\0\0\0" * 5000 + data[place:]
    assert said(data[:4] + struct.pack("<I", len(data) - 8) + data[8:]) == MIDJOURNEY


def test_many_tags_hide_no_claim() -> None:
    """The tags before it are more than any real directory has."""
    fill = b"".join(struct.pack("<HHII", 0x0100, 3, 1, 0) for _ in range(1000))
    entry = struct.pack("<HHII", 0x0131, 2, 10, 8 + 2 + 1001 * 12 + 4)
    tags = b"II*\0" + struct.pack("<IH", 8, 1001) + fill + entry + bytes(4) + b"Midjourney"
    assert said(encoded("PNG", exif=b"Exif\0\0" + tags)) == MIDJOURNEY


def test_a_long_xmp_packet_of_a_tiff_is_read_to_its_end() -> None:
    packet = xmp(f'a="{"x" * 20_000}" xmp:CreatorTool="Adobe Firefly"')
    assert said(encoded("TIFF", tiffinfo={700: packet})) == [("xmp", "generated", "Adobe Firefly")]


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_claims_of_a_file_that_cannot_be_decoded(name: str) -> None:
    tags = exif(software="Midjourney")
    data = encoded(name, exif=tags)
    cut = data[:-1] if name in ("WEBP", "TIFF") else data[: data.index(b"Midjourney") + 10]
    assert not isinstance(decode(cut), Decoded)
    assert said(cut) == MIDJOURNEY


# C2PA


def manifest(term: str) -> dict[str, Any]:
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": VOCABULARY + term}]}
    return {
        "claim_generator_info": [{"name": "Toy Maker", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": actions}],
    }


def certificate(name: str, key: Any, issuer: str, issuer_key: Any, is_ca: bool) -> bytes:
    def named(text: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "toys"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        named(issuer), named(name), key.public_key(), 1 + is_ca, now - timedelta(1), now + timedelta(30)
    )
    usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    builder = builder.add_extension(x509.BasicConstraints(is_ca, None), True).add_extension(usage, True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def signer() -> Any:
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = certificate("leaf", leaf, "root", root, False) + certificate("root", root, "root", root, True)
    key = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None))


def signed(data: bytes, kind: str, signer: Any, term: str = "trainedAlgorithmicMedia") -> bytes:
    out = io.BytesIO()
    c2pa.Builder(json.dumps(manifest(term))).sign(signer, kind, io.BytesIO(data), out)
    return out.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_a_manifest_is_read_and_its_signature_named(name: str, signer: Any) -> None:
    data = signed(encoded(name), f"image/{name.lower()}", signer)
    assert said(data) == [("c2pa", "generated", "trainedAlgorithmicMedia, by Toy Maker, signature valid")]


def test_a_manifest_of_another_picture_is_invalid(signer: Any) -> None:
    data = signed(encoded("PNG"), "image/png", signer)
    place = data.rindex(b"IDAT") + 6
    assert said(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) == [
        ("c2pa", "generated", "trainedAlgorithmicMedia, by Toy Maker, signature invalid")
    ]


def test_a_damaged_manifest_is_said_and_not_guessed(signer: Any) -> None:
    data = signed(encoded("PNG"), "image/png", signer)
    ((source, claim, value),) = said(data[: data.index(b"caBX") + 900])
    assert (source, claim) == ("c2pa", "unread")
    assert value.startswith("a C2PA manifest that cannot be read (")


def test_without_the_package_a_manifest_is_said_to_be_there(signer: Any, toy_exports: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "c2pa.py").write_text("raise ImportError")
    (tmp_path / "a.png").write_bytes(signed(encoded(), "image/png", signer))
    path = os.pathsep.join([str(tmp_path / "without"), child_environment()["PYTHONPATH"]])
    done = genforensic("scan", tmp_path / "a.png", "--exports", toy_exports, "-f", "jsonl", env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout.splitlines()[1])
    assert row["metadata"] == [
        {
            "source": "c2pa",
            "claim": "unread",
            "value": "a C2PA manifest; to read it: pip install 'genforensic[c2pa]' "
            "(in a checkout: pip install '.[c2pa]')",
        }
    ]
    assert row["warnings"] == []


# Beside the verdict


def test_a_row_has_what_the_file_says_and_warns_where_the_verdict_excludes_it(
    run: Any, toy_exports: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "1-real.png").write_bytes(png(parameters=WEB_UI))
    (folder / "2-alpha.jpg").write_bytes(encoded("JPEG", (0, 255, 0), quality=95, exif=exif(make="Canon")))
    (folder / "3-alpha.png").write_bytes(encoded("PNG", (0, 255, 0)))
    (folder / "4-grey.png").write_bytes(encoded("PNG", (128, 128, 128), exif=exif(make="Canon")))
    (folder / "5-cut.png").write_bytes(png(parameters=WEB_UI)[:-20])
    done = run("scan", folder, "--exports", toy_exports, "-f", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()[1:-1]]
    assert [(row["verdict"], row["warnings"]) for row in rows] == [
        ("real", ["metadata_conflict"]),
        ("alpha", ["metadata_conflict"]),
        ("alpha", []),
        ("inconclusive", []),
        (None, []),
    ]
    assert [[one["claim"] for one in row["metadata"]] for row in rows] == [
        ["generated"],
        ["camera"],
        [],
        ["camera"],
        ["generated"],
    ]


@pytest.mark.parametrize(
    ("claims", "headline", "expected"),
    [
        (["generated"], "real", True),
        (["generated"], "generated", False),
        (["composite"], "real", False),
        (["camera"], "generated", True),
        (["camera"], "real", False),
        (["camera", "generated"], "generated", False),
        (["camera", "generated"], "real", True),
        (["generated", "camera"], "undecided", False),
        (["camera", "composite"], "generated", False),
        (["camera"], "undecided", False),
        (["software", "unread"], "real", False),
        ([], "generated", False),
    ],
)
def test_which_claims_exclude_which_headlines(claims: list[str], headline: str, expected: bool) -> None:
    assert disagrees([Claim("png", claim, "") for claim in claims], headline) == expected


# Hostile bytes

MAKERS = {
    "png": lambda: png(parameters=WEB_UI, Software="NovelAI"),
    "itxt": lambda: png(parameters=WEB_UI, packed=True, international=True),
    "jpeg": lambda: encoded("JPEG", exif=exif(make="Canon", comment=b"UNICODE\0" + WEB_UI.encode("utf-16-le"))),
    "webp": lambda: encoded("WEBP", exif=exif(software="x"), xmp=xmp(f'a="{VOCABULARY}print"')),
    "avif": lambda: encoded("AVIF"),
    "tiff": lambda: encoded("TIFF", tiffinfo={0x010F: "Canon", 700: xmp(f'a="{VOCABULARY}print"')}),
}
HEADS = (
    b"\xff\xd8",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\0\0\0WEBP",
    b"\0\0\0\x1cftypavif",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08\0\x05\x01\x0f\0\x02",
    b"\xff\xd8\xff\xe1\xff\xffExif\0\0II*\0",
)


def check_bounds(found: tuple[Claim, ...]) -> None:
    assert len(found) <= 16
    for one in found:
        assert one.claim in CLAIMS
        assert len(one.value) <= MOST_VALUE
        assert one.value.isprintable()
        json.dumps(asdict(one)).encode()


@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=600))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_survived(head: bytes, tail: bytes) -> None:
    check_bounds(claims_of(head + tail))


@given(
    name=st.sampled_from(sorted(MAKERS)), edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8)
)
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_survived(name: str, edits: list[tuple[float, int]]) -> None:
    data = bytearray(MAKERS[name]())
    for place, value in edits:
        data[round(place * (len(data) - 1))] = value
    check_bounds(claims_of(bytes(data)))


@given(name=st.sampled_from(sorted(MAKERS)), share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_cut_files_are_survived(name: str, share: float) -> None:
    data = MAKERS[name]()
    check_bounds(claims_of(data[: round(share * len(data))]))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def hostile_exif() -> bytes:
    tags = [struct.pack("<HHII", 0x010F, 2, 60000, 8)] * 5000
    return b"II*\0" + struct.pack("<IH", 8, 5000) + b"".join(tags)


def overlapping_pages(count: int = 64, tags: int = 65535) -> bytes:
    """A TIFF of 800 kB in which each page begins a tag later than the one before, and has as many tags."""
    entry = struct.pack("<HHII", tags, 1, 1, 0)
    data = bytearray(b"II*\0" + struct.pack("<IH", 8, tags) + entry * (tags + count + 2))
    starts = [8, *(10 + 12 * page for page in range(1, count))]
    for start, following in pairwise(starts):
        struct.pack_into("<I", data, start + 2 + 12 * tags, following)
    return bytes(data)


BOMBS = {
    "zlib": lambda: HEADS[1] + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(200_000_000))) * 100,
    "chunks": lambda: HEADS[1] + chunk(b"tIME", b"") * 2_000_000,
    "texts": lambda: HEADS[1] + chunk(b"tEXt", b"Comment\0" + b"Steps: 1 " * 7000) * 500,
    "segments": lambda: HEADS[0] + b"\xff\xfe\0\2" * 5_000_000,
    "fill": lambda: HEADS[0] + b"\xff" * 20_000_000,
    "exif": lambda: (
        HEADS[0] + (b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(hostile_exif())) + b"Exif\0\0" + hostile_exif()) * 500
    ),
    "pages": overlapping_pages,
    "xmp": lambda: HEADS[1] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'CreatorTool="' * 5000) * 500,
    "control": lambda: png(parameters="Steps: 1\x1b[2J\x07\u202e, Sampler" + "\U0001f600" * 900),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_costs_next_to_nothing(name: str) -> None:
    data = BOMBS[name]()
    begun = time.process_time()
    check_bounds(claims_of(data))
    assert time.process_time() - begun < 1
