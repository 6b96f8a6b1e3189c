"""Tests of the three miniature GANs: what sampling promises, what training changes, what their filters do."""

import math

import pytest
import torch
from torch import Tensor

from forensic_benchmark.generators.adversarial import AdversarialGenerator, Discriminator, squared_slope
from forensic_benchmark.generators.base import SIZE, TrainingScenes, to_pixels
from forensic_benchmark.generators.modulated import ModulatedConvolution, demodulation
from forensic_benchmark.generators.stylegan2 import StyleGan2, Upsampling
from forensic_benchmark.generators.stylegan3 import FilteredNonlinearity, StyleGan3, bands
from forensic_benchmark.generators.transposed_gan import TransposedGan

FAMILIES = [StyleGan2, StyleGan3, TransposedGan]
SUBJECTS = torch.arange(8)


def built(family: type[AdversarialGenerator]) -> AdversarialGenerator:
    torch.manual_seed(0)
    return family()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_scenes(count: int = 24) -> TrainingScenes:
    images = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=seeded(9), dtype=torch.uint8)
    return TrainingScenes(images, torch.arange(count) % 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_finite_images_that_the_seed_decides(family: type[AdversarialGenerator]) -> None:
    generator = built(family)
    images = generator.sample(SUBJECTS, seeded(1))
    assert images.shape == (8, 3, SIZE, SIZE)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert not images.requires_grad
    assert to_pixels(images).shape == (8, SIZE, SIZE, 3)
    assert torch.equal(images, generator.sample(SUBJECTS, seeded(1)))
    assert not torch.equal(images, generator.sample(SUBJECTS, seeded(2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_subject_changes_the_image(family: type[AdversarialGenerator]) -> None:
    generator = built(family)
    first, second = (generator.sample(torch.full((4,), subject), seeded(1)) for subject in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_yields_every_update_and_changes_every_parameter(
    family: type[AdversarialGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "updates", 3)
    generator = built(family)
    before = {name: value.clone() for name, value in generator.named_parameters()}
    losses = list(generator.fit(noise_scenes(), seeded(3)))
    assert len(losses) == 3
    assert all(math.isfinite(value) for loss in losses for value in loss.values())
    assert [name for name, value in generator.named_parameters() if torch.equal(value, before[name])] == []
    assert generator.sample(SUBJECTS, seeded(1)).isfinite().all()


def test_training_repeats_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransposedGan, "updates", 2)
    images = []
    for _ in range(2):
        generator = built(TransposedGan)
        list(generator.fit(noise_scenes(), seeded(3)))
        images.append(generator.sample(SUBJECTS, seeded(1)))
    assert torch.equal(*images)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_alone_restore_the_samples(family: type[AdversarialGenerator]) -> None:
    generator = built(family)
    torch.manual_seed(7)
    other = family()
    other.load_state_dict(generator.state_dict())
    assert torch.equal(generator.sample(SUBJECTS, seeded(1)), other.sample(SUBJECTS, seeded(1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_size_is_that_of_a_miniature(family: type[AdversarialGenerator]) -> None:
    assert 100_000 <= sum(parameter.numel() for parameter in family().parameters()) <= 450_000


def test_demodulated_weights_have_unit_norm() -> None:
    weight, styles = torch.randn(5, 7, 3, 3), torch.randn(4, 7)
    weights = weight * styles[:, None, :, None, None] * demodulation(weight, styles)[:, :, None, None, None]
    torch.testing.assert_close(weights.square().sum(dim=(2, 3, 4)), torch.ones(4, 5))


def test_modulated_convolution_equals_convolving_with_weights_of_each_image() -> None:
    layer = ModulatedConvolution(7, 5, 3, width=6)
    x, w = torch.randn(4, 7, 9, 9), torch.randn(4, 6)
    styles = layer.styles(w)
    weights = layer.weight * styles[:, None, :, None, None]
    weights = weights * demodulation(layer.weight, styles)[:, :, None, None, None]
    alone = [torch.nn.functional.conv2d(x[i : i + 1], weights[i], padding=1) for i in range(4)]
    torch.testing.assert_close(layer(x, w), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["fir", "nearest"])
def test_upsampling_keeps_a_constant(kind: str) -> None:
    raised = Upsampling(kind)(torch.full((2, 3, 6, 6), 0.7))
    assert raised.shape == (2, 3, 12, 12)
    torch.testing.assert_close(raised[:, :, 1:-1, 1:-1], torch.full((2, 3, 10, 10), 0.7))


def test_nearest_upsampling_repeats_pixels() -> None:
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(Upsampling("nearest")(x), torch.nn.functional.interpolate(x, scale_factor=2))


@pytest.mark.parametrize("kind", ["fir", "nearest"])
def test_transposed_convolution_and_filter_equal_upsampling_and_convolution(kind: str) -> None:
    torch.manual_seed(0)
    upsampling, layer = Upsampling(kind), ModulatedConvolution(4, 3, 3, width=6, stride=2)
    x, w = torch.randn(2, 4, 8, 8), torch.randn(2, 6)
    found = upsampling.smoothed(layer(x, w))
    styles = layer.styles(w)
    scaled = upsampling(x * styles[:, :, None, None])
    wanted = torch.nn.functional.conv2d(scaled, layer.weight.flip(2, 3), padding=1)
    wanted = wanted * demodulation(layer.weight, styles)[:, :, None, None]
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], wanted[inside], rtol=1e-4, atol=1e-5)


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown up-sampling 'cubic': choose one of fir, nearest"):
        StyleGan2(upsampling="cubic")


def test_upsampling_is_all_that_the_causal_check_swaps() -> None:
    torch.manual_seed(0)
    published = StyleGan2()
    torch.manual_seed(0)
    swapped = StyleGan2(upsampling="nearest")
    weights = swapped.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in published.state_dict().items())
    assert not torch.equal(published.sample(SUBJECTS, seeded(1)), swapped.sample(SUBJECTS, seeded(1)))


def test_bands_grow_to_all_that_pixels_can_hold() -> None:
    allowed = bands(5)
    assert [band.rate for band in allowed] == [8, 8, 16, 16, 32, 32]
    assert allowed[-1].cutoff == pytest.approx(SIZE / 2)
    assert all(band.cutoff <= band.rate / 2 for band in allowed)


def test_filtered_nonlinearity_passes_slow_waves_and_stops_what_the_next_band_cannot_hold() -> None:
    allowed = bands(5)
    layer = FilteredNonlinearity(allowed[4], allowed[3], margin=0)
    slow, fast = _wave(2.0, 32), _wave(14.0, 32)
    # A large offset keeps the leaky ReLU in its linear part
    passed, stopped = ((layer(wave + 10) - 10)[..., 4:-4, 4:-4] for wave in (slow, fast))
    assert passed.std() == pytest.approx(slow.std().item(), rel=0.1)
    assert stopped.std() < 0.1 * fast.std()


def _wave(cycles: float, samples: int) -> Tensor:
    line = (torch.arange(samples) + 0.5) / samples
    return torch.sin(2 * math.pi * cycles * line).expand(1, 1, samples, samples)


def test_the_discriminator_sees_images_and_subjects() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(8, (8, 8, 8, 8))
    images = torch.randn(8, 3, SIZE, SIZE)
    logits = discriminator(images, SUBJECTS)
    assert logits.shape == (8,)
    assert not torch.allclose(logits, discriminator(images, SUBJECTS.flip(0)))
    assert squared_slope(discriminator, images, SUBJECTS).item() > 0
