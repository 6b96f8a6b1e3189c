"""Fine-tuning: the last layer of the baseline is adapted to some of the unseen images (PAPER, `finetune`)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from forensic_cli.console import track
from forensic_train.dataset import FeatureDataset, ImageDataset
from forensic_train.loader import Batch, Example
from forensic_train.network import Network
from forensic_train.signals import SignalDataset
from forensic_train.techniques.base import Context, Settings, Technique, accuracy


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """As in PAPER: SGD with momentum, 75 epochs, batch 4."""

    epochs: int = 75
    momentum: float = 0.9
    """Momentum of SGD, 0 to 1."""


class Finetune(Technique):
    """Trains only the generator head; BatchNorm is frozen, so features are computed once."""

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
        """Return the features of each image, averaged over the views that a scan judges.

        The head is linear, so mean features give the mean logits of the views, which are the logits of the image.
        Signals are not encoded in advance, because each epoch draws another form of an image.
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

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Reduce the generator loss with the head only; batches contain features, or signals of pooling encoders."""

        def losses(part: Batch) -> tuple[Tensor, Tensor]:
            features = part.inputs
            if self.network.encoder.pools:
                with torch.no_grad():
                    features = self.network.features(part.inputs, part.state)
            logits = self.network.generator_head(features, part.state)
            return self.generator_loss(logits, part.generator), logits

        loss, logits = self.descend("head", batch, losses)
        return {"loss": loss, "accuracy": accuracy(logits, batch)}
