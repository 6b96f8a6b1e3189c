"""Discriminant: the generator head in closed form, by Fisher's linear discriminant; the encoder does not change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from forensic_train.loader import Batch
from forensic_train.network import Network
from forensic_train.processes import Processes
from forensic_train.techniques.base import Context, Settings, Technique, accuracy

_LARGEST_LOGIT = 3.0
"""Of a class at a class's mean."""


@dataclass(frozen=True)
class DiscriminantSettings(Settings):
    """An epoch is a draw of the augmentation, because seeing an image twice in the same form adds nothing."""

    epochs: int = 6
    batch_size: int = 64
    shrinkage: float = 0.01
    """Share of the mean variance that is added to each variance within a generator, 0 or more."""


class Discriminant(Technique):
    """Each generator is a Gaussian with its own mean and a common covariance; all generators are equally likely.

    Means and covariance alone decide, not the images near a boundary, so the head does not learn the peculiarities
    by which training sources can be told apart. Source: Fisher 1936; Hastie et al. 2009, section 4.3.
    """

    name = "discriminant"
    settings_type = DiscriminantSettings
    trains_encoder = False

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        super().__init__(network, settings, context)
        assert isinstance(settings, DiscriminantSettings)
        self._shrinkage = settings.shrinkage
        self.moments = [
            Moments(len(context.labels), network.encoder.width).to(context.device) for _ in network.encoder.states
        ]

    def modules(self) -> dict[str, nn.Module]:
        """Return the network and the moments; an export does not include the moments."""
        return {**super().modules(), "moments": nn.ModuleList(self.moments)}

    def start_epoch(self, epoch: int) -> None:
        """Keep the network in evaluation mode: nothing in the encoder changes."""
        del epoch
        self.network.eval()

    def end_epoch(self) -> None:
        """Solve for the head of every state, from the moments of all processes."""
        head = self.network.generator_head
        with torch.no_grad():
            for state, moments in enumerate(self.moments):
                moments.gather(self.context.processes)
                weight, bias = moments.solve(self._shrinkage)
                if not self.context.processes.is_first:
                    moments.clear()
                head.weight[state].copy_(weight)
                head.bias[state].copy_(bias)

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore state(); the first process alone has the moments so far."""
        super().load(state)
        if not self.context.processes.is_first:
            for moments in self.moments:
                moments.clear()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Add the batch to the moments of its states; the logged figures are those of the previous epoch's head."""
        with torch.no_grad():
            features = self.network.features(batch.inputs, batch.state)
            logits = self.network.generator_head(features, batch.state)
            loss = self.generator_loss(logits, batch.generator)
            for state, moments in enumerate(self.moments):
                here = batch.state == state
                if here.any():
                    moments.add(features[here], batch.generator[here])
        return {"loss": loss * batch.share, "accuracy": accuracy(logits, batch)}


class Moments(nn.Module):
    """Count and sum of every class, and the sum of outer products, in double precision."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(classes, width, dtype=torch.float64))
        self.register_buffer("products", torch.zeros(width, width, dtype=torch.float64))
        self.counts: Tensor
        self.sums: Tensor
        self.products: Tensor

    def add(self, features: Tensor, target: Tensor) -> None:
        """Add features B x F and their classes B."""
        values = features.double()
        self.counts += torch.bincount(target, minlength=len(self.counts))
        self.sums.index_add_(0, target, values)
        self.products += values.T @ values

    def gather(self, processes: Processes) -> None:
        """Add up the moments of all processes."""
        buffers = list(self.buffers())
        for buffer, total in zip(buffers, processes.add(buffers), strict=True):
            buffer.copy_(total)

    def clear(self) -> None:
        """Forget everything: the first process has it."""
        for buffer in self.buffers():
            buffer.zero_()

    def solve(self, shrinkage: float) -> tuple[Tensor, Tensor]:
        """Return weights K x F and biases K of the discriminant; zeros if there were no features."""
        seen = self.counts.clamp(min=1)
        means = self.sums / seen[:, None]
        within = (self.products - (means * self.counts[:, None]).T @ means) / self.counts.sum().clamp(min=1)
        ridge = shrinkage * within.diagonal().mean() + 1e-6
        weight = torch.linalg.solve(within + ridge * torch.eye(len(within), device=within.device), means.T).T
        bias = -0.5 * (weight * means).sum(dim=1)
        # A constant shared by all classes does not change a softmax, and the calibrated temperature undoes the scale;
        # removing both keeps the logits in the range of float32
        weight, bias = weight - weight.mean(dim=0), bias - bias.mean()
        scale = _LARGEST_LOGIT / (means @ weight.T + bias).abs().max().clamp(min=_LARGEST_LOGIT)
        return (weight * scale).float(), (bias * scale).float()
