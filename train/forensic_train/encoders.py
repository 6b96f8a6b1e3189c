"""Encoders: they turn images into the features that the generator head judges; one class for each kind."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from forensic_cli.errors import TrainingError
from forensic_train.measurements import Measurements
from forensic_train.network import Encoder
from forensic_train.spectrum import Spectrum, compression_gate, whitening

_AMPLITUDE = 40.0
_LIMIT = 3.0
_LIMIT_DEVIATIONS = 5.0
_LARGEST_COMPONENT = 6.0
_LARGEST = 12.0
"""Limit of standardized measurements, in standard deviations."""
_DIRECT = 0.3
"""Factor of the components that reach the head directly, so that one learning rate fits them and the hidden layer."""
_LEAST_DEVIATION = 0.01
_LEAST_VARIANCE = 1e-3


class ResNet50(Encoder):
    """torchvision's ResNet-50 without weights and without its last layer; channels normalised to mean .5, std .5.

    Source: PAPER, "Common to all techniques"; He et al. 2016; torchvision.models.resnet50.
    """

    width = 2048

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.body = resnet50(weights=None)
        self.body.fc = nn.Identity()

    def load_pretrained(self, path: Path) -> None:
        """Start from torchvision's weights of resnet50, a state_dict in a file; its last layer is not used."""
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            self.body.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
        except Exception as error:  # a damaged archive can make torch.load raise anything
            reason = str(error).splitlines()[0][:120]
            raise TrainingError(
                f"{path}: not a state_dict of torchvision's resnet50 ({reason}); save one with "
                "torch.save(resnet50(weights=...).state_dict(), FILE)"
            ) from error

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Encode images in [0, 1] at 224 x 224."""
        del state
        encoded: Tensor = self.body((images - 0.5) / 0.5)
        return encoded


class SmallResNet(Encoder):
    """A ResNet of 8 layers for images of 32 pixels: one basic block per stage at 16, 32 and 64 channels.

    Replaces ResNet-50 for images of this size. Source: He et al. 2016, section 4.2.
    """

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(3, 16, 3, 1),
            _Block(16),
            *(_convolution(16, 32, 3, 2), _Block(32)),
            *(_convolution(32, 64, 3, 2), _Block(64)),
        )

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Encode images in [0, 1]; averages over positions."""
        del state
        encoded: Tensor = self.body((images - 0.5) / 0.5)
        return encoded.mean(dim=(2, 3))


