"""The four techniques on a toy network: what each update may change, and what it must leave alone."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forensic_train.dataset import ImageDataset
from forensic_train.encoders import SmallResNet
from forensic_train.loader import Batch
from forensic_train.network import Network
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.techniques import TECHNIQUES
from forensic_train.techniques.adversarial import Adversarial
from forensic_train.techniques.base import Context, Technique
from forensic_train.techniques.baseline import Baseline
from forensic_train.techniques.discriminant import Discriminant
from forensic_train.techniques.finetune import Finetune

Make = Callable[..., Any]
COUNTS = {"a": {"cat": 30, "dog": 10}, "b": {"cat": 20, "dog": 20}, "lsgm": {"cat": 40}}
"""H(S|lsgm) is 0: it shows one subject."""
ENCODER, GENERATOR_HEAD, SUBJECT_HEAD, STATISTICS = "encoder", "generator_head", "subject_head", "statistics"


def parts(technique: Technique) -> dict[str, dict[str, Tensor]]:
    """Copy everything that an update might change, part by part."""
    found: dict[str, dict[str, Tensor]] = {
        ENCODER: {n: p.detach().clone() for n, p in technique.network.encoder.named_parameters()},
        GENERATOR_HEAD: {n: p.detach().clone() for n, p in technique.network.generator_head.named_parameters()},
        STATISTICS: {n: b.clone() for n, b in technique.network.encoder.named_buffers()},
    }
    if isinstance(technique, Adversarial):
        found[SUBJECT_HEAD] = {n: p.detach().clone() for n, p in technique.subject_head.named_parameters()}
    return found


def changed(technique: Technique, before: dict[str, dict[str, Tensor]]) -> set[str]:
    """Return the parts that differ from a copy."""
    return {
        part
        for part, tensors in parts(technique).items()
        if any(not torch.equal(tensor, before[part][name]) for name, tensor in tensors.items())
    }


def signal_of(technique: Technique, batch: Batch) -> Batch:
    """Return the batch with the encoder's signal in the place of its views, as the three updates share it."""
    return replace(batch, inputs=technique.network.signal(batch.inputs))


def subject_loss(technique: Adversarial, batch: Batch) -> float:
    """Measure the plain subject loss on a batch, with the batch's own BatchNorm statistics."""
    state = {name: buffer.clone() for name, buffer in technique.network.named_buffers()}
    with torch.no_grad():
        features = technique.network.features(batch.inputs, batch.state)
        if technique.subject_head.in_features > features.shape[1]:
            known = nn.functional.one_hot(batch.generator, len(technique.context.labels)).float()
            features = torch.cat([features, known], dim=1)
        loss = float(nn.functional.cross_entropy(technique.subject_head(features), batch.subject))
    for name, buffer in technique.network.named_buffers():
        buffer.copy_(state[name])
    return loss


@pytest.fixture
def batch(make_batch: Make) -> Batch:
    made: Batch = make_batch([0, 0, 1, 1, 0, 1, 2, 2], [0, 1, 0, 1, 0, 1, 0, 0])
    return made


# Sampling


def test_sources_may_be_balanced_and_are_not_in_the_papers_baseline(make_technique: Make) -> None:
    rows = [Row(Path(f"{i}.png"), "a", "cat", source="large" if i < 30 else "small") for i in range(40)]
    rows += [Row(Path(f"{i}.png"), "real", "cat", source="other") for i in range(40, 50)]
    plain = make_technique(Baseline, COUNTS).sampler(rows, 0)
    assert sorted(plain) == list(range(50))
    balanced = make_technique(Baseline, COUNTS, source_balance=1.0)
    drawn = [rows[i].source for epoch in range(80) for i in balanced.sampler(rows, epoch)]
    shares = {name: drawn.count(name) / len(drawn) for name in ("large", "small", "other")}
    assert shares == pytest.approx({"large": 1 / 4, "small": 1 / 4, "other": 1 / 2}, abs=0.03)


# Adversarial, to the letter


def test_the_first_update_teaches_the_subject_head_alone(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS)
    before, loss = parts(technique), subject_loss(technique, batch)
    assert technique.update_subject_head(signal_of(technique, batch)) == pytest.approx(loss, rel=1e-5)
    assert changed(technique, before) == {SUBJECT_HEAD, STATISTICS}
    assert subject_loss(technique, batch) < loss


def test_the_second_update_leaves_the_subject_head_alone(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS)
    before = parts(technique)
    _, first = technique.update_generator(signal_of(technique, batch))
    assert changed(technique, before) == {ENCODER, GENERATOR_HEAD, STATISTICS}
    _, second = technique.update_generator(signal_of(technique, batch))
    assert second < first


