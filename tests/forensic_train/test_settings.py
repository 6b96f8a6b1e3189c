"""Settings, recipes and seeds: PAPER's defaults, and what a typing error leads to."""

from dataclasses import asdict
from typing import Any, get_args

import pytest
from typer.main import get_command

from forensic_benchmark.recipes import BENCHMARK_RECIPES
from forensic_cli.card import Preprocessing
from forensic_cli.errors import UsageError
from forensic_cli.main import app
from forensic_train.commands.train import Technique
from forensic_train.encoders import ResNet50, SpectralEncoder, StateEncoder
from forensic_train.network import Network
from forensic_train.recipes import NATIVE, PAPER, RECIPES, find_recipe
from forensic_train.seeds import generator_for, seed_for
from forensic_train.settings import make_settings
from forensic_train.techniques import TECHNIQUES, find_techniques

PAPERS = ("baseline", "weighted", "finetune", "adversarial")


@pytest.mark.parametrize("name", PAPERS)
def test_defaults_are_the_papers(name: str) -> None:
    settings = make_settings(TECHNIQUES[name], PAPER, {})
    assert settings.epochs == (75 if name == "finetune" else 25)
    assert (settings.batch_size, settings.lr, settings.schedule) == (4, 1e-3, "constant")
    assert (settings.weight_decay, settings.label_smoothing, settings.clip_norm) == (0, 0, 0)
    assert not settings.double_softmax


def test_finetunes_momentum_and_adversarials_literal_form_are_the_papers() -> None:
    assert asdict(make_settings(TECHNIQUES["finetune"], PAPER, {}))["momentum"] == 0.9
    assert asdict(make_settings(TECHNIQUES["adversarial"], PAPER, {}))["stable"] is False


def test_the_papers_recipe_is_a_resnet_50_on_the_whole_image_at_224() -> None:
    assert PAPER.preprocessing == Preprocessing("whole", 224)
    assert PAPER.augment is None
    network = Network(PAPER.encoder(), 6)
    assert isinstance(network.encoder, ResNet50)
    # torchvision's ResNet-50 has 25,557,032 parameters, 2,049,000 of them in its last layer of 1000
    assert sum(p.numel() for p in network.encoder.parameters()) == 25_557_032 - 2_049_000
    assert tuple(network.generator_head.weight.shape) == (1, 6, 2048)


def test_the_native_recipe_never_resizes_and_brings_its_own_optimiser_settings() -> None:
    # multiples of 32, for a JPEG's blocks to stay where they are, and for patterns to add up
    assert NATIVE.preprocessing == Preprocessing("patches", 128, grid=3, align=32)
    assert isinstance(NATIVE.encoder(), StateEncoder)
    assert isinstance(RECIPES["native-32"].encoder(), SpectralEncoder)
    assert make_settings(TECHNIQUES["baseline"], NATIVE, {}).schedule == "onecycle"
    # finetune trains no encoder: PAPER's settings stay
    assert make_settings(TECHNIQUES["finetune"], NATIVE, {}).epochs == 75


