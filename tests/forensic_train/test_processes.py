"""Several processes that train together: the same result as one, whichever of them fails, and resumed by any number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from forensic_train.processes import Processes
from forensic_train.run import Run
from toy_training import train_toy
from toys import ROOT, child_environment

TOY_TRAINING = ROOT / "tests" / "toy_training.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
COMPARED = ("weighted", "adversarial", "discriminant")
UNEVEN = {"batch_size": 7}
"""Of 30 images, four batches have seven and the last has two: the shares of two processes differ."""
TOLERANCE = 2e-5
"""Sums of gradients are taken in another order."""


Checkpoint = dict[str, Any]


def checkpoint(output: Path) -> Checkpoint:
    return dict(torch.load(output / "last.ckpt", weights_only=True))


@pytest.fixture(scope="module")
def two(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of what two processes under torchrun have trained: each technique, and half of a run."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [(str(folder / name), name, UNEVEN) for name in COMPARED]
    jobs.append((str(folder / "half"), "adversarial", {"epochs": 1}))
    environment = child_environment(OMP_NUM_THREADS="1")
    environment["PYTHONPATH"] += os.pathsep + str(ROOT / "tests")
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "2", str(TOY_TRAINING), str(labelled), json.dumps(jobs)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def assert_alike(one: Checkpoint, other: Checkpoint) -> None:
    for name, module in one["state"]["modules"].items():
        for key, value in module.items():
            assert torch.allclose(value, other["state"]["modules"][name][key], atol=TOLERANCE), (name, key)
    for ours, theirs in zip(one["history"], other["history"], strict=True):
        for name in set(ours) - {"seconds"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name


@pytest.mark.parametrize("technique", COMPARED)
def test_two_processes_give_the_result_of_one(labelled: Path, two: Path, tmp_path: Path, technique: str) -> None:
    train_toy(Processes(), labelled, tmp_path, technique, **UNEVEN)
    assert_alike(checkpoint(tmp_path), checkpoint(two / technique))


def test_a_run_goes_on_with_another_number_of_processes(labelled: Path, two: Path, tmp_path: Path) -> None:
    train_toy(Processes(), labelled, tmp_path / "whole", "adversarial", epochs=2)
    copytree(two / "half", tmp_path / "parts")
    train_toy(Processes(), labelled, tmp_path / "parts", "adversarial", epochs=2)
    assert_alike(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))


def cli(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "forensic_cli", *map(str, arguments)],
        env=child_environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_the_command_line_starts_processes_that_train_together(labelled: Path, tmp_path: Path) -> None:
    shared = ("--technique", "discriminant", "--data", labelled, "--recipe", "native-32", "--epochs", 2, "--seed", 1)
    outputs = [cli("train", *shared, "--output", tmp_path / str(n), "--processes", n).communicate() for n in (1, 2)]
    assert [error.count("exported to") for _, error in outputs] == [1, 1]  # one process writes and speaks
    one, two = (Run(tmp_path / str(n) / "discriminant") for n in (1, 2))
    ours, theirs = (run.weights("last")[0] for run in (one, two))
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-4), name


def test_a_process_that_dies_is_one_line_and_loses_nothing_before(labelled: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shared = ("--technique", "baseline", "--data", labelled, "--recipe", "native-32", "--output", output)
    child = cli("train", *shared, "--epochs", 5000, "--processes", 2)
    deadline = time.monotonic() + 120
    while not (output / "baseline" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()
        time.sleep(0.2)
    os.kill(max(processes_of(child.pid)), signal.SIGKILL)
    _, error = child.communicate(timeout=120)
    assert child.returncode == 4
    last = error.splitlines()[-1]
    assert last.startswith("genforensic: training process ")
    assert last.endswith("continue from the last checkpoint with --resume")
    assert "Traceback" not in error
    assert len(Run(output / "baseline").load(torch.device("cpu"))[1]["history"]) >= 1


def processes_of(parent: int) -> list[int]:
    """Return the training processes below a command."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, encoding="utf-8", check=False)
    return [int(line) for line in found.stdout.split()]
