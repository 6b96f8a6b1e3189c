"""A causal transformer that draws a row of tokens for a subject."""

import torch
from torch import Tensor, nn

_WIDTH = 96
_LAYERS = 3
_HEADS = 4
_EXPANSION = 3


class TokenTransformer(nn.Module):
    """Predicts each of `length` tokens from the subject and the tokens before it.

    Source: Radford et al. 2019 (pre-norm layers); Esser et al. 2021 (the subject as first token).
    """

    def __init__(self, entries: int, subjects: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.subject = nn.Embedding(subjects, _WIDTH)
        self.entry = nn.Embedding(entries, _WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(length, _WIDTH))
        self.layers = nn.ModuleList([_Layer() for _ in range(_LAYERS)])
        self.norm = nn.LayerNorm(_WIDTH)
        self.logits = nn.Linear(_WIDTH, entries)
        for embedding in (self.subject, self.entry):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, subjects: Tensor, tokens: Tensor) -> Tensor:
        """Return logits N x length x entries for subjects N and tokens N x length; the last token is not read."""
        x = torch.cat([self.subject(subjects)[:, None], self.entry(tokens[:, :-1])], dim=1) + self.place
        for layer in self.layers:
            x = layer(x, None)
        logits: Tensor = self.logits(self.norm(x))
        return logits

    @torch.no_grad()
    def draw(self, subjects: Tensor, top: int, rng: torch.Generator) -> Tensor:
        """Draw tokens N x length at temperature 1, each among the `top` likeliest."""
        pasts: list[list[Tensor]] = [[] for _ in self.layers]
        x, drawn = self.subject(subjects)[:, None], []
        for place in self.place:
            x = x + place
            for layer, past in zip(self.layers, pasts, strict=True):
                x = layer(x, past)
            best, entries = self.logits(self.norm(x[:, 0])).topk(min(top, self.logits.out_features))
            token = entries.gather(1, torch.multinomial(best.softmax(1), 1, generator=rng))
            drawn.append(token)
            x = self.entry(token)
        return torch.cat(drawn, dim=1)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.project = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.merge = nn.Linear(_WIDTH, _WIDTH)
        wide = _EXPANSION * _WIDTH
        self.mix = nn.Sequential(nn.Linear(_WIDTH, wide), nn.GELU(), nn.Linear(wide, _WIDTH))

    def forward(self, x: Tensor, past: list[Tensor] | None) -> Tensor:
        """Attend within x, N x L x W, or, for one more place, to the keys and values in `past`, which grows by it."""
        parts = self.project(self.first_norm(x)).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)
        queries, keys_values = parts[0], parts[1:]
        if past is not None:
            keys_values = torch.cat([*past, keys_values], dim=3)
            past[:] = [keys_values]
        keys, values = keys_values
        found = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=past is None)
        x = x + self.merge(found.transpose(1, 2).flatten(2))
        mixed: Tensor = x + self.mix(self.second_norm(x))
        return mixed