class ResidualFilters(nn.Module):
    """Fixed high-pass filters on every colour: two neighbour differences and a Laplacian, amplified and truncated.

    Amplifying by 40 and truncating at 3 leaves about 19 grey levels around a smooth surface: fingerprints, not
    edges. Source: truncated residuals of Fridrich and Kodovsky 2012 (SRM).
    """

    channels = 9

    def __init__(self) -> None:
        super().__init__()
        across = [[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]
        down = [[0.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]
        laplacian = [[0.0, -0.25, 0.0], [-0.25, 1.0, -0.25], [0.0, -0.25, 0.0]]
        kernels = torch.tensor([across, down, laplacian]).unsqueeze(1).repeat(3, 1, 1, 1)
        self.register_buffer("kernels", kernels, persistent=False)
        self.kernels: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return residuals N x 9 x S x S of images in [0, 1]."""
        residuals = nn.functional.conv2d(images, self.kernels, padding=1, groups=3)
        return (residuals * _AMPLITUDE).clamp(-_LIMIT, _LIMIT)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 3, 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.norm(self.second(self.first(x))))


class ResidualEncoder(Encoder):
    """A shallow network with a small receptive field on the residuals of an unresized patch."""

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64), blocks: Sequence[int] = (0, 0, 1, 1)) -> None:
        super().__init__()
        self.width = widths[-1]
        layers: list[nn.Module] = [ResidualFilters(), _convolution(ResidualFilters.channels, widths[0], 4, 2)]
        layers += [_Block(widths[0]) for _ in range(blocks[0])]
        for before, after, count in zip(widths, widths[1:], blocks[1:], strict=False):
            layers += [_convolution(before, after, 3, 2), *(_Block(after) for _ in range(count))]
        self.body = nn.Sequential(*layers)

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Encode images in [0, 1] of any size; averages over positions."""
        del state
        encoded: Tensor = self.body(images)
        return encoded.mean(dim=(2, 3))


class SpectralEncoder(Encoder):
    """Whitened log spectra and a trained linear map, with one copy for compressed and one for uncompressed patches.

    The up-sampling of a generator leaves peaks and slopes in the spectrum (Corvi et al. 2023; Durall et al. 2020).
    Linear features of these generalize to unseen sources better than those of a convolutional network. Compression
    changes them so much that both conditions need separate coefficients: the features are (1 - g) h, g h, 1 - g and g,
    where g is the probability that a patch was compressed and h the mapped spectrum.
    """

    def __init__(self, components: int = 128) -> None:
        super().__init__()
        self.width = 2 * components + 2
        self.spectrum = Spectrum()
        self.register_buffer("weights", torch.zeros(self.spectrum.width, components))
        self.register_buffer("centre", torch.zeros(self.spectrum.width))
        self.register_buffer("gate_weights", torch.zeros(components))
        self.register_buffer("gate_bias", torch.zeros(()))
        self.weights: Tensor
        self.centre: Tensor
        self.gate_weights: Tensor
        self.gate_bias: Tensor
        self.project = nn.Linear(components, components, bias=False)
        nn.init.eye_(self.project.weight)

    def signal(self, images: Tensor) -> Tensor:
        """Return whitened log spectra N x C, limited so that no unusual image gets an extreme score."""
        return self._whitened(self.spectrum(images))

    def _whitened(self, spectra: Tensor) -> Tensor:
        # Double precision, because components of small variance are small differences of large sums
        white = (spectra.double() - self.centre.double()) @ self.weights.double()
        return white.float().clamp(-_LIMIT_DEVIATIONS, _LIMIT_DEVIATIONS)

    def forward(self, signal: Tensor, state: Tensor) -> Tensor:
        """Return features N x (2 C + 2)."""
        del state
        gate = torch.sigmoid(signal @ self.gate_weights + self.gate_bias)[:, None]
        projected = self.project(signal)
        return torch.cat([(1 - gate) * projected, gate * projected, 1 - gate, gate], dim=1)

    def prepare(self, samples: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the whitening to the spectra of training patches, and the gate to their compression."""
        device = self.weights.device
        with torch.no_grad():
            measured = [(self.spectrum(images.to(device)), flags) for images, flags in samples]
            spectra, compressed = (torch.cat(parts) for parts in zip(*measured, strict=True))
            centre, weights = whitening(spectra.cpu(), self.weights.shape[1])
            self.centre.copy_(centre)
            self.weights.copy_(weights)
            gate_weights, gate_bias = compression_gate(self._whitened(spectra).cpu(), compressed.cpu())
            self.gate_weights.copy_(gate_weights)
            self.gate_bias.copy_(gate_bias)


class StateEncoder(Encoder):
    """Measurements averaged over the patches of an image and whitened for its state, plus a hidden layer on them.

    Measurements are standardized with the means and deviations of the state, each block is rotated to principal
    components of variance 1, and all are limited. The features are these components and a hidden layer on them that
    knows the state. For a closed-form technique the hidden layer keeps its initial random weights, as random features
    (Rahimi and Recht 2007).

    It is an ensemble of members with separate features: each training example trains one member, chosen at random, and
    all members judge together, so the head averages their logits. With few sources, an ensemble is more reliable than a
    single network (Lakshminarayanan et al. 2017).
    """

    states = ("lossless", "webp", "jpeg-93", "jpeg-80", "jpeg-60")
    pools = True
    components = (128, 160, 96, 64, 128, 64, 96)
    """Number of components of each block of the measurements."""
    hidden = 192
    side = 128
    """Side of a patch, in pixels."""
    members = 3
    """Small networks whose logits are averaged; each needs as many epochs as a single one would."""

    def __init__(self) -> None:
        super().__init__()
        self.measurements = Measurements(self.side)
        total, count = sum(self.components), len(self.states)
        self.width = self.members * (total + self.hidden)
        self.register_buffer("centre", torch.zeros(count, self.measurements.width))
        self.register_buffer("scale", torch.ones(count, self.measurements.width))
        for k, (width, kept) in enumerate(zip(self.measurements.blocks, self.components, strict=True)):
            self.register_buffer(f"rotation_{k}", torch.zeros(width, kept))
        self.centre: Tensor
        self.scale: Tensor
        self.project = nn.Linear(total, self.members * self.hidden)
        self.shift = nn.Parameter(torch.zeros(count, self.members * self.hidden))
        self.noise, self.thinned = nn.Dropout(0.2), nn.Dropout(0.4)

    def signal(self, images: Tensor) -> Tensor:
        """Return the measurements of patches that may be averaged over an image."""
        measured: Tensor = self.measurements(images)
        return measured

    def finish(self, mean: Tensor) -> Tensor:
        """Return measurements B x F of images."""
        return self.measurements.finish(mean)

    def forward(self, signal: Tensor, state: Tensor) -> Tensor:
        """Return features B x M (C + H) of measurements B x F."""
        white = self.noise(self._whitened(signal, state).clamp(-_LARGEST_COMPONENT, _LARGEST_COMPONENT))
        hidden = self.thinned(torch.relu(self.project(white) + self.shift[state]))
        share = self._shares(white)
        direct = share * (white * _DIRECT).unsqueeze(1)
        # Not len(white), which an export would take for a constant
        own = share * hidden.reshape(-1, self.members, self.hidden)
        return torch.cat([direct, own], dim=2).flatten(1)

    def _shares(self, white: Tensor) -> Tensor:
        """Return B x M x 1: the share of each member in judging each image."""
        if not self.training:
            return torch.full((1, self.members, 1), 1 / self.members, device=white.device)
        drawn = torch.randint(self.members, (len(white),), device=white.device)
        return nn.functional.one_hot(drawn, self.members).unsqueeze(2).float()

    def distance(self, signal: Tensor, state: Tensor) -> Tensor:
        """Return the root mean square of the whitened components, before they are limited."""
        distance: Tensor = self._whitened(signal, state).square().mean(dim=1).sqrt()
        return distance

    def _rotation(self, block: int) -> Tensor:
        rotation: Tensor = getattr(self, f"rotation_{block}")
        return rotation

    def _standard(self, signal: Tensor, state: Tensor) -> Tensor:
        """Return limited deviations from the mean of the state: no single measurement may dominate all others."""
        standard: Tensor = ((signal - self.centre[state]) / self.scale[state]).clamp(-_LARGEST, _LARGEST)
        return standard

    def _whitened(self, signal: Tensor, state: Tensor) -> Tensor:
        standard = self._standard(signal, state)
        parts = torch.split(standard, list(self.measurements.blocks), dim=1)
        return torch.cat([part @ self._rotation(k) for k, part in enumerate(parts)], dim=1)

    def prepare_signals(self, values: Tensor, states: Tensor, weights: Tensor) -> None:
        """Fit centre, scale and rotation to signals M x F in states M, with weights M."""
        for k in range(len(self.states)):
            here = states == k
            if not here.any():
                continue
            share = (weights[here] / weights[here].sum()).unsqueeze(1)
            self.centre[k] = (share * values[here]).sum(dim=0)
            variance = (share * (values[here] - self.centre[k]).square()).sum(dim=0)
            self.scale[k] = variance.sqrt() + _LEAST_DEVIATION
        standard = self._standard(values, states)
        share = (weights / weights.sum()).unsqueeze(1)
        for k, part in enumerate(torch.split(standard, list(self.measurements.blocks), dim=1)):
            variances, vectors = torch.linalg.eigh((part.T @ (part * share)).double())
            kept = self.components[k]
            spread = torch.sqrt(variances.flip(0)[:kept].clamp(min=0) + _LEAST_VARIANCE)
            self._rotation(k).copy_(vectors.flip(1)[:, :kept] / spread)


def _convolution(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
