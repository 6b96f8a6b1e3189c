"""Traces of what happened to a picture before: an earlier JPEG, a resizing."""

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
from forensic_cli.images.history import EARLIER_JPEG, RESIZED, in_words, jpeg, traces_of


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


def test_a_row_says_it(run: Run, toy_exports: Path, tmp_path: Path) -> None:
    Image.fromarray(jpeg(textured(0), 70)).save(tmp_path / "was.png")
    done = run("scan", tmp_path, "--exports", toy_exports, "--format", "jsonl", "--quiet")
    row = json.loads(done.stdout.splitlines()[1])
    assert row["state"] == "PNG, lossless, was probably a JPEG before"
