"""The fit loop and the run on disk: the same weights every time, interrupted or not."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forensic_cli.errors import TrainingError
from forensic_train.dataset import Batch
from forensic_train.fit import fit
from forensic_train.run import CONFIG_FILE, Run, RunConfig, read_split, trained_techniques
from forensic_train.techniques import TECHNIQUES
from forensic_train.techniques.base import Technique
from forensic_train.techniques.baseline import Baseline

Make = Callable[..., Any]
CPU = torch.device("cpu")


def config(**more: Any) -> RunConfig:
    return RunConfig("baseline", "toy", 5, {"epochs": 2}, ("a", "b"), ("x",), "digest", **more)


def begun(folder: Path) -> Run:
    run = Run(folder)
    run.begin(config(), CPU, resume=False)
    return run


def flat(technique: Technique) -> dict[str, Any]:
    """Return everything that training decides: weights, statistics, and the optimisers' memories."""
    found: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk(f"{name}.{i}", inner)
        else:
            found[name] = value

    walk("", technique.state())
    return found


def same(one: Technique, other: Technique) -> bool:
    a, b = flat(one), flat(other)
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name] for name in a
    )


def interrupted(kind: type[Technique], after: int) -> type[Technique]:
    """Return the technique with a user who presses Ctrl-C in update number `after`."""

    class Interrupted(kind):  # type: ignore[misc, valid-type]
        updates = 0

        def update(self, batch: Batch) -> dict[str, float]:
            self.updates += 1
            if self.updates > after:
                raise KeyboardInterrupt
            logged: dict[str, float] = super().update(batch)
            return logged

    return Interrupted


def test_one_seed_gives_the_same_weights_and_another_does_not(make_fit: Make, tmp_path: Path) -> None:
    trained = []
    for i, seed in enumerate((5, 5, 6)):
        technique, dataset = make_fit(Baseline, seed=seed)
        fit(technique, dataset, begun(tmp_path / str(i)), resume=False, workers=0)
        trained.append(technique)
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


@pytest.mark.parametrize("name", ["weighted", "adversarial"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"schedule": "onecycle", "epochs": 3}],
    ids=["constant", "onecycle"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_fit: Make, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    if name == "adversarial":
        settings = {**settings, "stable": True, "adversary_start": 0}
    whole, dataset = make_fit(TECHNIQUES[name], **settings)
    history = fit(whole, dataset, begun(tmp_path / "whole"), resume=False, workers=0)

    run = begun(tmp_path / "broken")
    broken, dataset = make_fit(interrupted(TECHNIQUES[name], after=6), **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, dataset, run, resume=False, workers=0)
    assert len(run.load(CPU)[1]) == 1  # 30 images are 4 updates an epoch: the second was broken off

    resumed, dataset = make_fit(TECHNIQUES[name], **settings)
    again = fit(resumed, dataset, run, resume=True, workers=0)
    assert same(whole, resumed)
    assert [{**e, "seconds": 0} for e in again] == [{**e, "seconds": 0} for e in history]


def test_the_loader_processes_do_not_change_the_weights(make_fit: Make, tmp_path: Path) -> None:
    alone, dataset = make_fit(Baseline, epochs=1)
    fit(alone, dataset, begun(tmp_path / "0"), resume=False, workers=0)
    helped, dataset = make_fit(Baseline, epochs=1)
    fit(helped, dataset, begun(tmp_path / "1"), resume=False, workers=1)
    assert same(alone, helped)


def test_a_finished_run_is_resumed_to_itself(make_fit: Make, tmp_path: Path) -> None:
    run = begun(tmp_path)
    technique, dataset = make_fit(Baseline)
    history = fit(technique, dataset, run, resume=False, workers=0)
    again, dataset = make_fit(Baseline, seed=99)
    assert fit(again, dataset, run, resume=True, workers=0) == history
    assert same(technique, again)


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_epoch(make_fit: Make, tmp_path: Path) -> None:
    class Breaks(Baseline):
        epoch = 0

        def start_epoch(self, epoch: int) -> None:
            super().start_epoch(epoch)
            self.epoch = epoch

        def update(self, batch: Batch) -> dict[str, float]:
            logged = super().update(batch)
            return {**logged, "loss": float("nan")} if self.epoch == 1 else logged

    run = begun(tmp_path)
    technique, dataset = make_fit(Breaks)
    with pytest.raises(TrainingError) as caught:
        fit(technique, dataset, run, resume=False, workers=0)
    assert str(caught.value) == (
        f"baseline: loss is not a finite number in epoch 2; the checkpoint of epoch 1 is kept in {tmp_path}; "
        "try a lower --lr or --set clip_norm=1, with another --output"
    )
    short, dataset = make_fit(Baseline, epochs=1)
    fit(short, dataset, begun(tmp_path / "short"), resume=False, workers=0)
    state, history = run.load(CPU)
    assert [entry["epoch"] for entry in history] == [1]
    kept, _ = make_fit(Baseline)
    kept.load(state)
    assert same(kept, short)


def test_a_rate_that_is_too_high_is_noticed_in_the_first_epoch(make_fit: Make, tmp_path: Path) -> None:
    technique, dataset = make_fit(Baseline, lr=1e30)
    with pytest.raises(TrainingError, match="is not a finite number in epoch 1; no epoch was finished; try a lower"):
        fit(technique, dataset, begun(tmp_path), resume=False, workers=0)
    assert not Run(tmp_path).checkpoint.exists()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("baseline", ["loss", "accuracy"]),
        ("adversarial", ["loss", "accuracy", "subject_loss", "adversary_loss", "h_s_given_g", "ln_subjects"]),
    ],
)
def test_the_log_has_a_line_an_epoch(trained_run: Path, name: str, columns: list[str]) -> None:
    with (trained_run / name / "log.csv").open(newline="") as stream:
        reader = csv.DictReader(stream)
        assert reader.fieldnames == ["epoch", "seconds", *columns]
        assert [line["epoch"] for line in reader] == ["1", "2"]


