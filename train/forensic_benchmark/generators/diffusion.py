"""Diffusion as pixel and latent generators share it: the cosine schedule, v-prediction, and DDIM steps."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from forensic_train.techniques.base import Stepper

SAMPLING_STEPS = 25
_LAST = 0.98
_DECAY = 0.995
_WARM_UP = 100


def noised(clean: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the noisy tensor and the v to predict, for noise levels N in [0, 1].

    Source: Nichol and Dhariwal 2021 (cosine schedule); Salimans and Ho 2022 (v-prediction).
    """
    signal, sigma = _scales(level)
    return signal * clean + sigma * noise, signal * noise - sigma * clean


def diffusion_updates(
    network: nn.Module,
    draw: Callable[[], tuple[Tensor, Tensor]],
    updates: int,
    lr: float,
    rng: torch.Generator,
) -> Iterator[dict[str, float]]:
    """Train `network` to predict v on batches from `draw` (clean, subjects); yields the loss of each of `updates`.

    The network ends with its averaged weights.
    """
    parameters = list(network.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, updates))
    stepper = Stepper(optimiser, schedule, 1.0, parameters)
    averaged = AveragedModel(network, avg_fn=averaged_weights, use_buffers=True)
    for _ in range(updates):
        clean, subjects = draw()
        level = torch.rand(len(clean), generator=rng)
        noisy, wanted = noised(clean, level, torch.randn(clean.shape, generator=rng))
        loss = nn.functional.mse_loss(network(noisy, level, subjects), wanted)
        stepper.step([loss])
        averaged.update_parameters(network)
        yield {"diffusion": loss.item()}
    network.load_state_dict(averaged.module.state_dict())


@torch.no_grad()
def ddim(network: nn.Module, subjects: Tensor, shape: tuple[int, ...], limit: float, rng: torch.Generator) -> Tensor:
    """Sample N x `shape` in SAMPLING_STEPS deterministic steps from noise; predictions are clipped to +-`limit`.

    Source: Song et al. 2021, "Denoising Diffusion Implicit Models".
    """
    noisy = torch.randn((len(subjects), *shape), generator=rng)
    levels = torch.linspace(_LAST, 0, SAMPLING_STEPS + 1)
    clean = noisy
    for now, following in pairwise(levels):
        level = now.expand(len(subjects))
        signal, sigma = _scales(level)
        v = network(noisy, level, subjects)
        clean = (signal * noisy - sigma * v).clamp(-limit, limit)
        noise = (noisy - signal * clean) / sigma
        signal, sigma = _scales(following.expand(len(subjects)))
        noisy = signal * clean + sigma * noise
    return clean


def averaged_weights(kept: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
    """Follow the weights slowly, but fast at first; for AveragedModel."""
    return kept.lerp(new.to(kept.dtype), 1 - min(_DECAY, (1 + float(updates)) / (10 + float(updates))))


def _scales(level: Tensor) -> tuple[Tensor, Tensor]:
    angle = (level * math.pi / 2)[:, None, None, None]
    return angle.cos(), angle.sin()


def _rate(step: int, updates: int) -> float:
    """Rise over the first updates, then fall to nothing along a cosine."""
    return min(1.0, (step + 1) / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / updates))
