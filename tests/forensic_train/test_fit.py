"""The fit loop and the run on disk: the same weights every time, interrupted or not."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from forensic_cli.errors import TrainingError
from forensic_train import fit as fit_module
from forensic_train.fit import FitOptions, fit
from forensic_train.loader import Batch
from forensic_train.run import CONFIG_FILE, Run, RunConfig, read_split, trained_techniques
from forensic_train.techniques import TECHNIQUES
from forensic_train.techniques.base import Technique
from forensic_train.techniques.baseline import Baseline
from toy_training import PlainEncoder

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

        def update(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.updates += 1
            if self.updates > after:
                raise KeyboardInterrupt
            logged: dict[str, torch.Tensor] = super().update(batch)
            return logged

    return Interrupted


def test_one_seed_gives_the_same_weights_and_another_does_not(make_fit: Make, tmp_path: Path) -> None:
    trained = []
    for i, seed in enumerate((5, 5, 6)):
        technique, dataset = make_fit(Baseline, seed=seed)
        fit(technique, dataset, begun(tmp_path / str(i)), FitOptions(resume=False, workers=0))
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
    history = fit(whole, dataset, begun(tmp_path / "whole"), FitOptions(resume=False, workers=0))

    run = begun(tmp_path / "broken")
    broken, dataset = make_fit(interrupted(TECHNIQUES[name], after=6), **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, dataset, run, FitOptions(resume=False, workers=0))
    assert len(run.load(CPU)[1]["history"]) == 1  # 30 images are 4 updates an epoch: the second was broken off

    resumed, dataset = make_fit(TECHNIQUES[name], **settings)
    again = fit(resumed, dataset, run, FitOptions(resume=True, workers=0))
    assert same(whole, resumed)
    assert [{**e, "seconds": 0} for e in again] == [{**e, "seconds": 0} for e in history]


def test_the_loader_processes_do_not_change_the_weights(make_fit: Make, tmp_path: Path) -> None:
    alone, dataset = make_fit(Baseline, epochs=1)
    fit(alone, dataset, begun(tmp_path / "0"), FitOptions(resume=False, workers=0))
    helped, dataset = make_fit(Baseline, epochs=1)
    fit(helped, dataset, begun(tmp_path / "1"), FitOptions(resume=False, workers=1))
    assert same(alone, helped)


@pytest.mark.parametrize("name", ["baseline", "adversarial", "discriminant"])
def test_a_run_stopped_within_an_epoch_goes_on_there(
    make_fit: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Checkpoints by the minute: here there is one after every update."""
    monkeypatch.setattr(fit_module, "_LOOK", 1)
    options = FitOptions(checkpoint_minutes=0)
    whole, dataset = make_fit(TECHNIQUES[name])
    history = fit(whole, dataset, begun(tmp_path / "whole"), options)

    run = begun(tmp_path / "broken")
    broken, dataset = make_fit(interrupted(TECHNIQUES[name], after=6))
    with pytest.raises(KeyboardInterrupt):
        fit(broken, dataset, run, options)
    stored = run.load(CPU)[1]
    assert (len(stored["history"]), stored["updates"]) == (1, 2)  # 30 images are 4 updates an epoch

    resumed, dataset = make_fit(interrupted(TECHNIQUES[name], after=2))
    again = fit(resumed, dataset, run, replace(options, resume=True))
    assert same(whole, resumed)
    assert [{**e, "seconds": 0} for e in again] == [{**e, "seconds": 0} for e in history]


