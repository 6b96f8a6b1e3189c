"""Decoding and views: no bytes make decode() raise, colours are judged as stored, equal pixels give equal views."""

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from forensic_cli.card import Preprocessing
from forensic_cli.images.decode import MAX_PIXELS, Decoded, decode, read_header
from forensic_cli.images.header import STATUSES, WARNINGS, Unreadable
from forensic_cli.images.views import grid_origins, view_places, view_warnings, views
from hostile import swap_tables
from pictures import (
    BAD_PROFILE,
    DEEP,
    FRAMES,
    HEIGHT,
    NO_HUFFMAN_TABLE,
    WIDTH,
    bmp,
    chunk,
    exif,
    gif,
    gradient,
    heic,
    jpeg_with,
    nibbles,
    picture,
    png,
    png_header,
    png_rows,
    png_with,
    rarely_sampled_jpeg,
    run_lengths,
    split_jpeg,
    tiff,
    with_opencv,
)
from toys import child_environment

# Outside pytest Pillow's warnings are no errors; as errors they would turn readable headers into unreadable ones
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

SIDES = st.integers(1, 300)
few = settings(max_examples=40, deadline=None)
many = settings(max_examples=150, deadline=None)


def picture_of(data: bytes) -> np.ndarray:
    answer = decode(data)
    assert isinstance(answer, Decoded), answer
    return answer.pixels


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


VALID = {
    "PNG": encode(noise(23, 31), "PNG"),
    "JPEG": encode(noise(23, 31), "JPEG", quality=90),
    "progressive JPEG": encode(noise(23, 31), "JPEG", quality=90, progressive=True),
    "WebP": encode(noise(23, 31), "WEBP", quality=80),
    "lossless WebP": encode(noise(23, 31), "WEBP", lossless=True),
    "GIF": encode(noise(23, 31), "GIF"),
    "BMP": encode(noise(23, 31), "BMP"),
    "TIFF": encode(noise(23, 31), "TIFF"),
    "AVIF": encode(noise(23, 31), "AVIF"),
    "JPEG 2000": encode(noise(23, 31), "JPEG2000"),
    "HEIC": heic(Image.fromarray(noise(24, 32))),
    "animated GIF": encode(noise(23, 31), "GIF", **FRAMES),
    "TIFF with LZW": encode(noise(23, 31), "TIFF", compression="tiff_lzw"),
}


def assert_sound(answer: Decoded | Unreadable) -> None:
    if isinstance(answer, Unreadable):
        assert answer.status in STATUSES
        assert answer.reason
        assert "\n" not in answer.reason
    else:
        assert answer.pixels.dtype == np.uint8
        assert answer.pixels.ndim == 3
        assert answer.pixels.shape[2] == 3
        assert set(answer.header.warnings) <= set(WARNINGS)


@many
@given(st.binary(max_size=200))
def test_decode_never_raises_for_arbitrary_bytes(data: bytes) -> None:
    assert_sound(decode(data))


@many
@given(
    st.sampled_from(
        [
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"RIFF\x20\0\0\0WEBPVP8 ",
        ]
    ),
    st.binary(max_size=200),
)
def test_decode_never_raises_for_arbitrary_bytes_behind_a_signature(magic: bytes, rest: bytes) -> None:
    assert_sound(decode(magic + rest))


