"""Adversarial debiasing: the encoder unlearns the subject (PAPER, `adversarial` and "the stable variant")."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from forensic_train.audit import bias_of, subject_entropies
from forensic_train.loader import Batch
from forensic_train.network import Network
from forensic_train.techniques.base import Context, Settings, Stepper, Technique, accuracy


@dataclass(frozen=True)
class AdversarialSettings(Settings):
    """The three updates of PAPER; `stable` turns on the remedies, and the other settings adjust them."""

    stable: bool = False
    """Condition the subject head on the generator, clamp its loss at H(S|g), slow and clip the third update."""
    adversary_weight: float = 0.1
    """Stable: rate of the third update as a share of lr (Adam ignores a factor on the loss)."""
    adversary_start: int = 2
    """Stable: epochs before the third update begins."""
    adversary_ramp: int = 3
    """Stable: epochs over which its rate rises from 0."""
    adversary_clip: float = 1.0
    """Stable: largest gradient norm of the third update."""


class Adversarial(Technique):
    """One encoder, a generator head and a subject head; three updates per batch, each with its own forward pass.

    1. The subject head alone minimises the subject loss. 2. Encoder and generator head minimise the generator
    loss. 3. The encoder alone maximises the subject loss. In PAPER, all three forward passes update the BatchNorm
    statistics; in the stable variant, only the second one does.
    """

    name = "adversarial"
    settings_type = AdversarialSettings
    needs_subjects = True

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        super().__init__(network, settings, context)
        assert isinstance(settings, AdversarialSettings)
        self._own = settings
        extra = len(context.labels) if settings.stable else 0
        self.subject_head = nn.Linear(network.encoder.width + extra, len(context.subjects)).to(context.device)
        entropies = subject_entropies(context.counts)
        self._entropy = torch.tensor([entropies[label] for label in context.labels], device=context.device)
        self._bias = bias_of(context.counts)
        self._epoch = 0
        encoder = list(network.encoder.parameters())
        self.steppers = {
            "subject": self.adam([self.subject_head]),
            "generator": self.adam([network.encoder, network.generator_head]),
            "adversary": Stepper(
                torch.optim.Adam(encoder, lr=settings.lr),
                schedule=None,
                clip_norm=settings.adversary_clip if settings.stable else settings.clip_norm,
                parameters=encoder,
                scaler=self.precise.scaler(),
                processes=context.processes,
            ),
        }

    def modules(self) -> dict[str, nn.Module]:
        """Return the network and the subject head; an export does not include the subject head."""
        return {**super().modules(), "subject_head": self.subject_head}

    def constants(self) -> dict[str, float]:
        """Return the bounds to compare the subject losses with, in nats."""
        return {
            "h_s_given_g": self._bias.conditional_entropy,
            "ln_subjects": math.log(len(self.context.subjects)),
        }

    def start_epoch(self, epoch: int) -> None:
        """Set training mode and remember the epoch for the ramp."""
        super().start_epoch(epoch)
        self._epoch = epoch

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Make the three updates in PAPER's order."""
        batch = replace(batch, inputs=self.network.signal(batch.inputs))
        subject_loss = self.update_subject_head(batch)
        logits, loss = self.update_generator(batch)
        adversary_loss = self.update_encoder(batch)
        return {
            "loss": loss,
            "accuracy": accuracy(logits, batch),
            "subject_loss": subject_loss,
            "adversary_loss": adversary_loss,
        }

    def update_subject_head(self, batch: Batch) -> Tensor:
        """Update 1: the subject head minimises the subject loss; the encoder does not learn."""

        def losses(part: Batch) -> tuple[Tensor, Tensor]:
            with self._statistics(updated=not self._own.stable), torch.no_grad(), self.precise.forward_pass():
                features = self.network.encoder(part.inputs, part.state)
            each = self._subject_losses(features.float(), part)
            return each.mean(), each

        return self.descend("subject", batch, losses)[0]

    def update_generator(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Update 2: encoder and generator head minimise the generator loss; returns logits and loss."""

        def losses(part: Batch) -> tuple[Tensor, Tensor]:
            with self.precise.forward_pass():
                logits = self.network.generator_head(self.network.encoder(part.inputs, part.state), part.state)
            return self.generator_loss(logits, part.generator), logits

        loss, logits = self.descend("generator", batch, losses)
        return logits, loss

    def update_encoder(self, batch: Batch) -> Tensor:
        """Update 3: the encoder maximises the subject loss; neither head learns."""
        stable, strength = self._own.stable, self._strength()

        def losses(part: Batch) -> tuple[Tensor, Tensor]:
            with self._statistics(updated=not stable), self.precise.forward_pass():
                features = self.network.encoder(part.inputs, part.state)
            each = self._subject_losses(features.float(), part)
            # Beyond H(S|g) the head would become wrong instead of uninformed; H = 0 masks out a generator
            goal = torch.minimum(each, self._entropy[part.generator]) if stable else each
            return -goal.mean(), each

        if strength > 0:
            # The rate of the third update follows the schedule of the second one: lr_adv = lambda * lr (PAPER)
            self._set_rate(self.steppers["generator"].optimizer.param_groups[0]["lr"] * strength)
            each = self.descend("adversary", batch, losses)[1]
        else:
            with torch.no_grad():
                each = torch.cat([losses(part)[1] for part in batch.parts(self.settings.accumulate)])
        return each.mean() * batch.share

    def _set_rate(self, lr: float) -> None:
        for group in self.steppers["adversary"].optimizer.param_groups:
            group["lr"] = lr

    def _strength(self) -> float:
        """Return the rate of the third update as a share of that of the second one."""
        return self._own.adversary_weight * self._ramp() if self._own.stable else 1.0

    def _ramp(self) -> float:
        begun = self._epoch - self._own.adversary_start + 1
        return min(1.0, max(0.0, begun / max(1, self._own.adversary_ramp)))

    def _subject_losses(self, features: Tensor, batch: Batch) -> Tensor:
        if self._own.stable:
            known = nn.functional.one_hot(batch.generator, len(self.context.labels)).to(features.dtype)
            features = torch.cat([features, known], dim=1)
        logits = self.subject_head(features)
        if self.settings.double_softmax:
            logits = logits.softmax(dim=1)
        return nn.functional.cross_entropy(logits, batch.subject, reduction="none")

    @contextmanager
    def _statistics(self, updated: bool) -> Iterator[None]:
        """Choose whether forward passes in training mode update the running statistics of BatchNorm."""
        norms = [m for m in self.network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.track_running_stats = updated
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True
