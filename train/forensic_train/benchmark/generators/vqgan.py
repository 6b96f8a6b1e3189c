"""How VQGAN trains its autoencoder: a vector-quantised bottleneck and an adversarial loss on patches.

Source: Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis", without its perceptual loss,
which needs a pretrained network.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from forensic_train.benchmark.generators.autoencoder import PatchDiscriminator
from forensic_train.benchmark.generators.base import TrainingScenes

_BATCH = 16
_LR = 2e-3
_JUDGE_LR = 1e-3
_COMMITMENT = 0.25
_SHARPENED_FROM = 0.5
"""Share of the updates after which the adversarial loss joins."""
_ADVERSARIAL = 0.05
_CODEBOOK_DECAY = 0.98
_DEAD = 0.05
"""An entry that fewer vectors a batch use, on average, starts again at a vector of the batch."""


class VectorQuantiser(nn.Module):
    """Replaces vectors by the nearest entry of a codebook. Source: van den Oord et al. 2017 (VQ-VAE)."""

    def __init__(self, entries: int, code: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(entries, code))
        self.entries: Tensor

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return tokens N x h x w of vectors N x code x h x w."""
        flat = vectors.movedim(1, -1)
        return (self.entries.square().sum(1) - 2 * flat @ self.entries.T).argmin(-1)

    def look_up(self, tokens: Tensor) -> Tensor:
        """Return vectors N x code x h x w of tokens N x h x w."""
        return self.entries[tokens].movedim(-1, 1)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantised vectors, whose gradient passes straight through to `vectors`, and their tokens."""
        tokens = self.nearest(vectors.detach())
        return vectors + (self.look_up(tokens) - vectors).detach(), tokens


class CodebookAverage:
    """Moves the entries of a codebook to the running mean of the vectors that use them, and revives unused ones.

    Source: van den Oord et al. 2017, appendix A; Dhariwal et al. 2020 (Jukebox: restarts).
    """

    def __init__(self, quantiser: VectorQuantiser) -> None:
        self.quantiser = quantiser
        self.counts = torch.zeros(len(quantiser.entries))
        self.sums = torch.zeros_like(quantiser.entries)

    @torch.no_grad()
    def update(self, vectors: Tensor, tokens: Tensor, rng: torch.Generator) -> None:
        """Take in the vectors N x code x h x w of one batch and their tokens N x h x w."""
        flat = vectors.movedim(1, -1).flatten(0, -2)
        used = nn.functional.one_hot(tokens.flatten(), len(self.counts)).to(flat.dtype)
        self.counts.lerp_(used.sum(0), 1 - _CODEBOOK_DECAY)
        self.sums.lerp_(used.T @ flat, 1 - _CODEBOOK_DECAY)
        dead = self.counts < _DEAD
        anew = flat[torch.randint(len(flat), (int(dead.sum()),), generator=rng)]
        self.counts[dead] = 1.0
        self.sums[dead] = anew
        self.quantiser.entries.copy_(self.sums / self.counts[:, None])


def vqgan_updates(
    encoder: nn.Module,
    quantiser: VectorQuantiser,
    decoder: nn.Module,
    scenes: TrainingScenes,
    updates: int,
    rng: torch.Generator,
) -> Iterator[dict[str, float]]:
    """Train an autoencoder by absolute error and commitment, later against a discriminator too; yields the losses."""
    judge = PatchDiscriminator()
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=_LR, betas=(0.9, 0.98))
    rival = torch.optim.Adam(judge.parameters(), lr=_JUDGE_LR, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates, eta_min=_LR / 20)
    codebook = CodebookAverage(quantiser)
    for update in range(updates):
        images, _ = scenes.batch(_BATCH, rng)
        vectors = encoder(images)
        quantised, tokens = quantiser(vectors)
        rebuilt = decoder(quantised)
        error = nn.functional.l1_loss(rebuilt, images)
        commitment = nn.functional.mse_loss(vectors, quantised.detach())
        loss = error + _COMMITMENT * commitment
        losses = {"rebuilt": error.item(), "commitment": commitment.item()}
        sharpened = update >= _SHARPENED_FROM * updates
        if sharpened:
            loss = loss - _ADVERSARIAL * judge(rebuilt).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        codebook.update(vectors.detach(), tokens, rng)
        if sharpened:
            losses["discriminator"] = _judge_update(judge, rival, images, rebuilt.detach())
        yield losses


def _judge_update(judge: nn.Module, rival: torch.optim.Optimizer, images: Tensor, rebuilt: Tensor) -> float:
    """Take one step of the hinge loss and return it."""
    loss = nn.functional.relu(1 - judge(images)).mean() + nn.functional.relu(1 + judge(rebuilt)).mean()
    rival.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    rival.step()
    return float(loss.item())
