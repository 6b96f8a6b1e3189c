"""Which images an epoch is made of."""

from collections import Counter
from collections.abc import Callable

import pytest

from forensic_train.rows import Row
from forensic_train.techniques.adversarial import Adversarial
from forensic_train.techniques.base import Technique
from forensic_train.techniques.baseline import Baseline
from forensic_train.techniques.weighted import Weighted, sampling_weights

Rows = Callable[..., list[Row]]
Make = Callable[..., Technique]
COUNTS = {"a": {"cat": 900}, "b": {"cat": 90}, "c": {"cat": 10}}
CELLS = {("a", "cat"): 900, ("b", "cat"): 90, ("c", "cat"): 10}


def test_an_image_is_drawn_with_one_over_generators_times_its_generators_images(rows_of: Rows) -> None:
    """C_i counts the generator, whatever the subject."""
    rows = rows_of({("a", "cat"): 3, ("a", "dog"): 5, ("b", "cat"): 2})
    assert list(sampling_weights(rows)) == pytest.approx([1 / 16] * 8 + [1 / 4] * 2)
    assert sampling_weights(rows).sum() == pytest.approx(1)


def test_the_papers_weights(rows_of: Rows) -> None:
    weights = sampling_weights(rows_of({("lsgm", "face"): 8480, ("stylegan2", "face"): 35000}))
    assert weights[0] == pytest.approx(1 / (2 * 8480))
    assert weights[-1] == pytest.approx(1 / (2 * 35000))
    assert weights.sum() == pytest.approx(1)


def test_a_weighted_epoch_is_balanced_over_generators(rows_of: Rows, make_technique: Make) -> None:
    rows = rows_of(CELLS)
    technique = make_technique(Weighted, COUNTS)
    drawn = [i for epoch in range(3) for i in technique.sampler(rows, epoch)]
    assert len(drawn) == 3 * len(rows)
    counts = Counter(rows[i].generator for i in drawn)
    # binomial with n = 3000 and p = 1/3: standard deviation 25.8, five of them 129
    assert set(counts) == {"a", "b", "c"}
    assert all(abs(n - 1000) < 130 for n in counts.values())


@pytest.mark.parametrize("kind", [Baseline, Adversarial])
def test_the_others_see_every_image_once_in_an_order_of_its_own_each_epoch(
    kind: type[Technique], rows_of: Rows, make_technique: Make
) -> None:
    rows = rows_of(CELLS)
    technique = make_technique(kind, COUNTS)
    first, second = technique.sampler(rows, 0).tolist(), technique.sampler(rows, 1).tolist()
    assert sorted(first) == sorted(second) == list(range(len(rows)))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("kind", [Baseline, Weighted])
def test_the_order_depends_on_seed_and_epoch_alone(kind: type[Technique], rows_of: Rows, make_technique: Make) -> None:
    rows = rows_of(CELLS)
    again = make_technique(kind, COUNTS, seed=1)
    again.sampler(rows, 0)
    orders = [make_technique(kind, COUNTS, seed=seed).sampler(rows, 3).tolist() for seed in (1, 2)]
    assert again.sampler(rows, 3).tolist() == orders[0] != orders[1]
