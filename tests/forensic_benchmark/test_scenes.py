"""Scenes: decided by subject and seed alone, told apart by subject, and as noisy and as rough as photographs."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from forensic_benchmark.scenes import SIZE, SUBJECTS, render, render_many, scene_seed
from forensic_cli.errors import UsageError
from forensic_cli.images.header import Pixels


@pytest.fixture(scope="module")
def scenes() -> Pixels:
    return render_many([subject for subject in range(len(SUBJECTS)) for _ in range(60)], "test")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_and_seed_alone_decide_the_scene(subject: str) -> None:
    scene = render(subject, 2**63 - 1)
    assert (scene.dtype, scene.shape) == (np.uint8, (SIZE, SIZE, 3))
    assert np.array_equal(scene, render(subject, 2**63 - 1))
    assert not np.array_equal(scene, render(subject, 0))


def test_subjects_with_one_seed_differ() -> None:
    assert len({render(subject, 5).tobytes() for subject in SUBJECTS}) == len(SUBJECTS)


def test_scenes_of_another_size() -> None:
    assert render("car", 1, size=48).shape == (48, 48, 3)


def test_many_scenes_are_those_of_their_seeds() -> None:
    scenes = render_many([6, 0], "real/test")
    assert np.array_equal(scenes[0], render("car", scene_seed("real/test", 0)))
    assert np.array_equal(scenes[1], render("horse", scene_seed("real/test", 1)))
    assert render_many([], "real/test").shape == (0, SIZE, SIZE, 3)


def test_purposes_share_no_seed() -> None:
    purposes = ("stylegan2/0", "stylegan2/1", "real/test", "real", "")
    seeds = {scene_seed(purpose, index) for purpose in purposes for index in range(500)}
    assert len(seeds) == 500 * len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^unknown subject 'dog'; allowed: horse, face, .*, vehicle$"):
        render("dog", 0)


def test_no_scene_comes_twice(scenes: Pixels) -> None:
    assert len({scene.tobytes() for scene in scenes}) == len(scenes)


def test_scenes_use_the_range_of_grey_levels(scenes: Pixels) -> None:
    assert 70 < scenes.mean() < 170
    assert np.median(scenes.std(axis=(1, 2, 3))) > 30
    assert np.isin(scenes, (0, 255)).mean() < 0.05


def test_every_scene_is_noisy(scenes: Pixels) -> None:
    """Edges and textures are alike in red and green; what differs between neighbours in their difference is noise."""
    contrast = np.diff(scenes.astype(float), axis=3)[..., 0]
    residual = (contrast[:, 1:, 1:] - contrast[:, :-1, 1:] - contrast[:, 1:, :-1] + contrast[:, :-1, :-1]) / np.sqrt(8)
    level = 1.4826 * np.median(np.abs(residual), axis=(1, 2))
    assert level.min() > 0.6
    assert 1.2 < np.median(level) < 5
    assert level.max() < 9


def test_spectra_fall_as_those_of_photographs(scenes: Pixels) -> None:
    """Amplitude falls about as 1/f, somewhat faster for the edges: power with an exponent from -3 to -2."""
    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    grey = scenes.mean(axis=3)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(grey * window)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE))
    rings = [(frequency >= ring / SIZE) & (frequency < (ring + 1) / SIZE) for ring in range(2, 16)]
    points = [(np.log(frequency[ring].mean()), np.log(power[ring].mean())) for ring in rings]
    slope, _ = np.polyfit(*zip(*points, strict=True), 1)
    assert -3 < slope < -2


def test_subjects_can_be_told_apart(scenes: Pixels) -> None:
    labels = np.repeat(np.arange(len(SUBJECTS)), 60)
    learnt = np.arange(len(labels)) % 3 > 0
    inputs = scenes.reshape(len(scenes), -1) / 255
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
    pixels = inputs.reshape(len(inputs), SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(2, 4)).reshape(len(inputs), -1)
    assert classifier.fit(pixels[learnt], labels[learnt]).score(pixels[~learnt], labels[~learnt]) > 0.5
    colours = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
    assert classifier.fit(colours[learnt], labels[learnt]).score(colours[~learnt], labels[~learnt]) < 0.4
