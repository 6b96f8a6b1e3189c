"""Baseline: Adam and cross entropy on the generator (PAPER, `baseline`)."""

from torch import Tensor

from forensic_train.loader import Batch
from forensic_train.network import Network
from forensic_train.techniques.base import Context, Settings, Technique, accuracy


class Baseline(Technique):
    """Trains on the data without any correction for its bias."""

    name = "baseline"

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        super().__init__(network, settings, context)
        self.steppers["network"] = self.adam([network])

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Reduce the generator loss."""

        def losses(part: Batch) -> tuple[Tensor, Tensor]:
            with self.precise.forward_pass():
                logits = self.network.classify(part.inputs, part.state)
            return self.generator_loss(logits, part.generator), logits

        loss, logits = self.descend("network", batch, losses)
        return {"loss": loss, "accuracy": accuracy(logits, batch)}
