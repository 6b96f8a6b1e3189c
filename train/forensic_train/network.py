"""Networks: an encoder, a generator head, and (for adversarial training) a subject head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_AMPLITUDE = 40.0
_LIMIT = 3.0


class Encoder(nn.Module):
    """Base of all encoders: images N x 3 x S x S in [0, 1] -> features N x `width`."""

    width: int


class Network(nn.Module):
    """uint8 views -> logits. Scaling and fixed filters are inside, so an export needs no other step."""

    def __init__(self, encoder: Encoder, generators: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.generator_head = nn.Linear(encoder.width, generators)

    def features(self, views: Tensor) -> Tensor:
        """Encode uint8 views N x S x S x 3 to features N x width."""
        images = views.permute(0, 3, 1, 2).to(torch.float32) / 255
        encoded: Tensor = self.encoder(images)
        return encoded

    def forward(self, views: Tensor) -> Tensor:
        """Return logits N x K of uint8 views N x S x S x 3."""
        logits: Tensor = self.generator_head(self.features(views))
        return logits


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

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in [0, 1] at 224 x 224."""
        encoded: Tensor = self.body((images - 0.5) / 0.5)
        return encoded


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


class NativeEncoder(Encoder):
    """A shallow network with a small receptive field on the residuals of an unresized patch."""

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64), blocks: Sequence[int] = (0, 0, 1, 1)) -> None:
        super().__init__()
        self.width = widths[-1]
        layers: list[nn.Module] = [ResidualFilters(), _convolution(ResidualFilters.channels, widths[0], 4, 2)]
        layers += [_Block(widths[0]) for _ in range(blocks[0])]
        for before, after, count in zip(widths, widths[1:], blocks[1:], strict=False):
            layers += [_convolution(before, after, 3, 2), *(_Block(after) for _ in range(count))]
        self.body = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in [0, 1] of any size; averages over positions."""
        encoded: Tensor = self.body(images)
        return encoded.mean(dim=(2, 3))


def _convolution(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
