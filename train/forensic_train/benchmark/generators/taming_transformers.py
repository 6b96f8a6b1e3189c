"""taming_transformers in miniature: a codebook of image patches, and a transformer that writes with it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from forensic_train.benchmark.generators.autoencoder import ImageDecoder, ImageEncoder, autoencoder_updates
from forensic_train.benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes

_LATENT = 16
_WIDTHS = (16, 32, 48)
_CODES = 128
_TOKENS = (SIZE // 4) ** 2
_COMMITMENT = 0.25
_DECAY = 0.95
_REVIVED_BELOW = 0.2
_AUTOENCODER_UPDATES = 1500
_PRIOR_UPDATES = 1500
_BATCH = 32
_LR = 1e-3
_TOP = 100
_DIAGNOSED = 64


class TamingTransformers(MiniatureGenerator):
    """A vector-quantised autoencoder (f 4) and a causal transformer over its tokens. Source: Esser et al. 2021."""

    family = "taming_transformers"
    updates = _AUTOENCODER_UPDATES + _PRIOR_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        self.decoder = ImageDecoder(_LATENT, _WIDTHS[::-1])
        self.quantiser = Quantiser(_CODES, _LATENT)
        self.prior = CausalTransformer(_CODES, subjects, _TOKENS)

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder with its codebook, then the transformer on the scenes' tokens."""
        encoder = ImageEncoder(_LATENT, _WIDTHS)

        def rebuild(images: Tensor) -> tuple[Tensor, Tensor]:
            latents = encoder(images)
            quantised, _ = self.quantiser(latents)
            if self.training:
                self.quantiser.follow(latents.detach(), rng)
            commitment = nn.functional.mse_loss(latents, quantised.detach())
            return self.decoder(latents + (quantised - latents).detach()), _COMMITMENT * commitment

        yield from autoencoder_updates([encoder, self.decoder], rebuild, scenes, _AUTOENCODER_UPDATES, rng)
        optimiser = torch.optim.AdamW(self.prior.parameters(), lr=_LR, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LR, _PRIOR_UPDATES + 1, pct_start=0.1)
        for _ in range(_PRIOR_UPDATES):
            images, subjects = scenes.batch(_BATCH, rng)
            with torch.no_grad():
                tokens = self.quantiser(encoder(images))[1].flatten(1)
            loss = nn.functional.cross_entropy(self.prior(subjects, tokens[:, :-1]).transpose(1, 2), tokens)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.prior.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            yield {"prior": loss.item()}

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        tokens = self.prior.write(subjects, rng)
        latents = self.quantiser.codes[tokens].transpose(1, 2)
        images: Tensor = self.decoder(latents.reshape(len(subjects), _LATENT, SIZE // 4, SIZE // 4))
        return images

    @torch.no_grad()
    def diagnostics(self) -> Mapping[str, float]:
        """Return the share of the codebook that samples use, and its perplexity over the number of its entries."""
        subjects = torch.arange(_DIAGNOSED) % self.prior.subjects.num_embeddings
        tokens = self.prior.write(subjects, torch.Generator().manual_seed(0))
        shares = torch.bincount(tokens.flatten(), minlength=_CODES) / tokens.numel()
        entropy = -torch.special.xlogy(shares, shares).sum()
        return {
            "codebook_use": float((shares > 0).float().mean()),
            "codebook_perplexity": float(entropy.exp()) / _CODES,
        }


class Quantiser(nn.Module):
    """A codebook that follows the latents that fall on its entries (van den Oord et al. 2017, appendix A)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(codes, width))
        self.register_buffer("uses", torch.ones(codes), persistent=False)
        self.register_buffer("sums", self.codes.clone(), persistent=False)
        self.codes: Tensor
        self.uses: Tensor
        self.sums: Tensor

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents N x C x H x W with the nearest entry in each place, and the entries' numbers N x H x W."""
        places = latents.permute(0, 2, 3, 1)
        tokens = torch.cdist(places.flatten(0, 2), self.codes).argmin(dim=1).reshape(places.shape[:3])
        return self.codes[tokens].permute(0, 3, 1, 2), tokens

    @torch.no_grad()
    def follow(self, latents: Tensor, rng: torch.Generator) -> None:
        """Move each entry to the running mean of its latents; an entry without any moves to a random latent."""
        places = latents.permute(0, 2, 3, 1).flatten(0, 2)
        chosen = nn.functional.one_hot(torch.cdist(places, self.codes).argmin(dim=1), len(self.codes)).float()
        self.uses.lerp_(chosen.sum(dim=0), 1 - _DECAY)
        self.sums.lerp_(chosen.T @ places, 1 - _DECAY)
        dead = self.uses < _REVIVED_BELOW
        fresh = places[torch.randint(len(places), (int(dead.sum()),), generator=rng)]
        self.uses[dead], self.sums[dead] = 1.0, fresh
        self.codes.copy_(self.sums / self.uses[:, None])


class CausalTransformer(nn.Module):
    """Next-token prediction over a row of tokens that begins with the subject."""

    def __init__(self, codes: int, subjects: int, length: int, width: int = 96, layers: int = 3) -> None:
        super().__init__()
        self.length = length
        self.subjects = nn.Embedding(subjects, width)
        self.tokens = nn.Embedding(codes, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, codes)

    def forward(self, subjects: Tensor, tokens: Tensor) -> Tensor:
        """Return logits N x (L + 1) x codes for subjects N and the first L tokens N x L."""
        known = torch.cat([self.subjects(subjects)[:, None], self.tokens(tokens)], dim=1)
        count = known.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(count)
        logits: Tensor = self.head(self.body(known + self.places[:count], mask, is_causal=True))
        return logits

    def write(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Draw tokens N x length one by one, each from its most probable hundred."""
        tokens = torch.zeros((len(subjects), 0), dtype=torch.int64)
        for _ in range(self.length):
            logits = self(subjects, tokens)[:, -1]
            least = logits.topk(_TOP, dim=1).values[:, -1:]
            probabilities = logits.masked_fill(logits < least, -torch.inf).softmax(dim=1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=rng)], dim=1)
        return tokens
