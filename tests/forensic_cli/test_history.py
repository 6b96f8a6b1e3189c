"""Re-encodings: any picture in, a picture out, always the same one; and the traces that an earlier step left."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import Run
from forensic_cli.images.header import Pixels
from forensic_cli.images.history import (
    EARLIER_JPEG,
    REENCODINGS,
    RESIZED,
    STABILITY,
    blur,
    crop,
    in_words,
    jpeg,
    resize,
    traces_of,
    variants,
    webp,
)

NAMES = (
    *("jpeg95", "jpeg90", "jpeg75", "jpeg50", "webp90", "webp75"),
    *("resize0.5", "resize0.75", "resize1.5", "blur", "crop", "screenshot"),
)
FACTORS = {"resize0.5": 0.5, "resize0.75": 0.75, "resize1.5": 1.5, "screenshot": 0.93}


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 64, width: int = 96) -> Pixels:
    """A picture of slow colour gradients, which compression hardly changes."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, 255 - x * 255 / width], axis=2).astype(np.uint8)


def distance(one: Pixels, two: Pixels) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(one.astype(float) - two).mean())


def test_the_names_are_those_promised() -> None:
    assert tuple(REENCODINGS) == NAMES
    assert set(STABILITY) < set(NAMES)
    assert len(set(STABILITY)) == len(STABILITY) >= 3


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_picture_becomes_a_picture(name: str, height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    before = pixels.copy()
    changed = REENCODINGS[name](pixels)
    assert (changed.dtype, changed.ndim, changed.shape[2]) == (np.uint8, 3, 3)
    assert changed.size > 0
    assert np.array_equal(changed, REENCODINGS[name](pixels))
    assert np.array_equal(pixels, before)
    if name != "crop":
        factor = FACTORS.get(name, 1.0)
        assert changed.shape[:2] == tuple(max(1, round(side * factor)) for side in (height, width))


@pytest.mark.parametrize("name", NAMES)
def test_colours_keep_their_places(name: str) -> None:
    """Red stays red: no re-encoding may swap channels."""
    red = np.zeros((40, 48, 3), np.uint8)
    red[..., 0] = 200
    assert REENCODINGS[name](red).mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("crop",)])
def test_each_one_but_the_crop_changes_noise(name: str) -> None:
    pixels = noise(64, 64)
    changed = REENCODINGS[name](pixels)
    assert changed.shape != pixels.shape or distance(changed, pixels) > 1


def test_lower_quality_is_farther_from_the_original() -> None:
    pixels = noise(64, 64)
    far = [distance(REENCODINGS[name](pixels), pixels) for name in ("jpeg95", "jpeg90", "jpeg75", "jpeg50")]
    assert far == sorted(far)
    assert far[0] < far[-1]
    assert distance(webp(pixels, 90), pixels) < distance(webp(pixels, 75), pixels)


def test_jpeg_is_the_jpeg_that_others_write() -> None:
    """The reference is Pillow's encoder: both are libjpeg, with 4:2:0 by default."""
    pixels = noise(48, 64)
    for quality in (50, 75, 95):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
        assert distance(jpeg(pixels, quality), np.asarray(Image.open(buffer))) < 1


def test_full_colour_keeps_more_of_the_colours() -> None:
    pixels = noise(64, 64)
    assert distance(jpeg(pixels, 95, full_colour=True), pixels) < distance(jpeg(pixels, 95), pixels) / 2


def test_a_resize_is_antialiased() -> None:
    """Lines one pixel wide become their mean, not one of the two colours."""
    lines = np.zeros((40, 40, 3), np.uint8)
    lines[:, ::2] = 255
    assert distance(resize(lines, 0.5)[:, 4:-4], np.full((20, 12, 3), 127.5)) < 12


def test_a_blur_keeps_the_mean_and_takes_the_contrast() -> None:
    pixels = noise(64, 64)
    blurred = blur(pixels, 1.0)
    assert blurred.mean() == pytest.approx(pixels.mean(), abs=1)
    assert blurred.std() < pixels.std() / 2