def test_the_third_update_changes_the_encoder_alone_and_raises_the_subject_loss(
    make_technique: Make, batch: Batch
) -> None:
    technique = make_technique(Adversarial, COUNTS)
    before, loss = parts(technique), subject_loss(technique, batch)
    assert technique.update_encoder(signal_of(technique, batch)) == pytest.approx(loss, rel=1e-5)
    assert changed(technique, before) == {ENCODER, STATISTICS}
    assert subject_loss(technique, batch) > loss


@pytest.mark.parametrize(("stable", "forwards"), [(False, 3), (True, 1)])
def test_three_forward_passes_feed_the_statistics_or_only_the_second(
    make_technique: Make, batch: Batch, stable: bool, forwards: int
) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=stable, adversary_start=0)
    technique.update(batch)
    counted = [int(b) for name, b in technique.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert counted == [forwards] * 2


def test_the_subject_losses_bounds_are_constants_of_the_log(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS)
    assert set(technique.update(batch)) == {"loss", "accuracy", "subject_loss", "adversary_loss"}
    # thirds of: H(3/4, 1/4), ln 2, 0
    expected = (0.75 * math.log(4 / 3) + 0.25 * math.log(4) + math.log(2)) / 3
    assert technique.constants() == pytest.approx({"h_s_given_g": expected, "ln_subjects": math.log(2)})


def test_the_papers_maximum_is_unbounded(make_technique: Make, batch: Batch) -> None:
    """PAPER, "What is known to go wrong": the encoder learns to make the subject head wrong."""
    technique = make_technique(Adversarial, COUNTS, lr=0.05)
    for _ in range(60):
        loss = technique.update_encoder(signal_of(technique, batch))
    assert loss > 2 * math.log(2)


# Adversarial, stable


def test_stable_changes_no_statistics_in_the_first_and_the_third_update(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0)
    before = parts(technique)
    technique.update_subject_head(signal_of(technique, batch))
    assert changed(technique, before) == {SUBJECT_HEAD}
    technique.update_encoder(signal_of(technique, batch))
    assert changed(technique, before) == {SUBJECT_HEAD, ENCODER}
    technique.update_generator(signal_of(technique, batch))
    assert changed(technique, before) == {SUBJECT_HEAD, ENCODER, GENERATOR_HEAD, STATISTICS}


def test_stable_leaves_the_encoder_alone_before_its_start_and_ramps_up_after(
    make_technique: Make, batch: Batch
) -> None:
    steps = []
    for epoch in range(5):
        technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=2, adversary_ramp=2)
        technique.start_epoch(epoch)
        before = parts(technique)
        technique.update_encoder(signal_of(technique, batch))
        after = parts(technique)
        steps.append(max(float((after[ENCODER][n] - b).abs().max()) for n, b in before[ENCODER].items()))
    assert steps[:2] == [0, 0]
    # Adam's first step is as long as its rate: .1 of 1e-3, of which the first ramped epoch takes a half
    assert steps[2] == pytest.approx(0.5e-4, rel=0.02)
    assert steps[3:] == pytest.approx([1e-4, 1e-4], rel=0.02)


def test_the_ramp_does_not_wear_the_rate_down(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0, adversary_ramp=4)
    for _ in range(3):
        technique.update_encoder(signal_of(technique, batch))
    rates = [group["lr"] for group in technique.steppers["adversary"].optimizer.param_groups]
    # a quarter of the ramp at a tenth of the rate
    assert rates == pytest.approx([0.25e-4])


def test_the_third_rate_follows_the_second_ones_schedule(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(
        Adversarial, COUNTS, stable=True, adversary_start=1, adversary_ramp=1, schedule="onecycle"
    )
    for epoch in (0, 1):
        technique.start_epoch(epoch)
        for _ in range(4):
            technique.update(batch)
    rates = [technique.steppers[name].optimizer.param_groups[0]["lr"] for name in ("adversary", "generator")]
    assert rates[0] == pytest.approx(0.1 * rates[1])


def test_an_adversary_without_weight_leaves_the_encoder_alone(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0, adversary_weight=0.0)
    before = parts(technique)
    technique.update_encoder(signal_of(technique, batch))
    assert changed(technique, before) == set()


def test_a_generator_with_one_subject_gives_the_encoder_no_gradient(make_technique: Make, make_batch: Make) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0)
    before = parts(technique)
    technique.update_encoder(signal_of(technique, make_batch([2, 2, 2, 2], [0, 0, 0, 0])))
    assert changed(technique, before) == set()


