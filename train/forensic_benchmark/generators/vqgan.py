"""The vector-quantised bottleneck of VQGAN."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_COMMITMENT = 0.25
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


def quantised(quantiser: VectorQuantiser, rng: torch.Generator) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a bottleneck that quantises, asks the encoder to stay near the codebook, and moves the codebook."""
    codebook = CodebookAverage(quantiser)

    def bottleneck(vectors: Tensor) -> tuple[Tensor, Tensor]:
        chosen, tokens = quantiser(vectors)
        commitment = nn.functional.mse_loss(vectors, chosen.detach())
        codebook.update(vectors.detach(), tokens, rng)
        return chosen, _COMMITMENT * commitment

    return bottleneck
