"""What a person sees of a training while it runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forensic_train import live
from forensic_train.fit import FitOptions, fit
from forensic_train.live import LiveTable
from forensic_train.run import Run, RunConfig
from forensic_train.techniques.baseline import Baseline

Make = Callable[..., Any]
LINE = r"baseline: epoch {}/3  loss \d\.\d{{3}}  accuracy \d\.\d{{3}}  val_loss \d\.\d{{3}}  val_accuracy \d\.\d{{3}}"
ERASED = "\x1b[2K"
"""What a terminal gets to erase a line."""


def train(make_fit: Make, folder: Path, epochs: int = 3, resume: bool = False) -> None:
    run = Run(folder)
    run.begin(RunConfig("baseline", "toy", 5, {"epochs": 3}, ("a", "b"), ("x",), "digest"), torch.device("cpu"), resume)
    technique, dataset = make_fit(Baseline, epochs=epochs)
    fit(technique, dataset, run, FitOptions(resume=resume), validation=dataset)


def test_a_terminal_shows_a_table_of_the_epochs_and_keeps_one_line(
    make_fit: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    train(make_fit, tmp_path)
    shown = capsys.readouterr().err
    table, left = shown[: shown.rindex(ERASED)], shown[shown.rindex(ERASED) :]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", table)
    last = plain[plain.rindex("epoch   ") :].split()
    assert last[:6] == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "time"]
    rows = "".join(rf"{epoch} (\d\.\d{{3}} ){{4}}\d+ s " for epoch in (1, 2, 3))
    assert re.match(rf"{rows}baseline .* 12/12 \d:\d\d:\d\d about 0 h 00 min left", " ".join(last[6:]))
    assert re.fullmatch(rf"(\x1b\[[0-9;?]*[A-Za-z]|\r)*{LINE.format(3)}\n", left)


def test_a_log_gets_a_line_from_time_to_time(
    make_fit: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_fit, tmp_path / "quick")
    assert re.fullmatch(LINE.format(3) + "\n", capsys.readouterr().err)
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    train(make_fit, tmp_path / "slow", epochs=1)
    capsys.readouterr()
    train(make_fit, tmp_path / "slow", resume=True)
    left = r"  about \d+ h \d\d min left"
    assert re.fullmatch(f"{LINE.format(2)}{left}\n{LINE.format(3)}\n", capsys.readouterr().err)
    monkeypatch.setattr(live, "_PAUSE_WITHIN", 0.0)
    table = LiveTable("adversarial", 2, 10, is_shown=True)
    with table:
        table.show([], 4)  # the beginning, after a resume: nothing to tell yet
        table.show([], 5, {"loss": 1.5})
    assert re.fullmatch(r"adversarial: epoch 1/2  loss 1\.500  about 0 h 00 min left\n", capsys.readouterr().err)


def test_the_best_epoch_stays_in_a_long_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    losses = [3.0, 1.0, 1.0, *(2.0 for _ in range(11))]
    finished = [{"epoch": i + 1, "seconds": 60, "val_loss": loss} for i, loss in enumerate(losses)]
    with LiveTable("baseline", 20, 10, is_shown=True) as table:
        table.show(finished, 5, {"val_loss": 0.5})
    shown = capsys.readouterr().err
    shown = shown[shown.rindex("\x1b[1mepoch") :]
    assert re.findall(r"\x1b\[32m *(\d+)", shown)[:1] == ["3"]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.findall(r"^ *(\d+) +\d\.\d{3}", plain, re.MULTILINE) == ["3", *map(str, range(5, 15)), "15"]
