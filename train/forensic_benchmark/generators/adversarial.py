"""Adversarial training that the three GANs share: a residual discriminator, lazy R1 and averaged weights."""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.base import MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.modulated import ScaledConvolution, ScaledLinear, activated

_FINAL_SIDE = 4


@dataclass(frozen=True)
class AdversarialSettings:
    """How a generator and its discriminator are trained."""

    batch: int = 16
    """Scenes, and as many generated images, per update."""
    generator_rate: float = 2e-3
    """Adam's step size for the generator."""
    discriminator_rate: float = 2.5e-3
    """Adam's step size for the discriminator."""
    penalty: float = 0.05
    """R1's gamma: half of it times the squared gradient of the logits at scenes."""
    penalty_every: int = 16
    """Updates between two penalties, each weighted by this number (lazy regularisation)."""
    memory: float = 0.997
    """Share of the averaged weights that an update keeps; less in the first updates."""
    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Channels of the discriminator at 32, 16, 8 and 4 pixels."""


class AdversarialGenerator(MiniatureGenerator):
    """A generator that is trained against a discriminator."""

    settings: AdversarialSettings = AdversarialSettings()

    def generate(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE of the wanted subjects N, with gradients."""
        raise NotImplementedError

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train for `updates` batches; the averaged weights are loaded after the last."""
        yield from adversarial_updates(self, scenes, rng, self.settings)

    @torch.no_grad()
    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return float32 images N x 3 x SIZE x SIZE, about [-1, 1], of the wanted subjects N (int64)."""
        self.eval()
        return self.generate(subjects, rng)


class Discriminator(nn.Module):
    """Images N x 3 x SIZE x SIZE and their subjects N -> logits N, high for scenes.

    Residual blocks (Karras et al. 2020), the batch's standard deviation as one more feature (Karras et al. 2018), and
    the subject by projection (Miyato and Koyama 2018).
    """

    def __init__(self, subjects: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ScaledConvolution(3, widths[0], 3)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(_Halving(before, after) for before, after in pairs))
        self.features = ScaledLinear(widths[-1] * _FINAL_SIDE**2 + 1, widths[-1])
        self.head = ScaledLinear(widths[-1], 1 + subjects)

    def forward(self, images: Tensor, subjects: Tensor) -> Tensor:
        """Return one logit for each image: how real it looks, and how much like its subject."""
        x = self.blocks(activated(self.stem(images.contiguous(memory_format=torch.channels_last))))
        features = torch.cat([x.flatten(1), _deviation(x)[:, None]], dim=1)
        logits = self.head(activated(self.features(features)))
        chosen: Tensor = logits[:, 0] + logits[:, 1:].gather(1, subjects[:, None])[:, 0]
        return chosen


class _Halving(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = ScaledConvolution(before, after, 4, stride=2)
        self.shortcut = ScaledConvolution(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.shortcut(nn.functional.avg_pool2d(x, 2))
        joined: Tensor = (activated(self.main(x)) + pooled) * math.sqrt(0.5)
        return joined


def _deviation(x: Tensor, group: int = 4) -> Tensor:
    members = x.reshape(min(group, len(x)), -1, *x.shape[1:])
    deviation: Tensor = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(len(members))


def adversarial_updates(
    generator: AdversarialGenerator, scenes: TrainingScenes, rng: torch.Generator, settings: AdversarialSettings
) -> Iterator[Mapping[str, float]]:
    """Train `generator` for its `updates`; yields the losses of each and loads the averaged weights after the last.

    Both sides step on the non-saturating logistic loss (Goodfellow et al. 2014) from one pass over one set of images,
    which spares a forward pass of each; R1 (Mescheder et al. 2018) makes that converge.
    """
    subjects = int(scenes.subjects.max()) + 1
    discriminator = Discriminator(subjects, settings.widths)
    averaged = copy.deepcopy(generator)
    generator_steps = _optimiser(generator, settings.generator_rate)
    discriminator_steps = _optimiser(discriminator, settings.discriminator_rate)
    generator.train()
    for update in range(generator.updates):
        real, shown = scenes.batch(settings.batch, rng)
        if update % settings.penalty_every == 0:
            weight = settings.penalty / 2 * settings.penalty_every
            _step(discriminator_steps, discriminator, weight * squared_slope(discriminator, real, shown))
        fakes = generator.generate(shown, rng)
        on_fakes, on_real = discriminator(fakes, shown), discriminator(real, shown)
        fooling = nn.functional.softplus(-on_fakes).mean()
        telling = nn.functional.softplus(on_fakes).mean() + nn.functional.softplus(-on_real).mean()
        _gradients(fooling, generator, keep=True)
        _gradients(telling, discriminator)
        generator_steps.step()
        discriminator_steps.step()
        _average(averaged, generator, min(settings.memory, update / (update + 10)))
        yield {"generator": fooling.item(), "discriminator": telling.item()}
    generator.load_state_dict(averaged.state_dict())


def squared_slope(discriminator: Discriminator, images: Tensor, subjects: Tensor) -> Tensor:
    """Return the mean squared norm of the logits' gradients at images N x 3 x SIZE x SIZE (R1 without its factor)."""
    at = images.detach().requires_grad_()
    logits = discriminator(at, subjects).sum()
    (slopes,) = torch.autograd.grad(logits, at, create_graph=True)
    return slopes.square().sum(dim=(1, 2, 3)).mean()


def _optimiser(network: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99), eps=1e-8, foreach=True)


def _gradients(loss: Tensor, network: nn.Module, keep: bool = False) -> None:
    network.zero_grad()
    loss.backward(retain_graph=keep, inputs=list(network.parameters()))  # type: ignore[no-untyped-call]


def _step(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    _gradients(loss, network)
    optimiser.step()


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, memory: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - memory)