def test_a_users_setting_beats_the_recipes_and_has_the_settings_type() -> None:
    overrides = {"epochs": "3", "lr": "1e-2", "stable": "TRUE", "schedule": "constant", "adversary_clip": "0.5"}
    found = asdict(make_settings(TECHNIQUES["adversarial"], NATIVE, overrides))
    assert {name: found[name] for name in overrides} == {
        "epochs": 3,
        "lr": 0.01,
        "stable": True,
        "schedule": "constant",
        "adversary_clip": 0.5,
    }
    assert isinstance(found["epochs"], int)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "baseline",
            {"epoch": "3"},
            "setting 'epoch' is not known to baseline; allowed: epochs, batch_size, lr, weight_decay, "
            "label_smoothing, schedule, clip_norm, source_balance, precision, accumulate, patience, keep, ema, "
            "double_softmax",
        ),
        (
            "weighted",
            {"stable": "true"},
            "setting 'stable' is not known to weighted; allowed: epochs, batch_size, lr, weight_decay, "
            "label_smoothing, schedule, clip_norm, source_balance, precision, accumulate, patience, keep, ema, "
            "double_softmax",
        ),
        ("baseline", {"epochs": "2.5"}, "setting epochs is '2.5'; it must be a number (int)"),
        ("baseline", {"lr": "fast"}, "setting lr is 'fast'; it must be a number (float)"),
        ("adversarial", {"stable": "yes"}, "setting stable is 'yes'; allowed: true, false"),
        ("baseline", {"schedule": "cosine"}, "setting schedule is 'cosine'; allowed: constant, onecycle"),
        ("baseline", {"epochs": "0"}, "epochs and batch_size must be at least 1, and lr above 0"),
        ("baseline", {"lr": "-1"}, "epochs and batch_size must be at least 1, and lr above 0"),
        ("baseline", {"lr": "nan"}, "epochs and batch_size must be at least 1, and lr above 0"),
    ],
)
def test_a_mistyped_setting_fails_at_once(name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_settings(TECHNIQUES[name], PAPER, overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "setting", "text"),
    [
        ("baseline", "label_smoothing", "2"),
        ("baseline", "weight_decay", "-1"),
        ("finetune", "momentum", "-1"),
        ("baseline", "clip_norm", "nan"),
    ],
)
def test_a_setting_out_of_range_fails_before_training(name: str, setting: str, text: str) -> None:
    """PyTorch would refuse it later, as an internal error, or train on it."""
    with pytest.raises(UsageError, match=setting):
        make_settings(TECHNIQUES[name], PAPER, {setting: text})


def test_a_setting_of_all_is_one_of_each_technique() -> None:
    assert [make_settings(kind, PAPER, {"all.lr": "0.5"}).lr for kind in TECHNIQUES.values()] == [0.5] * len(TECHNIQUES)
    assert make_settings(TECHNIQUES["weighted"], PAPER, {"weighted.lr": "0.1", "all.lr": "0.5"}).lr == 0.1


def test_with_several_techniques_a_setting_of_one_passes_the_others() -> None:
    assert make_settings(TECHNIQUES["baseline"], PAPER, {"stable": "true"}, strict=False).epochs == 25
    with pytest.raises(UsageError, match="setting 'stabel' is not known"):
        make_settings(TECHNIQUES["baseline"], PAPER, {"stabel": "true"}, strict=False)


def test_the_help_page_names_every_technique_and_recipe() -> None:
    group: Any = get_command(app)
    metavars = {option.name: option.metavar for option in group.commands["train"].params}
    assert get_args(Technique) == (*TECHNIQUES, "all")
    benchmark_and_toy = {*BENCHMARK_RECIPES, "toy"}  # a test of the benchmark, and conftest, add these
    assert metavars["recipe"].split("|") == [name for name in RECIPES if name not in benchmark_and_toy]


def test_unknown_names_say_what_is_allowed() -> None:
    with pytest.raises(UsageError) as caught:
        find_techniques("boost")
    assert str(caught.value) == (
        "technique 'boost' is not known; allowed: baseline, weighted, finetune, adversarial, discriminant, all"
    )
    with pytest.raises(UsageError, match="recipe 'tiny' is not known; allowed: native, residual, paper"):
        find_recipe("tiny")


def test_all_is_every_technique_after_the_one_that_it_starts_from() -> None:
    order = [kind.name for kind in find_techniques("all")]
    assert sorted(order) == sorted(TECHNIQUES)
    for kind in find_techniques("all"):
        assert kind.starts_from is None or order.index(kind.starts_from) < order.index(kind.name)


def test_seeds_differ_by_purpose_seed_and_further_numbers() -> None:
    seeds = [seed_for("a", 0), seed_for("b", 0), seed_for("a", 1), seed_for("a", 0, 0), seed_for("a", 0, 1)]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator_for("a", 0).random() == generator_for("a", 0).random()