@pytest.mark.parametrize(("height", "width"), [(512, 512), (100, 240), (161, 319), (40, 36)])
def test_a_crop_leaves_the_grid_of_blocks(height: int, width: int) -> None:
    y, x = np.mgrid[0:height, 0:width]
    where = np.stack([y % 256, x % 256, y // 256 * 16 + x // 256], axis=2).astype(np.uint8)
    cut = crop(where)
    low, high, rest = (int(channel) for channel in cut[0, 0])
    top, left = low + rest // 16 * 256, high + rest % 16 * 256
    assert (top % 8, left % 8) == (3, 5)
    assert np.array_equal(cut, where[top : top + cut.shape[0], left : left + cut.shape[1]])
    kept = cut.shape[0] / height, cut.shape[1] / width
    assert all(0.8 < share < 0.95 for share in kept)


def test_variants_come_by_name_in_the_order_asked() -> None:
    pixels = smooth()
    found = list(variants(pixels, STABILITY))
    assert tuple(name for name, _, _ in found) == STABILITY
    assert [state for _, _, state in found] == ["jpeg-80", "jpeg-60", "webp", "lossless", "lossless"]
    for name, changed, _ in found:
        assert np.array_equal(changed, REENCODINGS[name](pixels))


def test_a_format_that_cannot_hold_the_image_is_left_out() -> None:
    """WebP holds 16,383 pixels a side, JPEG 65,500."""
    wide = np.zeros((2, 16_384, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^\.webp cannot hold 16384 x 2 pixels$"):
        webp(wide, 90)
    assert [name for name, _, _ in variants(wide, ("webp90", "jpeg90", "crop"))] == ["jpeg90", "crop"]
    wider = np.zeros((1, 65_501, 3), np.uint8)
    assert [name for name, _, _ in variants(wider, NAMES)] == [*NAMES[6:]]


# Traces


def textured(seed: int, side: int = 640) -> Pixels:
    """Return a smooth picture with fine texture, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 14, (side, side, 3)), (0, 0), 0.8)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_as_it_was_made_has_no_traces(seed: int) -> None:
    assert traces_of(textured(seed), lossless=True) == ()


@pytest.mark.parametrize("offset", [(0, 0), (3, 5), (7, 1)])
def test_a_jpeg_that_was_cut_and_saved_without_loss_is_found_wherever_its_blocks_begin(offset: tuple[int, int]) -> None:
    cut = jpeg(textured(0), 70)[offset[0] :, offset[1] :]
    assert EARLIER_JPEG in traces_of(cut, lossless=True)
    # of a file that is a JPEG anyway this would say nothing
    assert EARLIER_JPEG not in traces_of(cut, lossless=False)


@pytest.mark.parametrize("factor", [0.9, 1.3])
def test_a_resized_picture_is_found(factor: float) -> None:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(textured(1), None, fx=factor, fy=factor, interpolation=method)
    assert traces_of(np.asarray(resized, np.uint8), lossless=True) == (RESIZED,)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 255), st.booleans())
def test_blank_pictures_of_any_size_have_no_traces(height: int, width: int, level: int, lossless: bool) -> None:
    assert traces_of(np.full((height, width, 3), level, np.uint8), lossless) == ()


def test_in_words() -> None:
    assert in_words("PNG, lossless", ()) == "PNG, lossless"
    assert in_words("JPEG, quality 78", (RESIZED,)) == "JPEG, quality 78, was probably resized"
    both = in_words("PNG, lossless", (EARLIER_JPEG, RESIZED))
    assert both == "PNG, lossless, was probably a JPEG before and resized"


def test_the_state_of_a_row_names_traces(run: Run, toy_exports: Path, tmp_path: Path) -> None:
    Image.fromarray(jpeg(textured(0), 70)).save(tmp_path / "was.png")
    done = run("scan", tmp_path, "--exports", toy_exports, "--format", "jsonl", "--quiet")
    row = json.loads(done.stdout.splitlines()[1])
    assert row["state"] == "PNG, lossless, was probably a JPEG before"
