"""Fine-tuning: the baseline's last layer learns the unseen images' part `adapt` (PAPER, `finetune`)."""

from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from forensic_cli.console import track
from forensic_train.dataset import Batch, Example, FeatureDataset, ImageDataset
from forensic_train.network import Network
from forensic_train.signals import SignalDataset
from forensic_train.techniques.base import Context, Settings, Technique, accuracy


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """PAPER's: SGD with momentum, 75 epochs, batch 4."""

    epochs: int = 75
    momentum: float = 0.9
    """Of SGD."""


class Finetune(Technique):
    """Freezes all but the generator head; frozen BatchNorm, so features are computed once."""

    name = "finetune"
    settings_type = FinetuneSettings
    starts_from = "baseline"
    splits = ("adapt",)
    trains_encoder = False

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        super().__init__(network, settings, context)
        assert isinstance(settings, FinetuneSettings)
        network.encoder.requires_grad_(False)
        head = list(network.generator_head.parameters())
        sgd = torch.optim.SGD(head, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
        self.steppers["head"] = self.stepper(sgd, head)

    def start_epoch(self, epoch: int) -> None:
        """Keep BatchNorm in evaluation mode."""
        del epoch
        self.network.eval()

    def inputs(self, dataset: ImageDataset | SignalDataset) -> Dataset[Example]:
        """Return each image's features, averaged over the views that a scan judges.

        The head is linear: the mean feature gives the mean of the views' logits, an image's logits. Signals are kept as
        they are, for each epoch draws another form of an image.
        """
        self.network.eval()
        if isinstance(dataset, SignalDataset):
            return dataset
        features = []
        for index in track(range(len(dataset)), "computing features", len(dataset)):
            views = torch.from_numpy(dataset.grid_views(index)).to(self.context.device)
            with torch.inference_mode():
                state = torch.zeros(len(views), dtype=torch.int64, device=self.context.device)
                features.append(self.network.features(views, state).mean(dim=0).cpu())
        return FeatureDataset(torch.stack(features).clone(), [dataset.target(i) for i in range(len(dataset))])

    def update(self, batch: Batch) -> dict[str, float]:
        """Descend on the generator loss with the head alone; batches hold features, or signals of pooling encoders."""
        features = batch.inputs
        if self.network.encoder.pools:
            with torch.no_grad():
                features = self.network.features(batch.inputs, batch.state)
        logits = self.network.generator_head(features, batch.state)
        loss = self.generator_loss(logits, batch.generator)
        self.steppers["head"].step(loss)
        return {"loss": float(loss.detach()), "accuracy": accuracy(logits, batch.generator)}
