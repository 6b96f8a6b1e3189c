"""Baseline: Adam and cross entropy on the generator (PAPER, `baseline`)."""

from forensic_train.dataset import Batch
from forensic_train.network import Network
from forensic_train.techniques.base import Context, Settings, Technique, accuracy


class Baseline(Technique):
    """Trains on the data without any correction for its bias."""

    name = "baseline"

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        super().__init__(network, settings, context)
        self.steppers["network"] = self.adam([network])

    def update(self, batch: Batch) -> dict[str, float]:
        """Reduce the generator loss."""
        with self.context.precision():
            logits = self.network.classify(batch.inputs, batch.state)
        loss = self.generator_loss(logits, batch.generator)
        self.steppers["network"].step(loss)
        return {"loss": float(loss.detach()), "accuracy": accuracy(logits, batch.generator)}
