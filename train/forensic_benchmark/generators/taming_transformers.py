"""taming_transformers in miniature: a VQ autoencoder with an adversarial loss, and a transformer on its tokens."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from forensic_benchmark.generators.autoencoder import ImageDecoder, ImageEncoder, autoencoder_updates
from forensic_benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.diffusion import averaged_weights
from forensic_benchmark.generators.token_transformer import TokenTransformer
from forensic_benchmark.generators.vqgan import VectorQuantiser, quantised
from forensic_train.techniques.base import Stepper

_AUTOENCODER_UPDATES = 900
_TRANSFORMER_UPDATES = 1200
_ENCODER_WIDTHS = (16, 32, 48)
_DECODER_WIDTHS = (48, 32, 24)
_ENTRIES = 128
_CODE = 16
_SIDE = SIZE // 4
_TOP = 100
_BATCH = 24
_LR = 2e-3
_WARM_UP = 0.1
_COUNTED = 512


class TamingTransformers(MiniatureGenerator):
    """64 tokens of a codebook of 128, drawn one after another, then decoded. Source: Esser et al. 2021 (VQGAN)."""

    family = "taming_transformers"
    updates = _AUTOENCODER_UPDATES + _TRANSFORMER_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        self.subjects = subjects
        self.quantiser = VectorQuantiser(_ENTRIES, _CODE)
        self.decoder = ImageDecoder(_CODE, _DECODER_WIDTHS)
        self.transformer = TokenTransformer(_ENTRIES, subjects, _SIDE**2)
        # Faster on a CPU; changes no result but for rounding
        self.decoder.to(memory_format=torch.channels_last)

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder with its codebook, then the transformer on the tokens of all scenes."""
        encoder = ImageEncoder(_CODE, _ENCODER_WIDTHS).to(memory_format=torch.channels_last)
        bottleneck = quantised(self.quantiser, rng)
        yield from autoencoder_updates(encoder, bottleneck, self.decoder, scenes, _AUTOENCODER_UPDATES, rng)
        tokens, subjects = _tokens(encoder, self.quantiser, scenes)
        yield from _transformer_updates(self.transformer, tokens, subjects, _TRANSFORMER_UPDATES, rng)

    @torch.no_grad()
    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        tokens = self.transformer.draw(subjects, _TOP, rng).reshape(-1, _SIDE, _SIDE)
        images: Tensor = self.decoder(self.quantiser.look_up(tokens))
        return images

    def diagnostics(self) -> Mapping[str, float]:
        """Return the share of the codebook in 512 drawn samples, and the perplexity of their entries."""
        subjects = torch.arange(_COUNTED) % self.subjects
        tokens = self.transformer.draw(subjects, _TOP, torch.Generator().manual_seed(0))
        share = torch.bincount(tokens.flatten(), minlength=_ENTRIES) / tokens.numel()
        perplexity = torch.special.entr(share).sum().exp()
        return {"codebook_use": (share > 0).float().mean().item(), "codebook_perplexity": perplexity.item()}


@torch.no_grad()
def _tokens(encoder: nn.Module, quantiser: VectorQuantiser, scenes: TrainingScenes) -> tuple[Tensor, Tensor]:
    """Return tokens N x 64 of all scenes and of their mirror images, and their subjects N."""
    both = [scenes.images, scenes.images.flip(3)]
    parts = [part.float() / 127.5 - 1 for images in both for part in torch.split(images, 4 * _BATCH)]
    tokens = torch.cat([quantiser.nearest(encoder(part)).flatten(1) for part in parts])
    return tokens, scenes.subjects.repeat(2)


def _transformer_updates(
    transformer: TokenTransformer, tokens: Tensor, subjects: Tensor, updates: int, rng: torch.Generator
) -> Iterator[dict[str, float]]:
    """Train to predict every token from those before it; the transformer ends with its averaged weights."""
    parameters = list(transformer.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=_LR, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LR, updates, pct_start=_WARM_UP)
    stepper = Stepper(optimiser, schedule, 1.0, parameters)
    averaged = AveragedModel(transformer, avg_fn=averaged_weights)
    for _ in range(updates):
        chosen = torch.randint(len(tokens), (_BATCH,), generator=rng)
        logits = transformer(subjects[chosen], tokens[chosen])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[chosen].flatten())
        stepper.step([loss])
        averaged.update_parameters(transformer)
        yield {"tokens": loss.item()}
    transformer.load_state_dict(averaged.module.state_dict())
