"""The network of every technique: an encoder (encoders.py) and a linear generator head."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from forensic_cli.card import ANY_STATE
from forensic_cli.errors import TrainingError


class Encoder(nn.Module):
    """Base of all encoders: images N x 3 x S x S in [0, 1] -> signal -> features of width `width`.

    The signal comes from the fixed part of the encoder, which no training step changes. An encoder that `pools` gets
    the mean signal of all views of an image; for others, the features of the views are averaged.
    """

    width: int
    """Number of features."""
    states: tuple[str, ...] = (ANY_STATE,)
    """Names of the states that the head has weights for."""
    pools = False
    """Whether signals, not features, are averaged over the views of an image."""

    def signal(self, images: Tensor) -> Tensor:
        """Return what no training step changes, so several passes over one batch can share it."""
        return images

    def finish(self, mean: Tensor) -> Tensor:
        """Return the signal of an image from the mean of signal() over its views; for encoders that pool."""
        return mean

    def distance(self, signal: Tensor, state: Tensor) -> Tensor:
        """Return the distance of each signal from the training images, with a mean of 1 on these; 0: not measured."""
        del state
        return torch.zeros(signal.shape[0], device=signal.device)

    def load_pretrained(self, path: Path) -> None:
        """Start from weights in a file. Raises TrainingError: most encoders have none."""
        raise TrainingError(f"{path}: this recipe's encoder has no pretrained weights; remove --weights")

    def prepare_signals(self, values: Tensor, states: Tensor, weights: Tensor) -> None:
        """Fit the fixed part to signals M x F in states M with weights M; most encoders have nothing to fit."""
        del values, states, weights

    def prepare(self, samples: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the fixed part to training images before training; most encoders have nothing to fit.

        `samples`, read once: (images N x 3 x S x S in [0, 1], flags N). A flag says whether the image has been
        compressed: 1 yes, 0 no, -1 unknown.
        """
        del samples


class StateHead(nn.Module):
    """A linear layer with separate weights for each state of an image."""

    def __init__(self, width: int, generators: int, states: int) -> None:
        super().__init__()
        layers = [nn.Linear(width, generators) for _ in range(states)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """Return logits B x K of features B x C, given the index of their states, B."""
        # Compute the logits of every state and pick one: gathering weights for each image would take far longer
        logits = features @ self.weight.flatten(0, 1).T + self.bias.flatten()
        own = state.reshape(-1, 1, 1).expand(-1, 1, self.bias.shape[1])
        return logits.reshape(-1, *self.bias.shape).gather(1, own).squeeze(1)


class Network(nn.Module):
    """uint8 views -> logits. Includes scaling and fixed filters, so an export needs no other step."""

    def __init__(self, encoder: Encoder, generators: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.generator_head = StateHead(encoder.width, generators, len(encoder.states))

    def prepare(self, samples: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the fixed part of the encoder to uint8 views N x S x S x 3 and their flags N (Encoder.prepare)."""
        self.encoder.prepare((as_images(views), flags) for views, flags in samples)

    def signal(self, inputs: Tensor) -> Tensor:
        """Return the signal, without gradients, of uint8 views B x S x S x 3; a signal is returned unchanged."""
        if inputs.dtype != torch.uint8:
            return inputs
        with torch.no_grad():
            return self.encoder.finish(self.encoder.signal(as_images(inputs)))

    def features(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return features B x width of uint8 views B x S x S x 3 or of their signal; `state`: index of each one, B."""
        encoded: Tensor = self.encoder(self.signal(inputs), state)
        return encoded

    def classify(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return logits B x K of images with one view or one signal each, given the index of their states, B."""
        logits: Tensor = self.generator_head(self.features(inputs, state), state)
        return logits

    def forward(self, views: Tensor, image: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits B x K and distances B of uint8 views N x S x S x 3.

        `image`, N: index of the image that a view belongs to. `state`, B: index of the state of each image.
        """
        signal = self.encoder.signal(as_images(views))
        if self.encoder.pools:
            signal = self.encoder.finish(_mean_by(signal, image, state))
            features, distance = self.encoder(signal, state), self.encoder.distance(signal, state)
        else:
            features = _mean_by(self.encoder(signal, state), image, state)
            distance = self.encoder.distance(features, state)
        return self.generator_head(features, state), distance


def _mean_by(values: Tensor, image: Tensor, state: Tensor) -> Tensor:
    """Average N x F over the views of each of B images; B is the length of `state`."""
    member = (image.unsqueeze(0) == torch.arange(state.shape[0], device=image.device).unsqueeze(1)).float()
    return (member @ values) / member.sum(dim=1, keepdim=True)


def as_images(views: Tensor) -> Tensor:
    """Turn uint8 views N x S x S x 3 into float images N x 3 x S x S in [0, 1]."""
    return views.permute(0, 3, 1, 2).to(torch.float32) / 255