@many
@given(
    st.sampled_from(sorted(VALID)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_decode_never_raises_for_mutated_files(kind: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(VALID[kind])
    for place, value in changes:
        data[place % len(data)] = value
    assert_sound(decode(bytes(data)))


@pytest.mark.parametrize("kind", sorted(VALID))
def test_a_file_cut_anywhere_is_unreadable(kind: str) -> None:
    data = VALID[kind]
    assert isinstance(decode(data), Decoded)
    end = len(data) - (3 if kind == "BMP" else 0)  # which only fill its last row up
    for length in range(0, end, 3 if len(data) > 1000 else 1):
        answer = decode(data[:length])
        assert isinstance(answer, Unreadable), f"{length} of {len(data)} bytes were taken for a picture"
        assert_sound(answer)


@pytest.mark.parametrize("kind", sorted(VALID))
def test_a_file_cut_in_its_picture_is_called_truncated(kind: str) -> None:
    data = VALID[kind]
    answer = decode(data[: len(data) * 4 // 5])
    assert isinstance(answer, Unreadable)
    assert answer.status == "truncated"
    if kind in (
        "PNG",
        "JPEG",
        "progressive JPEG",
        "GIF",
        "BMP",
    ):  # Pillow reads no other header from a part of the file
        assert answer.header is not None
        assert (answer.header.width, answer.header.height) == (31, 23)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "lossless WebP"])
def test_bytes_behind_a_picture_do_not_change_it(kind: str) -> None:
    plain, longer = decode(VALID[kind]), decode(VALID[kind] + b"\0" * 10)
    assert isinstance(plain, Decoded)
    assert isinstance(longer, Decoded)
    assert np.array_equal(plain.pixels, longer.pixels)


def stderr_of_decoding(files: list[bytes]) -> str:
    program = (
        "import sys\n"
        "from forensic_cli.images.decode import decode\n"
        "for text in sys.stdin.read().split():\n"
        "    decode(bytes.fromhex(text))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(data.hex() for data in files),
        capture_output=True,
        encoding="utf-8",
        env=child_environment(),
        check=False,
    )
    assert done.returncode == 0
    return done.stderr


def test_libpng_prints_nothing_about_truncated_files() -> None:
    assert stderr_of_decoding([VALID["PNG"][:-lost] for lost in (*range(1, 20), 60, 200)]) == ""


def test_pillow_prints_no_warnings_about_odd_files() -> None:
    cut_tiffs = [VALID["TIFF"][:-lost] for lost in (1, 7, 20, 60)]
    bad_exif = encode(noise(23, 31), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    assert stderr_of_decoding([*cut_tiffs, bad_exif]) == ""


def test_pillow_logs_nothing_about_odd_files() -> None:
    whole = VALID["TIFF"]
    samples = bytes.fromhex("1501030001000000")  # the tag, its type and count
    assert samples + b"\x03\0" in whole
    assert stderr_of_decoding([whole.replace(samples + b"\x03\0", samples + b"\0\x08")]) == ""


@pytest.mark.parametrize(
    "damaged",
    [
        b"II*\0\x08\0\0\0\x05\0",  # five tags are promised and none is there
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0",  # the orientation is the text "abc"
        b"this is not EXIF",
    ],
)
def test_a_picture_with_damaged_exif_is_judged(damaged: bytes) -> None:
    answer = decode(encode(noise(23, 31), "JPEG", exif=b"Exif\0\0" + damaged))
    assert isinstance(answer, Decoded)
    assert (answer.header.width, answer.header.height, answer.header.warnings) == (31, 23, ())


@few
@given(SIDES, SIDES, st.sampled_from(["PNG", "WEBP"]), st.integers(0, 5))
def test_a_lossless_file_gives_its_pixels_back(height: int, width: int, kind: str, seed: int) -> None:
    pixels = noise(height, width, seed=seed)
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    answer = decode(encode(pixels, kind, **options))
    assert isinstance(answer, Decoded)
    assert np.array_equal(answer.pixels, pixels)
    assert (answer.header.width, answer.header.height, answer.header.format) == (width, height, kind)
    assert answer.header.warnings == (("tiny",) if min(width, height) < 16 else ())


@few
@given(SIDES, SIDES, st.integers(8, 64), st.integers(1, 4))
def test_patches_are_parts_of_the_image(height: int, width: int, size: int, grid: int) -> None:
    pixels, how = noise(height, width), Preprocessing("patches", size, grid)
    cut = views(pixels, how)
    assert cut.dtype == np.uint8
    assert cut.shape[1:] == (size, size, 3)
    assert 1 <= len(cut) <= grid**2
    assert np.array_equal(cut, views(pixels.copy(), how))
    if min(height, width) >= size:
        assert view_warnings(pixels, how) == ()
        places = [(y, x) for y in grid_origins(height, size, grid) for x in grid_origins(width, size, grid)]
        assert len(places) == len(cut)
        for patch, (y, x) in zip(cut, places, strict=True):
            assert np.array_equal(patch, pixels[y : y + size, x : x + size])
    else:
        assert view_warnings(pixels, how) == ("padded",)
        assert set(map(tuple, cut.reshape(-1, 3))) <= set(map(tuple, pixels.reshape(-1, 3)))


@few
@given(SIDES, SIDES, st.integers(8, 64), st.integers(1, 4))
def test_places_say_where_each_patch_lies(height: int, width: int, size: int, grid: int) -> None:
    """What was mirrored at a border lies outside the image, and so outside the place."""
    pixels, how = noise(height, width), Preprocessing("patches", size, grid)
    cut, places = views(pixels, how), view_places(height, width, how)
    assert len(cut) == len(places)
    for patch, (top, left, bottom, right) in zip(cut, places, strict=True):
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        assert (bottom - top, right - left) == (min(size, height), min(size, width))
        assert np.array_equal(patch[: bottom - top, : right - left], pixels[top:bottom, left:right])


def test_the_place_of_a_whole_view_is_the_image() -> None:
    assert view_places(30, 50, Preprocessing("whole", 8)) == [(0, 0, 30, 50)]


@few
@given(SIDES, SIDES, st.integers(8, 64))
def test_whole_is_pillows_antialiased_bilinear(height: int, width: int, size: int) -> None:
    pixels, how = noise(height, width), Preprocessing("whole", size)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    cut = views(pixels, how)
    assert cut.dtype == np.uint8
    assert cut.shape == (1, size, size, 3)
    assert np.array_equal(cut[0], expected)
    assert view_warnings(pixels, how) == (() if min(height, width) >= size else ("upscaled",))


def test_whole_averages_what_it_shrinks() -> None:
    """A filter that only picks pixels would turn fine stripes into black or white, not into grey."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = views(stripes, Preprocessing("whole", 8))[0, 1:-1, 1:-1]
    assert np.abs(shrunk.astype(int) - 128).max() <= 3


@many
@given(st.integers(1, 2000), st.integers(8, 512), st.integers(1, 16))
def test_grid_origins_go_from_edge_to_edge(length: int, size: int, most: int) -> None:
    length = max(length, size)
    origins = grid_origins(length, size, most)
    assert 1 <= len(origins) <= most
    assert origins == sorted(set(origins))
    assert all(0 <= origin <= length - size for origin in origins)
    if len(origins) > 1:
        assert (origins[0], origins[-1]) == (0, length - size)
        gaps = np.diff(origins)
        assert gaps.max() - gaps.min() <= 1
    if most * size >= length:
        covered = {pixel for origin in origins for pixel in range(origin, origin + size)}
        assert covered == set(range(length))


@pytest.mark.parametrize(
    ("length", "size", "most", "expected"),
    [
        (96, 32, 3, [0, 32, 64]),
        (100, 32, 2, [0, 68]),
        (32, 32, 4, [0]),
        (33, 32, 4, [0, 1]),
        (100, 32, 1, [34]),
    ],
)
def test_grid_origins_by_hand(length: int, size: int, most: int, expected: list[int]) -> None:
    assert grid_origins(length, size, most) == expected


def test_a_small_image_is_mirrored_at_its_far_borders() -> None:
    pixels = noise(5, 6)
    patch = views(pixels, Preprocessing("patches", 8, 2))[0]
    assert np.array_equal(patch[:5, :6], pixels)
    assert np.array_equal(patch[5:8, :6], pixels[[3, 2, 1]])
    assert np.array_equal(patch[:5, 6:8], pixels[:, [4, 3]])


frames = [Image.fromarray(noise(20, 30, seed=seed)) for seed in (1, 2)]
animated = {"save_all": True, "append_images": frames[1:]}
deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
CHANGED = {
    "RGBA PNG": (encode(noise(20, 30, 4), "PNG"), "alpha_dropped"),
    "RGBA WebP": (encode(noise(20, 30, 4), "WEBP", lossless=True), "alpha_dropped"),
    "grey with alpha": (encode(Image.new("LA", (30, 20)), "PNG"), "alpha_dropped"),
    "palette with a transparent colour": (
        encode(Image.new("P", (30, 20)), "PNG", transparency=0),
        "alpha_dropped palette",
    ),
    "CMYK JPEG": (encode(Image.new("CMYK", (30, 20), (9, 99, 50, 3)), "JPEG"), "converted_from_cmyk"),
    "16-bit RGB PNG": (cv2.imencode(".png", deep)[1].tobytes(), "reduced_to_8_bit"),
    "16-bit grey PNG": (encode(Image.fromarray(deep[..., 0].copy()), "PNG"), "reduced_to_8_bit"),
    "16-bit RGB TIFF": (cv2.imencode(".tiff", deep)[1].tobytes(), "reduced_to_8_bit"),
    "animated GIF": (encode(frames[0], "GIF", **animated), "first_frame_only palette"),
    "animated WebP": (encode(frames[0], "WEBP", **animated), "first_frame_only"),
    "TIFF of two pages": (encode(frames[0], "TIFF", **animated), "first_frame_only"),
    "JPEG of quality 60": (encode(frames[0], "JPEG", quality=60), "heavily_compressed"),
    "turned JPEG": (encode(frames[0], "JPEG", exif=exif(6)), "orientation_applied"),
    "turned PNG": (encode(frames[0], "PNG", exif=exif(6)), "orientation_applied"),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_what_decoding_changes_is_a_warning(name: str) -> None:
    data, warnings = CHANGED[name]
    answer = decode(data)
    assert isinstance(answer, Decoded)
    assert answer.header.warnings == tuple(warnings.split())
    assert (answer.header.width, answer.header.height) == (30, 20)
    assert answer.pixels.shape == ((30, 20, 3) if warnings == "orientation_applied" else (20, 30, 3))


def test_a_lab_picture_has_no_alpha() -> None:
    header = read_header(encode(Image.new("LAB", (30, 20)), "TIFF"))
    assert header is not None
    assert "alpha_dropped" not in header.warnings


@pytest.mark.parametrize(("quality", "warnings"), [(40, ("heavily_compressed",)), (90, ())])
def test_the_luma_table_of_a_jpeg_is_the_one_that_its_first_component_names(
    quality: int, warnings: tuple[str, ...]
) -> None:
    header = read_header(swap_tables(encode(frames[0], "JPEG", quality=quality)))
    assert header is not None
    assert header.warnings == warnings


@few
@given(st.integers(1, 100), st.sampled_from([0, 1, 2]), st.booleans())
def test_a_jpeg_below_quality_75_is_heavily_compressed(quality: int, subsampling: int, progressive: bool) -> None:
    data = encode(frames[0], "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    header = read_header(data)
    assert header is not None
    assert header.warnings == (("heavily_compressed",) if quality < 75 else ())


def with_alpha(mode: str) -> Image.Image:
    """Return noise in a mode of Pillow, with alpha of nothing, of all, and of anything between."""
    channels = noise(20, 30, 4)
    channels[:5, :, 3], channels[5:10, :, 3] = 0, 255
    return Image.fromarray(channels[..., [0, 3]] if mode == "LA" else channels)


MODES: dict[str, Image.Image] = {
    "1": Image.fromarray(noise(20, 30)).convert("1"),
    "L": Image.fromarray(noise(20, 30)[..., 0].copy()),
    "P": Image.fromarray(noise(20, 30)).quantize(200),
    "RGB": Image.fromarray(noise(20, 30)),
    "CMYK": Image.fromarray(noise(20, 30, 4), "CMYK"),
    "LA": with_alpha("LA"),
    "RGBA": with_alpha("RGBA"),
}
LOSSLESS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("PNG", ""): ("1 L P RGB LA RGBA", {}),
    ("WEBP", ""): ("RGB RGBA", {"lossless": True, "exact": True}),
    ("GIF", ""): ("1 L P", {}),
    ("BMP", ""): ("1 L P RGB RGBA", {}),
    ("TIFF", ""): ("1 L P RGB CMYK LA RGBA", {}),
    **{
        ("TIFF", name): ("L P RGB CMYK LA RGBA", {"compression": name})
        for name in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
    },
    ("TIFF", "group4"): ("1", {"compression": "group4"}),
    ("JPEG2000", ""): ("L RGB LA RGBA", {}),
}
"""{format and variant: modes of Pillow that it keeps as they are, options of the writer}."""


@pytest.mark.parametrize(
    ("kind", "variant", "mode"), [(*key, mode) for key, (modes, _) in LOSSLESS.items() for mode in modes.split()]
)
def test_colours_are_judged_as_stored(kind: str, variant: str, mode: str) -> None:
    answer = decode(encode(MODES[mode], kind, **LOSSLESS[kind, variant][1]))
    assert isinstance(answer, Decoded), answer
    image = MODES[mode]
    # Of colours with alpha Pillow, too, would multiply nothing in: the first channels are what was stored
    stored = np.asarray(image)[..., :-1] if mode in ("LA", "RGBA") else np.asarray(image.convert("RGB"))
    difference = np.abs(answer.pixels.astype(int) - stored)
    assert difference.max() <= (1 if mode == "CMYK" else 0)
    assert answer.header.warnings == {
        "LA": ("alpha_dropped",),
        "RGBA": ("alpha_dropped",),
        "CMYK": ("converted_from_cmyk",),
        **dict.fromkeys(("1", "P"), ("palette",)),
    }.get(mode, ("palette",) if kind == "GIF" else ())


@pytest.mark.parametrize("subsampling", ["4:0:0", "4:2:0", "4:4:4"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_avif_gives_the_pixels_of_pillow(mode: str, subsampling: str) -> None:
    data = encode(MODES[mode], "AVIF", quality=90, subsampling=subsampling)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    assert np.array_equal(
        picture_of(data), expected[..., :3] if expected.ndim == 3 else expected[..., None].repeat(3, 2)
    )


@pytest.mark.parametrize("transparency", [None, 7])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_stays_that_colour(kind: str, transparency: int | None) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    answer = decode(encode(MODES["P"], kind, **options))
    assert isinstance(answer, Decoded)
    assert np.array_equal(answer.pixels, np.asarray(MODES["P"].convert("RGB")))
    assert answer.header.warnings == (("palette",) if transparency is None else ("alpha_dropped", "palette"))


@pytest.mark.parametrize("transparency", [None, 9])
def test_what_a_gif_leaves_free_is_filled_as_pillow_does(transparency: int | None) -> None:
    """With the transparent colour; without one with the first, as there is nothing to see through to."""
    options = {} if transparency is None else {"transparency": transparency}
    body = MODES["P"]
    found = picture_of(gif(body, (50, 40), (4, 6), **options))
    colours = np.array(body.getpalette()).reshape(-1, 3)
    assert np.array_equal(found[6:26, 4:34], np.asarray(body.convert("RGB")))
    assert set(map(tuple, found[:6].reshape(-1, 3))) == {tuple(colours[transparency or 0])}


def test_a_gif_whose_picture_is_larger_than_its_canvas_is_judged_whole() -> None:
    answer = decode(gif(MODES["P"], (10, 10), (2, 3)))
    assert isinstance(answer, Decoded)
    assert (answer.header.width, answer.header.height) == (32, 23)
    assert np.array_equal(answer.pixels[3:, 2:], np.asarray(MODES["P"].convert("RGB")))


def rows_of_bmp(pixels: np.ndarray) -> bytes:
    return np.ascontiguousarray(pixels[::-1]).tobytes()


SPARE = np.dstack([gradient()[..., ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)])
SEEN_THROUGH = np.dstack([gradient()[..., ::-1], gradient()[..., 0]])
MASKS = (0xFF0000, 0xFF00, 0xFF)
SIXTEEN = DEEP[..., 0]
HALF = np.dstack([gradient() // 2, np.full((HEIGHT, WIDTH), 128, np.uint8)])
"""Colours that an alpha of a half is multiplied into."""


def five_bits(values: np.ndarray) -> np.ndarray:
    return values.astype(int) * 255 // 31


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


BY_HAND: dict[str, tuple[bytes, np.ndarray, tuple[str, ...]]] = {
    "BMP with spare bytes": (bmp(rows_of_bmp(SPARE), 32), gradient(), ()),
    "BMP with alpha in its spare bytes": (bmp(rows_of_bmp(SEEN_THROUGH), 32), gradient(), ("alpha_dropped",)),
    "BMP with masks": (bmp(rows_of_bmp(SPARE), 32, 3, MASKS), gradient(), ()),
    "BMP with masks, and alpha": (with_opencv(".bmp", SEEN_THROUGH), gradient(), ("alpha_dropped",)),
    "BMP of 5 bits": (
        bmp(rows_of_bmp(SIXTEEN & 0x7FFF), 16),
        np.dstack([five_bits(SIXTEEN >> shift & 31) for shift in (10, 5, 0)]).astype(np.uint8),
        (),
    ),
    "BMP of run lengths": (
        bmp(run_lengths(gradient()[..., 0]), 8, 1, palette=bytes(v for i in range(256) for v in (i, i ^ 255, 7, 0))),
        np.dstack([np.full((HEIGHT, WIDTH), 7), gradient()[..., 0] ^ 255, gradient()[..., 0]]).astype(np.uint8),
        ("palette",),
    ),
    "BMP of run lengths beyond its rows": (
        bmp(run_lengths(gradient()[..., 0], 3), 8, 1, palette=bytes(v for i in range(256) for v in (i, i, i, 0))),
        repeated(gradient()[..., 0]),
        (),
    ),
    "TIFF of 4 bits": (tiff(nibbles(SIXTEEN >> 12), (4,)), repeated((SIXTEEN >> 12) * 17), ()),
    "TIFF of 4 bits, white is zero": (tiff(nibbles(SIXTEEN >> 12), (4,), 0), repeated(255 - (SIXTEEN >> 12) * 17), ()),
    "TIFF of 2 bits": (
        tiff(nibbles((SIXTEEN >> 14)[:, ::2] << 2 | (SIXTEEN >> 14)[:, 1::2]), (2,)),
        repeated((SIXTEEN >> 14) * 85),
        (),
    ),
    "TIFF of 12 bits": (
        tiff(b"".join((int(a) << 12 | int(b)).to_bytes(3, "big") for a, b in (SIXTEEN >> 4).reshape(-1, 2)), (12,)),
        repeated(SIXTEEN >> 8),
        ("reduced_to_8_bit",),
    ),
    "TIFF of 16 bits": (tiff(SIXTEEN.tobytes(), (16,)), repeated(SIXTEEN >> 8), ("reduced_to_8_bit",)),
    "TIFF of 16 bits, white is zero": (
        tiff(SIXTEEN.tobytes(), (16,), 0),
        repeated(255 - (SIXTEEN >> 8)),
        ("reduced_to_8_bit",),
    ),
    "TIFF of 16 bits, RGB": (tiff(DEEP.tobytes(), (16,) * 3, 2), (DEEP >> 8).astype(np.uint8), ("reduced_to_8_bit",)),
    "TIFF that alpha was multiplied into": (
        tiff(HALF.tobytes(), (8,) * 4, 2, {338: (1,)}),
        HALF[..., :3],
        ("alpha_dropped",),
    ),
    "grey TIFF that alpha was multiplied into": (
        tiff(HALF[..., [0, 3]].tobytes(), (8,) * 2, 1, {338: (1,)}),
        repeated(HALF[..., 0]),
        ("alpha_dropped",),
    ),
    "TIFF in planes": (
        tiff(gradient().transpose(2, 0, 1).tobytes(), (8,) * 3, 2, {284: (2,), 273: (8, 1288, 2568), 279: (1280,) * 3}),
        gradient(),
        (),
    ),
    "JPEG 2000 of 16 bits": (
        encode(Image.fromarray(SIXTEEN.copy()), "JPEG2000"),
        repeated(SIXTEEN >> 8),
        ("reduced_to_8_bit",),
    ),
}
"""{name: (a file, its pixels as stored, the warnings)}."""


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_pillow_does_not_write_is_judged_as_stored(name: str) -> None:
    data, stored, warnings = BY_HAND[name]
    answer = decode(data)
    assert isinstance(answer, Decoded), answer
    assert answer.header.warnings == warnings
    assert np.abs(answer.pixels.astype(int) - stored).max() <= (1 if name == "BMP of 5 bits" else 0)


def test_16_bits_are_scaled_to_8() -> None:
    answer = decode(CHANGED["16-bit RGB PNG"][0])
    assert isinstance(answer, Decoded)
    assert np.abs(answer.pixels.astype(int) - deep[..., ::-1] / 257).max() <= 1


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
TURNABLE = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 95},
    "HEIC": {},
}


@pytest.mark.parametrize("kind", sorted(TURNABLE))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # one bright corner tells all eight apart
    upright[8:, 24:] = 90
    stored = Image.fromarray(upright)
    if orientation in UNDO:
        stored = stored.transpose(UNDO[orientation])
    block = exif(orientation).tobytes()
    data = heic(stored, exif=block) if kind == "HEIC" else encode(stored, kind, exif=block, **TURNABLE[kind])
    answer = decode(data)
    assert isinstance(answer, Decoded)
    assert answer.pixels.shape == upright.shape
    assert np.abs(answer.pixels.astype(int) - upright).max() <= (0 if kind in ("PNG", "WEBP", "TIFF") else 60)
    assert answer.header.warnings == (() if orientation == 1 else ("orientation_applied",))


def test_an_orientation_behind_the_pixels_of_a_png_is_undone_and_named() -> None:
    answer = decode(png_with(behind=chunk(b"eXIf", exif(6).tobytes()[6:])))
    assert isinstance(answer, Decoded)
    assert answer.header.warnings == ("orientation_applied",)
    assert np.array_equal(answer.pixels, np.rot90(gradient(), -1))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_exif_does_not_know_is_not_applied_and_not_claimed(orientation: int) -> None:
    answer = decode(encode(frames[0], "JPEG", exif=exif(orientation)))
    assert isinstance(answer, Decoded)
    assert answer.pixels.shape == (20, 30, 3)
    assert answer.header.warnings == ()


def test_a_picture_beyond_the_pixel_limit_is_refused_on_its_header() -> None:
    """50,000 x 50,000 pixels would be 7.5 GB; there are no such pixels behind this header to decode."""
    answer = decode(png_of_size(50_000, 50_000))
    assert isinstance(answer, Unreadable)
    assert answer.status == "too_large"
    assert answer.reason == "50000 x 50000 pixels are more than the 200 megapixels allowed"
    assert answer.header is not None
    assert (answer.header.width, answer.header.height) == (50_000, 50_000)


@pytest.mark.parametrize(("limit", "words"), [(10, "10 pixels"), (999, "999 pixels"), (1_500_000, "1.5 megapixels")])
def test_a_small_pixel_limit_is_named_as_it_was_given(limit: int, words: str) -> None:
    answer = decode(png_of_size(2000, 1000), limit)
    assert isinstance(answer, Unreadable)
    assert answer.reason == f"2000 x 1000 pixels are more than the {words} allowed"


def test_the_pixel_limit_itself_is_allowed() -> None:
    side = 20_000
    assert side * (MAX_PIXELS // side) == MAX_PIXELS
    answer = decode(png_of_size(side, MAX_PIXELS // side))
    assert isinstance(answer, Unreadable)  # one row of pixels where ten thousand are promised
    assert answer.status != "too_large"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"This is text.", "not_an_image"),
        (b"\xff\xd8\xff and then text, not a picture", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "truncated"),
        (encode(frames[0], "TGA"), "unsupported"),
    ],
)
def test_each_kind_of_bad_file_has_its_status(data: bytes, status: str) -> None:
    answer = decode(data)
    assert isinstance(answer, Unreadable)
    assert answer.status == status


@few
@given(SIDES, SIDES, st.sampled_from([30, 75, 95]), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]), st.booleans())
def test_a_jpeg_gives_the_pixels_of_opencv(height: int, width: int, quality: int, colours: str, gradual: bool) -> None:
    pixels = cv2.GaussianBlur(noise(height, width), (0, 0), 2)
    data = encode(pixels, "JPEG", quality=quality, subsampling=colours, progressive=gradual)
    assert np.array_equal(picture_of(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


@few
@given(st.integers(0, 1 << 30), st.sampled_from(["JPEG", "progressive JPEG"]))
def test_a_jpeg_cut_anywhere_and_closed_again_is_never_judged_in_silence(place: int, kind: str) -> None:
    whole = VALID[kind]
    start = whole.index(b"\xff\xda")
    cut = start + place % (len(whole) - start - 8)
    answer = decode(whole[:cut].removesuffix(b"\xff") + b"\xff\xd9")
    if isinstance(answer, Decoded):
        assert {"damaged_data", "scans_missing"} & set(answer.header.warnings)
    else:
        assert answer.status in ("damaged", "truncated")


def test_lost_bytes_in_a_jpeg_are_named_and_nothing_is_printed() -> None:
    whole = encode(noise(64, 64), "JPEG", quality=90)
    place = whole.index(b"\xff\xda") + 500
    lost = whole[:place] + whole[place + 100 :]
    answer = decode(lost)
    assert isinstance(answer, Decoded)
    assert answer.header.warnings == ("damaged_data",)
    assert stderr_of_decoding([lost]) == ""


def test_a_progressive_jpeg_without_its_last_scans_is_named() -> None:
    parts = split_jpeg(encode(noise(40, 40), "JPEG", quality=90, progressive=True))
    scans = [i for i, part in enumerate(parts) if part[1] == 0xDA]
    for i in scans[1:]:
        answer = decode(b"".join(parts[:i]) + b"\xff\xd9")
        assert isinstance(answer, Decoded)
        assert answer.header.warnings == ("scans_missing",)
    assert isinstance(whole := decode(b"".join(parts)), Decoded)
    assert whole.header.warnings == ()


@pytest.mark.parametrize("piece", [BAD_PROFILE, b"junk", b"\xff\0\xff\0", b"\xff\xf0\0\x04ab"])
def test_nothing_between_the_segments_keeps_a_jpeg_from_being_judged(piece: bytes) -> None:
    whole = encode(gradient(), "JPEG", quality=90)
    segments = sum(part[1] != 0xDA for part in split_jpeg(whole)) - 1
    for number in range(2, segments):  # nobody takes a file for a JPEG without a segment right behind its beginning
        answer = decode(jpeg_with(piece, number))
        assert isinstance(answer, Decoded), f"in front of segment {number}: {answer}"
        assert answer.header.warnings == ("damaged_metadata",)
        assert np.array_equal(answer.pixels, picture_of(whole))
    assert stderr_of_decoding([jpeg_with(piece, 2)]) == ""


@pytest.mark.parametrize("length", [0, 1])
def test_a_comment_that_is_shorter_than_its_own_length_hides_no_jpeg(length: int) -> None:
    answer = decode(jpeg_with(b"\xff\xfe\0" + bytes([length])))
    assert isinstance(answer, Decoded)
    assert np.array_equal(answer.pixels, picture_of(encode(gradient(), "JPEG", quality=90)))


def test_damage_behind_junk_is_still_named() -> None:
    whole = encode(noise(64, 64), "JPEG", quality=90)
    place = whole.index(b"\xff\xda") + 500
    answer = decode(whole[:20] + b"junk" + whole[20:place] + whole[place + 100 :])
    assert isinstance(answer, Decoded)
    assert answer.header.warnings == ("damaged_data",)


def test_rare_sampling_of_a_jpeg_is_no_damage() -> None:
    answer = decode(rarely_sampled_jpeg())
    assert isinstance(answer, Decoded)
    assert answer.header.warnings == ()
    assert np.array_equal(answer.pixels, np.full((16, 16, 3), 128))


def test_what_a_jpeg_decoder_never_wrote_is_not_judged() -> None:
    """It would be what other pictures left behind in the memory: libjpeg first warns here, and then gives up."""
    parts = split_jpeg(VALID["progressive JPEG"])
    second = [i for i, part in enumerate(parts) if part[1] == 0xDA][1]
    answer = decode(b"".join((*parts[:second], b"junk", NO_HUFFMAN_TABLE, *parts[second:])))
    assert isinstance(answer, Unreadable)
    assert (answer.status, answer.reason) == ("damaged", "the JPEG data is damaged")


def test_c_libraries_print_nothing_about_odd_files() -> None:
    bad_filter = png_rows().replace(b"\0", b"\7", 1)
    fax = encode(Image.fromarray(noise(64, 64)).convert("1"), "TIFF", compression="group4")
    lzw = VALID["TIFF with LZW"]
    assert (
        stderr_of_decoding(
            [
                png_with(chunk(b"hIST", b"\0\0"), chunk(b"sRGB", b"\0"), chunk(b"sRGB", b"\0")),
                png(png_header(), chunk(b"IDAT", zlib.compress(bad_filter))),
                png(png_header(), chunk(b"IDAT", zlib.compress(png_rows(gradient(50))))),
                fax[:30] + b"\xff" * 20 + fax[50:],
                lzw[:100] + bytes(500) + lzw[600:],
                jpeg_with(b"junk", 2),
            ]
        )
        == ""
    )


def test_what_stands_beside_a_pngs_pixels_changes_nothing_and_prints_nothing() -> None:
    beside = [
        chunk(b"gAMA", (20000).to_bytes(4, "big")),
        chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"no profile")),
        chunk(b"tEXt", b"a\0b")[:-1] + b"!",
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000))),
    ]
    data = png_with(*beside)
    assert np.array_equal(picture_of(data), gradient())
    assert stderr_of_decoding([data]) == ""


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF"])
def test_the_first_frame_is_the_one_that_is_judged(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 90} if kind == "AVIF" else {}
    first = picture("P").convert("RGB") if kind == "GIF" else picture()
    found = picture_of(encode(first, kind, **FRAMES, **options)).astype(int)
    assert np.abs(found - np.asarray(first)).max() <= (40 if kind == "AVIF" else 0)


def test_a_damaged_checksum_is_damage() -> None:
    data = bytearray(VALID["PNG"])
    data[data.index(b"IDAT") + 40] ^= 0xFF
    answer = decode(bytes(data))
    assert isinstance(answer, Unreadable)
    assert answer.status == "damaged"


def test_read_header_is_none_for_anything_else() -> None:
    assert read_header(b"nothing like an image") is None


@pytest.mark.parametrize("width", [32, 35, 39, 40, 41, 100, 250])
def test_aligned_patches_begin_on_the_blocks_of_a_jpeg_and_none_comes_twice(width: int) -> None:
    preprocessing = Preprocessing("patches", 32, 4, 8)
    places = view_places(32, width, preprocessing)
    assert {left % 8 for _, left, _, _ in places} == {0}
    assert len(set(places)) == len(places) == len(views(noise(32, width), preprocessing))