@pytest.mark.parametrize("name", ["baseline", "weighted", "adversarial"])
def test_accumulated_gradients_are_those_of_the_whole_batch(make_fit: Make, tmp_path: Path, name: str) -> None:
    """Up to rounding, without BatchNorm, which would see the parts."""
    trained = []
    for parts in (1, 3):
        technique, dataset = make_fit(TECHNIQUES[name], encoder=PlainEncoder, accumulate=parts)
        fit(technique, dataset, begun(tmp_path / str(parts)), FitOptions())
        trained.append(flat(technique))
    whole, accumulated = trained
    for entry, value in whole.items():
        if isinstance(value, torch.Tensor) and "modules" in entry:
            assert torch.allclose(value, accumulated[entry], atol=2e-5), entry


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", ["baseline", "adversarial"])
def test_16_bits_train_nearly_as_32_do(make_fit: Make, tmp_path: Path, name: str, precision: str) -> None:
    losses = []
    for kind in ("32", precision):
        technique, dataset = make_fit(TECHNIQUES[name], precision=kind)
        losses.append(fit(technique, dataset, begun(tmp_path / kind), FitOptions())[-1]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_training_stops_when_validation_stops_improving_and_the_best_weights_are_kept(
    make_fit: Make, tmp_path: Path
) -> None:
    class Worse(Baseline):
        def end_epoch(self) -> None:
            if len(history) >= 2:  # from the third epoch on
                with torch.no_grad():
                    self.network.generator_head.bias += torch.tensor([5.0, -5.0, 0.0])
            history.append(self.network.generator_head.bias.detach().clone())

    history: list[torch.Tensor] = []
    run = begun(tmp_path)
    technique, dataset = make_fit(Worse, epochs=9, patience=2, keep="best")
    log = fit(technique, dataset, run, FitOptions(), validation=dataset)
    losses = [entry["val_loss"] for entry in log]
    best = losses.index(min(losses))
    assert len(log) == best + 3 < 9
    weights, is_finished = run.weights("best")
    assert is_finished
    assert torch.equal(weights["generator_head.bias"], history[best])
    assert torch.equal(run.weights("last")[0]["generator_head.bias"], history[-1])
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_validation_within_an_epoch_is_logged_and_changes_nothing(make_fit: Make, tmp_path: Path) -> None:
    plain, dataset = make_fit(Baseline)
    fit(plain, dataset, begun(tmp_path / "plain"), FitOptions())
    watched, dataset = make_fit(Baseline)
    _, held = make_fit(Baseline)
    fit(watched, dataset, begun(tmp_path / "watched"), FitOptions(validate_every=2), validation=held)
    assert same(plain, watched)
    lines = (tmp_path / "watched" / "validation.jsonl").read_text().splitlines()
    assert [(json.loads(line)["epoch"], json.loads(line)["update"]) for line in lines] == [
        (1, 2),
        (1, 4),
        (2, 2),
        (2, 4),
    ]


def test_the_average_of_the_weights_is_what_is_exported(make_fit: Make, tmp_path: Path) -> None:
    class Remembers(Baseline):
        def after_update(self) -> None:
            super().after_update()
            met.append(self.network.generator_head.bias.detach().clone())

    met: list[torch.Tensor] = []
    run = begun(tmp_path)
    technique, dataset = make_fit(Remembers, ema=0.5)
    start = technique.network.generator_head.bias.detach().clone()
    fit(technique, dataset, run, FitOptions())
    mean = start
    for bias in met:
        mean = 0.5 * mean + 0.5 * bias
    assert torch.allclose(run.weights("last")[0]["generator_head.bias"], mean, atol=1e-6)


def test_a_finished_run_is_resumed_to_itself(make_fit: Make, tmp_path: Path) -> None:
    run = begun(tmp_path)
    technique, dataset = make_fit(Baseline)
    history = fit(technique, dataset, run, FitOptions(resume=False, workers=0))
    again, dataset = make_fit(Baseline, seed=99)
    assert fit(again, dataset, run, FitOptions(resume=True, workers=0)) == history
    assert same(technique, again)


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_epoch(make_fit: Make, tmp_path: Path) -> None:
    class Breaks(Baseline):
        epoch = 0

        def start_epoch(self, epoch: int) -> None:
            super().start_epoch(epoch)
            self.epoch = epoch

        def update(self, batch: Batch) -> dict[str, torch.Tensor]:
            logged = super().update(batch)
            return {**logged, "loss": torch.tensor(float("nan"))} if self.epoch == 1 else logged

    run = begun(tmp_path)
    technique, dataset = make_fit(Breaks)
    with pytest.raises(TrainingError) as caught:
        fit(technique, dataset, run, FitOptions(resume=False, workers=0))
    assert str(caught.value) == (
        f"baseline: loss is not a finite number in epoch 2; the last checkpoint is kept in {tmp_path}; "
        "try a lower --lr or --set clip_norm=1, with another --output"
    )
    short, dataset = make_fit(Baseline, epochs=1)
    fit(short, dataset, begun(tmp_path / "short"), FitOptions(resume=False, workers=0))
    state, progress = run.load(CPU)
    assert [entry["epoch"] for entry in progress["history"]] == [1]
    kept, _ = make_fit(Baseline)
    kept.load(state)
    assert same(kept, short)


def test_a_rate_that_is_too_high_is_noticed_in_the_first_epoch(make_fit: Make, tmp_path: Path) -> None:
    technique, dataset = make_fit(Baseline, lr=1e30)
    with pytest.raises(TrainingError, match="is not a finite number in epoch 1; there is no checkpoint; try a lower"):
        fit(technique, dataset, begun(tmp_path), FitOptions(resume=False, workers=0))
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
        assert reader.fieldnames == ["epoch", "seconds", *columns, "val_loss", "val_accuracy"]
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
    run.save({}, {"history": [{"epoch": 1, "loss": 0.5}]})
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


def test_pretrained_weights_come_from_a_file_and_are_noted(tmp_path: Path) -> None:
    from torchvision.models import resnet50

    from forensic_train.encoders import ResNet50

    torch.manual_seed(3)
    given = resnet50(weights=None)
    torch.save(given.state_dict(), tmp_path / "resnet50.pth")
    encoder = ResNet50()
    encoder.load_pretrained(tmp_path / "resnet50.pth")
    assert torch.equal(encoder.body.conv1.weight, given.conv1.weight)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"notes.txt: not a state_dict of torchvision's resnet50 \("):
        encoder.load_pretrained(tmp_path / "notes.txt")
