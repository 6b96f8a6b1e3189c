"""The page on scale: its tables follow from the figures, and the simulation from the formulas."""

import pytest

from benchmarks.scale_plan import (
    PAGE,
    RECIPES,
    Failures,
    Simulation,
    bottleneck,
    capacities,
    elapsed,
    in_unit,
    part_seconds,
    reached,
    read_figures,
    read_record,
    rough,
    tables,
    updated,
    worker_seconds,
)

AGREEMENT = 0.02
"""Largest relative difference between simulation and formula; the page quotes it."""
FEW = 8
"""Workers that no shared resource limits."""
MOST_WORDS = 1000
FIGURES = read_figures()
DISTURBED: dict[str, dict[str, float]] = {
    "driver": {"driver_seconds_per_part": 15.0},
    "listing": {"listing_seconds_per_file": 0.015},
    "network": {"store_bytes_per_second": 5e6},
    "writer": {"writer_seconds_per_row": 0.06},
}
"""{resource: a figure that makes it too slow for FEW workers}."""


def agrees(rate: float, expected: float) -> bool:
    return rate == pytest.approx(expected, rel=AGREEMENT)


# The page


def test_the_tables_of_the_page_follow_from_the_figures() -> None:
    page, made = PAGE.read_text(encoding="utf-8"), tables()
    assert all(f"<!-- made: {name} -->" in page for name in made)
    assert page == updated(page, made), "run PYTHONPATH=. python tests/benchmarks/scale_plan.py --write"


def test_the_page_is_short_and_quotes_the_agreement() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(" ".join(line for line in lines if not line.startswith(("|", "<!--"))).split()) < MOST_WORDS
    assert f"agree within {AGREEMENT:.0%}" in " ".join(lines)


def test_every_figure_has_a_value_a_unit_and_a_source() -> None:
    for entries in read_record().values():
        for name, entry in entries.items():
            assert entry["value"] > 0, name
            assert entry["unit"], name
            assert entry["from"], name


@pytest.mark.parametrize(
    ("value", "text"), [(0.00022, "0.00022"), (3.14159, "3.1"), (99.6, "100"), (12_345.0, "12,000")]
)
def test_numbers_are_rounded_to_two_digits(value: float, text: str) -> None:
    assert rough(value) == text


def test_a_value_is_in_the_largest_unit_that_suits_it() -> None:
    units = {"h": 3600.0, "min": 60.0, "s": 1.0}
    assert [in_unit(value, units) for value in (7200, 3700, 0.5)] == ["2 h", "62 min", "0.5 s"]


# The formulas


def test_parts_are_the_most_workers_that_help() -> None:
    ten_parts = int(10 * FIGURES["part_size"])
    times = [elapsed(FIGURES, "native", ten_parts, workers) for workers in (1, 5, 10, 100)]
    assert times[2] == times[3] == FIGURES["worker_start_seconds"] + worker_seconds(FIGURES, "native")
    assert times[0] > times[1] > times[2]


def test_a_limit_is_reached_where_workers_judge_more_than_the_resource_serves() -> None:
    workers, rate = reached(FIGURES, "native", "writer")
    fewer, more = (capacities(FIGURES, "native", number)["worker"] for number in (workers - 1, workers))
    assert fewer <= rate < more


def test_reading_one_file_at_a_time_adds_to_the_judging() -> None:
    slow_store = FIGURES | {"store_latency_seconds": 1.0, "reads_at_once": 1.0}
    rates = [capacities(f, "native", 1)["worker"] for f in (slow_store, slow_store | {"reads_at_once": 4.0})]
    assert rates[1] == pytest.approx(4 * rates[0], rel=0.01)


# The simulation


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("workers", [FEW, 32])
def test_the_simulation_agrees_with_the_formula_where_workers_limit(recipe: str, workers: int) -> None:
    result = Simulation(FIGURES, recipe, workers).run()
    assert agrees(result["rate"], capacities(FIGURES, recipe, workers)["worker"])
    assert bottleneck(result) == "worker"


@pytest.mark.parametrize("resource", DISTURBED)
def test_a_resource_that_is_too_slow_is_named_and_limits_as_the_formula_says(resource: str) -> None:
    slow = FIGURES | DISTURBED[resource]
    result = Simulation(slow, "native", FEW).run()
    assert bottleneck(result) == resource
    limit = min(capacities(slow, "native", FEW).values())
    assert agrees(result["rate"], limit)
    assert limit < capacities(slow, "native", FEW)["worker"]


def test_more_failures_mean_less_throughput() -> None:
    rates = []
    for per_million in (1.0, 100.0, 500.0):
        often = FIGURES | {"worker_failures_per_million_images": per_million}
        result = Simulation(often, "native", 32).run()
        # The formula knows the work that is done in vain, and not that all wait for the oldest part
        assert result["rate"] < capacities(often, "native", 32)["worker"] * (1 + AGREEMENT)
        rates.append((result["rate"], -result["lost"]))
    assert rates == sorted(rates, reverse=True)


def test_more_open_parts_keep_workers_busy_while_a_failed_part_is_judged_again() -> None:
    often = FIGURES | {"worker_failures_per_million_images": 100.0}
    few, many = (Simulation(often | {"parts_open_per_worker": number}, "native", 32).run() for number in (2.0, 8.0))
    assert bottleneck(few) == "order"
    assert bottleneck(many) == "worker"
    assert agrees(many["rate"], capacities(often, "native", 32)["worker"])


def test_a_file_that_kills_workers_costs_what_the_formula_says() -> None:
    hostile = FIGURES | {"hostile_share": 1e-4, "parts_open_per_worker": 100.0}
    result = Simulation(hostile, "native", 32).run()
    failures = Failures.of(hostile, "native")
    load = part_seconds(hostile, "native")["worker"]
    in_vain = failures.again * load + failures.workers_lost * hostile["worker_start_seconds"]
    assert result["lost"] == pytest.approx(in_vain / worker_seconds(hostile, "native"), rel=0.25)


def test_a_seed_gives_the_same_simulation_again() -> None:
    first, again, other = (Simulation(FIGURES, "native", FEW, seed).run() for seed in (0, 0, 1))
    assert first == again != other
