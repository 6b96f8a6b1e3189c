"""What the diffusion generators share: the schedule, DDIM steps, the U-Net and the scale of latents."""

import pytest
import torch
from torch import Tensor, nn

from forensic_benchmark.generators import guided_diffusion, latent_diffusion
from forensic_benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes, to_pixels
from forensic_benchmark.generators.diffusion import averaged_weights, ddim, diffusion_updates, noised
from forensic_benchmark.generators.guided_diffusion import GuidedDiffusion
from forensic_benchmark.generators.latent_diffusion import LatentDiffusion
from forensic_benchmark.generators.latent_space import LATENT_SIZE, LatentSpace
from forensic_benchmark.generators.unet import UNet, resample


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scenes() -> TrainingScenes:
    images = torch.randint(256, (32, 3, SIZE, SIZE), generator=seeded(3), dtype=torch.uint8)
    return TrainingScenes(images, torch.arange(32) % 8)


class Oracle(nn.Module):
    """Knows the one clean image that there is."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, noisy: Tensor, level: Tensor, subjects: Tensor) -> Tensor:
        angle = (level * torch.pi / 2)[:, None, None, None]
        noise = (noisy - angle.cos() * self.clean) / angle.sin()
        return angle.cos() * noise - angle.sin() * self.clean


def test_ddim_finds_the_image_that_the_network_knows() -> None:
    clean = torch.rand(3, 8, 8, generator=seeded(0)) * 2 - 1
    found = ddim(Oracle(clean), torch.zeros(2, dtype=torch.int64), (3, 8, 8), 1.0, seeded(1))
    assert torch.allclose(found, clean.expand_as(found), atol=1e-4)


def test_noise_grows_from_nothing_to_everything() -> None:
    clean, noise = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 5.0)
    noisy, wanted = noised(clean, torch.tensor([0.0, 1.0]), noise)
    assert torch.allclose(noisy[0], clean[0])
    assert torch.allclose(noisy[1], noise[1], atol=1e-5)
    assert torch.allclose(wanted[0], noise[0])
    assert torch.allclose(wanted[1], -clean[1], atol=1e-5)


def test_averaged_weights_follow_fast_at_first_and_slowly_later() -> None:
    kept, new = torch.zeros(1), torch.ones(1)
    assert averaged_weights(kept, new, 0).item() == pytest.approx(0.9)
    assert averaged_weights(kept, new, 100_000).item() == pytest.approx(0.005)


def test_training_ends_with_averaged_weights_that_differ_from_the_first(scenes: TrainingScenes) -> None:
    torch.manual_seed(0)
    network = UNet(3, (8, 16), 8)
    before = network.start.weight.clone()
    rng = seeded(1)
    losses = list(diffusion_updates(network, lambda: scenes.batch(4, rng), 5, 1e-3, rng))
    assert len(losses) == 5
    assert not torch.equal(before, network.start.weight)


def test_the_unet_keeps_the_size_and_looks_at_level_and_subject() -> None:
    torch.manual_seed(0)
    network = UNet(3, (8, 16, 24), 8)
    for module in network.modules():  # blocks begin as if they were not there
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    x, level, subject = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.2]), torch.tensor([1, 1])
    first = network(x, level, subject)
    assert first.shape == x.shape
    assert not torch.allclose(first, network(x, level + 0.5, subject))
    assert not torch.allclose(first, network(x, level, subject + 1))


def test_resampling_averages_and_repeats() -> None:
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert resample(x, "down").item() == 4
    assert resample(x, "up")[0, 0, 0].tolist() == [1, 1, 3, 3]
    assert resample(x, "") is x


def test_latents_are_seen_at_unit_variance_and_handed_on_at_their_own_scale(scenes: TrainingScenes) -> None:
    seen: list[Tensor] = []

    class Watcher(Oracle):
        def forward(self, noisy: Tensor, level: Tensor, subjects: Tensor) -> Tensor:
            seen.append(noisy)
            return super().forward(noisy, level, subjects) + 0 * self.weight

        def __init__(self) -> None:
            super().__init__(torch.zeros(2, 1, 1))
            self.weight = nn.Parameter(torch.zeros(()))

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        mean = nn.functional.adaptive_avg_pool2d(images[:, :2], LATENT_SIZE) * 40 + 7
        return mean, torch.full_like(mean, -6.0)

    space = LatentSpace(Watcher(), 2)
    list(space.fit(encode, scenes, 8, seeded(0)))
    assert torch.cat(seen).std().item() == pytest.approx(1, abs=0.1)
    drawn = space.draw(torch.zeros(2, dtype=torch.int64), seeded(1))
    assert drawn.mean((0, 2, 3)).tolist() == pytest.approx(space.centre.flatten().tolist(), abs=1e-3)
    assert space.centre.mean().item() == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize("kind", [GuidedDiffusion, LatentDiffusion], ids=lambda kind: kind.family)
def test_fit_yields_its_updates(
    kind: type[MiniatureGenerator], scenes: TrainingScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_diffusion, "_AUTOENCODER_UPDATES", 2)
    monkeypatch.setattr(latent_diffusion, "_DIFFUSION_UPDATES", 2)
    monkeypatch.setattr(guided_diffusion, "_BATCH", 2)
    monkeypatch.setattr(kind, "updates", 4)
    torch.manual_seed(0)
    generator = kind()
    assert len(list(generator.fit(scenes, seeded(1)))) == 4
    images = to_pixels(generator.sample(torch.tensor([0, 7]), seeded(2)))
    assert (images.shape, images.dtype) == ((2, SIZE, SIZE, 3), torch.uint8)