def test_beyond_the_subjects_entropy_nothing_more_is_unlearned(make_technique: Make, make_batch: Make) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0)
    batch = make_batch([1, 1, 1, 1], [0, 1, 0, 1])
    with torch.no_grad():
        technique.subject_head.weight.mul_(0.05)
        technique.subject_head.bias.copy_(torch.tensor([0.0, 0.0]))
    # a head whose bias is off for every image has losses on both sides of ln 2
    only_cats = make_batch([1, 1, 1, 1], [0, 0, 0, 0])
    with torch.no_grad():
        technique.subject_head.bias.copy_(torch.tensor([-2.0, 2.0]))
    assert subject_loss(technique, only_cats) > math.log(2)
    before = parts(technique)
    technique.update_encoder(signal_of(technique, only_cats))
    assert changed(technique, before) == set()
    technique.update_encoder(signal_of(technique, batch))
    assert changed(technique, before) == {ENCODER}


def test_stable_tells_the_subject_head_the_generator(make_technique: Make) -> None:
    plain, stable = (make_technique(Adversarial, COUNTS, stable=stable) for stable in (False, True))
    assert stable.subject_head.in_features == plain.subject_head.in_features + len(COUNTS)


def test_a_long_third_step_is_clipped(make_technique: Make, batch: Batch) -> None:
    technique = make_technique(Adversarial, COUNTS, stable=True, adversary_start=0, adversary_clip=1e-3)
    technique.update_encoder(signal_of(technique, batch))
    gradients = [p.grad for p in technique.network.encoder.parameters() if p.grad is not None]
    assert float(torch.stack([g.norm() for g in gradients]).norm()) == pytest.approx(1e-3, rel=0.02)


# The losses


@pytest.mark.parametrize("target", range(7))
def test_double_softmax_bounds_a_seven_way_loss(make_technique: Make, target: int) -> None:
    """PAPER: [1.165, 2.165], whatever the logits."""
    counts = {f"g{i}": {"cat": 1, "dog": 1} for i in range(7)}
    technique = make_technique(Baseline, counts, double_softmax=True)
    logits = torch.full((1, 7), -1e4)
    logits[0, 3] = 1e4
    loss = float(technique.generator_loss(logits, torch.tensor([target])))
    assert loss == pytest.approx(1.165 if target == 3 else 2.165, abs=0.001)
    literal = float(make_technique(Baseline, counts).generator_loss(logits, torch.tensor([target])))
    assert literal == pytest.approx(0 if target == 3 else 2e4, abs=1e-3)