# The run on disk


def test_a_run_says_how_it_was_made(trained_run: Path) -> None:
    found = Run(trained_run / "baseline").config()
    assert (found.technique, found.recipe, found.seed) == ("baseline", "toy", 3)
    assert (found.labels, found.subjects) == (("alpha", "beta", "gamma"), ("face", "horse"))
    assert found.settings["epochs"] == 2
    environment = json.loads((trained_run / "baseline" / "environment.json").read_text())
    assert {"python", "platform", "device", "packages"} <= set(environment)
    assert {row.split for row in read_split(trained_run)} == {"train", "val", "adapt", "test"}
    assert trained_techniques(trained_run) == ["adversarial", "baseline", "discriminant", "finetune", "weighted"]
    assert list(trained_run.rglob("*.tmp")) == []


def test_a_run_of_another_version_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path)
    raw = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**raw, "run_version": 99}))
    with pytest.raises(TrainingError) as caught:
        run.config()
    assert str(caught.value) == f"{tmp_path}: is a run of version 99, this tool reads 1; train it again"


@pytest.mark.parametrize("text", ["", "[]", "3", '{"run_version": 1}', '{"run_version": 1, "labels": 3}', "\xff"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str) -> None:
    run = begun(tmp_path)
    (tmp_path / CONFIG_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(TrainingError, match="cannot be read"):
        run.config()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(TrainingError, match="has no checkpoint yet; train it without --resume"):
        run.load(CPU)
    run.checkpoint.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(TrainingError, match="remove the run and train it again"):
        run.load(CPU)


def test_a_checkpoint_is_data_and_never_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    run = begun(tmp_path)
    torch.save({"state": Trap(), "history": []}, run.checkpoint)
    with pytest.raises(TrainingError, match="cannot be read"):
        run.load(CPU)
    assert not (tmp_path / "sprung").exists()


def test_a_run_is_never_overwritten_unasked_and_resumed_only_as_it_was(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.save({}, [{"epoch": 1, "loss": 0.5}])
    with pytest.raises(TrainingError) as caught:
        run.begin(config(), CPU, resume=False)
    assert str(caught.value) == f"{tmp_path}: contains a run already; add --resume, or choose another --output"
    run.begin(config(), CPU, resume=True)
    with pytest.raises(TrainingError, match="cannot be resumed, these differ: holdout; repeat"):
        run.begin(config(holdout=("subject=x",)), CPU, resume=True)
    assert run.config() == config()


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not a training run \(it has no split\.csv\)"):
        read_split(tmp_path)
    with pytest.raises(TrainingError, match=r"is not a training run \(it has no config\.json\)"):
        Run(tmp_path).config()
    with pytest.raises(TrainingError, match="contains no trained technique"):
        trained_techniques(tmp_path)
