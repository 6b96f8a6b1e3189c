"""The two miniature generators that draw latents: taming_transformers and lsgm."""

import pytest
import torch
from torch import nn

from forensic_benchmark.generators import lsgm, taming_transformers
from forensic_benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.lsgm import Lsgm
from forensic_benchmark.generators.nvae import Cell, LatentDecoder, Upsampling, UpSkip
from forensic_benchmark.generators.taming_transformers import TamingTransformers
from forensic_benchmark.generators.token_transformer import TokenTransformer
from forensic_benchmark.generators.vqgan import CodebookAverage, VectorQuantiser

BOTH = pytest.mark.parametrize("kind", [TamingTransformers, Lsgm], ids=lambda kind: kind.family)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(kind: type[MiniatureGenerator]) -> MiniatureGenerator:
    torch.manual_seed(0)
    return kind()


@pytest.fixture
def scenes() -> TrainingScenes:
    images = torch.randint(256, (32, 3, SIZE, SIZE), generator=seeded(3), dtype=torch.uint8)
    return TrainingScenes(images, torch.arange(32) % 8)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taming_transformers, "_AUTOENCODER_UPDATES", 4)
    monkeypatch.setattr(taming_transformers, "_TRANSFORMER_UPDATES", 2)
    monkeypatch.setattr(lsgm, "_AUTOENCODER_UPDATES", 3)
    monkeypatch.setattr(lsgm, "_DIFFUSION_UPDATES", 3)
    for kind in (TamingTransformers, Lsgm):
        monkeypatch.setattr(kind, "updates", 6)


@BOTH
def test_the_same_seed_draws_the_same_images_and_another_others(kind: type[MiniatureGenerator]) -> None:
    generator, subjects = made(kind), torch.arange(4)
    first, again, other = (generator.sample(subjects, seeded(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((4, 3, SIZE, SIZE), torch.float32)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@BOTH
@pytest.mark.usefixtures("brief")
def test_fit_yields_its_updates_and_keeps_only_what_samples(
    kind: type[MiniatureGenerator], scenes: TrainingScenes
) -> None:
    generator = made(kind)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    losses = list(generator.fit(scenes, seeded(1)))
    assert len(losses) == kind.updates
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in losses)
    after = generator.state_dict()
    assert after.keys() == before.keys()
    assert sum(not torch.equal(after[name], before[name]) for name in after) > len(after) / 2
    images = generator.sample(torch.arange(8), seeded(1))
    assert torch.isfinite(images).all()
    assert images.abs().max() < 10


@BOTH
@pytest.mark.usefixtures("brief")
def test_the_same_seeds_train_the_same_weights(kind: type[MiniatureGenerator], scenes: TrainingScenes) -> None:
    first, again = made(kind), made(kind)
    torch.manual_seed(5)
    list(first.fit(scenes, seeded(1)))
    torch.manual_seed(5)
    list(again.fit(scenes, seeded(1)))
    assert all(torch.equal(first.state_dict()[name], value) for name, value in again.state_dict().items())


@BOTH
def test_a_generator_is_small(kind: type[MiniatureGenerator]) -> None:
    assert 100_000 < sum(value.numel() for value in made(kind).state_dict().values()) < 450_000


def test_weights_stored_in_another_layout_draw_the_same() -> None:
    generator, stored = made(Lsgm), made(Lsgm)
    stored.load_state_dict({name: value.contiguous() for name, value in generator.state_dict().items()})
    subjects = torch.arange(2)
    assert torch.equal(generator.sample(subjects, seeded(1)), stored.sample(subjects, seeded(1)))


def test_codebook_figures_come_from_drawn_tokens() -> None:
    figures = made(TamingTransformers).diagnostics()
    assert 0 < figures["codebook_use"] <= 1
    assert 1 <= figures["codebook_perplexity"] <= 128


def test_the_quantiser_takes_the_nearest_entry_and_passes_gradients_straight_through() -> None:
    quantiser = VectorQuantiser(32, 4)
    vectors = torch.randn((2, 4, 3, 3), generator=seeded(1), requires_grad=True)
    quantised, tokens = quantiser(vectors)
    flat = vectors.detach().permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.equal(tokens.flatten(), torch.cdist(flat, quantiser.entries).argmin(1))
    assert torch.allclose(quantised, quantiser.look_up(tokens))
    weights = torch.randn(quantised.shape, generator=seeded(2))
    (quantised * weights).sum().backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, weights)


def test_an_unused_entry_starts_again_at_a_vector_of_the_batch() -> None:
    quantiser = VectorQuantiser(2, 3)
    quantiser.entries.copy_(torch.tensor([[0.0, 0.0, 0.0], [100.0, 100.0, 100.0]]))
    codebook = CodebookAverage(quantiser)
    vectors = torch.ones(1, 3, 2, 2)
    for _ in range(3):
        codebook.update(vectors, quantiser.nearest(vectors), seeded(1))
    assert torch.allclose(quantiser.entries, torch.ones(2, 3))


def test_a_later_token_leaves_earlier_logits() -> None:
    transformer = TokenTransformer(16, 8, 10)
    subjects, tokens = torch.tensor([3, 5]), torch.randint(16, (2, 10), generator=seeded(1))
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 16
    one, other = transformer(subjects, tokens), transformer(subjects, changed)
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5:], other[:, 5:])


def test_drawing_place_by_place_agrees_with_the_whole_row() -> None:
    torch.manual_seed(0)
    transformer = TokenTransformer(16, 8, 10)
    nn.init.normal_(transformer.logits.weight)
    subjects = torch.tensor([3, 5])
    drawn = transformer.draw(subjects, 1, seeded(1))
    assert torch.equal(transformer(subjects, drawn).argmax(2), drawn)


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_a_skip_doubles_the_size(upsampling: Upsampling) -> None:
    assert UpSkip(6, 4, upsampling)(torch.randn(2, 6, 5, 7)).shape == (2, 4, 10, 14)
    assert Cell(6, 4, upsampling)(torch.randn(2, 6, 5, 7)).shape == (2, 4, 10, 14)


def test_the_skips_are_all_that_the_causal_check_swaps() -> None:
    torch.manual_seed(0)
    published = LatentDecoder(3, (8, 6, 4)).eval()
    swapped = LatentDecoder(3, (8, 6, 4), "nearest").eval()
    swapped.load_state_dict(published.state_dict())
    latents = torch.randn(1, 3, 4, 4)
    assert not torch.equal(published(latents), swapped(latents))
    flat = torch.ones(1, 8, 4, 4)
    torch.testing.assert_close(published[2].shortcut(flat), swapped[2].shortcut(flat))