def test_the_baselines_update_is_adam_on_the_cross_entropy(make_technique: Make, batch: Batch) -> None:
    technique, twin = (make_technique(Baseline, COUNTS) for _ in range(2))
    adam = torch.optim.Adam(twin.network.parameters(), lr=1e-3, betas=(0.9, 0.999))
    for _ in range(3):
        logged = technique.update(batch)
        loss = nn.functional.cross_entropy(twin.network.classify(batch.inputs, batch.state), batch.generator)
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert logged["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    for one, other in zip(technique.network.parameters(), twin.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in TECHNIQUES if name != "finetune"])
def test_every_technique_learns_a_batch_by_heart(make_technique: Make, batch: Batch, name: str) -> None:
    technique = make_technique(TECHNIQUES[name], COUNTS, lr=0.02)
    first = technique.update(batch)
    for _ in range(40):
        technique.end_epoch()
        last = technique.update(batch)
    assert last["loss"] < first["loss"]
    assert 0 <= last["accuracy"] <= 1


# Fine-tuning


@pytest.fixture
def pictures(labelled: Any) -> list[Row]:
    return [Row(labelled / "alpha" / s / f"{i:02}.png", "alpha", s) for s in ("face", "horse") for i in range(3)]


def test_finetune_changes_the_head_alone(make_technique: Make, pictures: list[Row], toy_recipe: Recipe) -> None:
    technique = make_technique(Finetune, {"alpha": {"face": 3, "horse": 3}, "beta": {"face": 1}})
    before = parts(technique)
    dataset = ImageDataset(pictures, ("alpha", "beta"), ("face", "horse"), toy_recipe, 0)
    technique.network.train()  # as it comes from a fresh Network: features must not feed BatchNorm even so
    inputs = technique.inputs(dataset)
    technique.start_epoch(0)
    features = torch.stack([inputs[0, i][0] for i in range(6)])
    technique.update(Batch(features, *(torch.zeros(6, dtype=torch.int64) for _ in range(3))))
    assert changed(technique, before) == {GENERATOR_HEAD}
    assert not technique.network.training


def test_finetunes_features_give_the_logits_that_a_scan_averages(
    make_technique: Make, pictures: list[Row], toy_recipe: Recipe
) -> None:
    technique = make_technique(Finetune, {"alpha": {"face": 3, "horse": 3}, "beta": {"face": 1}})
    dataset = ImageDataset(pictures, ("alpha", "beta"), ("face", "horse"), toy_recipe, 0)
    feature = technique.inputs(dataset)[0, 4][0]
    grid = torch.from_numpy(dataset.grid_views(4))
    assert len(grid) == 4
    one = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        expected, _ = technique.network.eval()(grid, torch.zeros(4, dtype=torch.int64), one)
        assert torch.allclose(technique.network.generator_head(feature[None], one), expected, atol=1e-5)


def test_finetune_is_sgd_with_momentum(make_technique: Make) -> None:
    technique = make_technique(Finetune, COUNTS)
    head = technique.network.generator_head
    weight, bias = head.weight[0].detach().clone(), head.bias[0].detach().clone()
    features, target = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    speeds = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(3):
        probabilities = (features @ weight.T + bias).softmax(dim=1)
        error = (probabilities - nn.functional.one_hot(target, 3)) / 4
        speeds = 0.9 * speeds[0] + error.T @ features, 0.9 * speeds[1] + error.sum(dim=0)
        weight, bias = weight - 1e-3 * speeds[0], bias - 1e-3 * speeds[1]
        technique.update(Batch(features, target, target, torch.zeros_like(target)))
        assert torch.allclose(head.weight[0], weight, atol=1e-6)
        assert torch.allclose(head.bias[0], bias, atol=1e-6)


def test_the_discriminant_is_fishers(
    make_technique: Callable[..., Technique], make_batch: Callable[..., Batch]
) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    technique = make_technique(Discriminant, {"a": {"x": 8}, "b": {"x": 30}, "c": {"x": 10}}, shrinkage=0.0)
    batches = [make_batch([0, 1, 1, 2, 1, 1, 0, 2] * 3, [0] * 24, seed) for seed in range(4)]
    for batch in batches:
        technique.update(batch)
    technique.end_epoch()
    network = technique.network
    with torch.no_grad():
        features = torch.cat([network.features(batch.inputs, batch.state) for batch in batches]).double().numpy()
        logits = torch.cat([network.classify(batch.inputs, batch.state) for batch in batches])
    found = logits.argmax(dim=1).numpy()
    targets = torch.cat([batch.generator for batch in batches]).numpy()
    fisher = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(features, targets)
    assert (found == fisher.predict(features)).mean() > 0.97
    assert (found == targets).mean() > 0.4


# States


class ThreeStates(SmallResNet):
    """Has a head for each of three states."""

    states = ("lossless", "webp", "jpeg-80")


def three_states(kind: type[Technique], **settings: Any) -> Technique:
    torch.manual_seed(0)
    context = Context(("a", "b"), ("x", "y"), {"a": {"x": 8}, "b": {"x": 8, "y": 2}}, 4, 0)
    technique = kind(Network(ThreeStates(), 2), kind.settings_type(**settings), context)
    technique.start_epoch(0)
    return technique


def test_the_discriminant_of_a_state_is_that_of_its_images_alone(make_batch: Make) -> None:
    first, second = (make_batch([0, 1] * 8, [0] * 16, seed) for seed in (1, 2))
    names = ("inputs", "generator", "subject", "state")
    both = Batch(*(torch.cat([getattr(batch, name) for batch in (first, second)]) for name in names))
    mixed, alone = three_states(Discriminant), three_states(Discriminant)
    mixed.update(replace(both, state=torch.tensor([0] * 16 + [2] * 16)))
    alone.update(first)
    for technique in (mixed, alone):
        technique.end_epoch()
    found, expected = (one.network.generator_head for one in (mixed, alone))
    assert torch.equal(found.weight[0], expected.weight[0])
    assert torch.equal(found.bias[0], expected.bias[0])
    assert not torch.allclose(found.weight[0], found.weight[2])
    assert not found.weight[1].any()  # of a state without an image there is nothing to say


@pytest.mark.parametrize("name", [name for name in TECHNIQUES if name not in ("discriminant", "finetune")])
def test_a_batch_teaches_the_heads_of_its_own_states(make_batch: Make, name: str) -> None:
    technique = three_states(TECHNIQUES[name])
    before = technique.network.generator_head.weight.detach().clone()
    technique.update(replace(make_batch([0, 1, 0, 1], [0, 1, 0, 0]), state=torch.tensor([0, 2, 2, 0])))
    changed_heads = (technique.network.generator_head.weight != before).flatten(1).any(dim=1)
    assert changed_heads.tolist() == [True, False, True]
