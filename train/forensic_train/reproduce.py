"""The paper's experiment on one's own data: audit, the four techniques with several seeds, and their measurement."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from forensic_cli.console import note
from forensic_cli.errors import TrainingError, UsageError
from forensic_cli.model import Model
from forensic_train.audit import Bias, Shortcut, bias_of_rows, check_files, probe_shortcuts
from forensic_train.evaluate import evaluate_model
from forensic_train.manifest import raise_for
from forensic_train.paper import TECHNIQUES
from forensic_train.processes import Processes, join
from forensic_train.protocol import (
    Protocol,
    check_protocol,
    draw_adapt,
    seed_folder,
    shown_images,
    split_images,
    train_options,
)
from forensic_train.rows import Row, Rows
from forensic_train.run import LOG_FILE, read_split, save_split, split_file, technique_run, write_json
from forensic_train.training import go_on, train
from forensic_train.training_plan import split_digest

CONFIG_FILE = "reproduce.json"
AUDIT_FILE = "audit.json"
SEEN, UNSEEN, TEST = "seen", "unseen", "test"
"""Held-out images of seen subjects; all images of the unseen subject; those of them that finetune does not adapt to."""


@dataclass(frozen=True)
class Outcome:
    """What is known when all seeds are finished, or as many as could be."""

    protocol: Protocol
    """What was asked for."""
    rows: Sequence[Row]
    """Images with the split of seed 0, without those left out of all tables: see `left_out`."""
    left_out: int
    """Number of images of other subjects that are unseen because they share a group or bytes with the subject."""
    bias: Bias
    """Of the images that are trained on."""
    shortcuts: Sequence[Shortcut]
    """Of all images; empty if they could not be measured."""
    two_generators: int
    """Number of files that appear under several generators."""
    results: Mapping[str, Sequence[Mapping[str, Any]]]
    """What _measure() returned for each seed, by technique; finished ones only."""
    is_first: bool = True
    """Whether this process writes the report, if several train together."""

    def count(self, *splits: str) -> int:
        """Return the number of images in some splits."""
        return sum(row.split in splits for row in self.rows)

    def lacking(self) -> list[str]:
        """Return the generators that have no image of the unseen subject."""
        shown = {row.generator for row in self.rows if row.split in ("adapt", "test")}
        return [name for name in self.bias.generators if name not in shown]


def reproduce(protocol: Protocol) -> tuple[Outcome, TrainingError | None]:
    """Audit the data, then train and measure everything that the output folder does not have.

    Everything that is missing is reported before the first epoch. If a training fails, the others are run nevertheless;
    the failure is returned beside what was measured, or raised if nothing was. Raises UsageError and DataError.
    """
    rows = split_images(protocol)
    processes = join(protocol.device)
    check_protocol(protocol, rows)
    processes.first_does(partial(_begin, protocol, rows))
    shortcuts, two_generators = _audited(protocol)
    failure = None
    try:
        go_on(
            {
                f"{technique}, seed {seed}": partial(_run, protocol, rows, seed, technique, processes)
                for seed in range(protocol.seeds)
                for technique in TECHNIQUES
            }
        )
    except TrainingError as error:
        failure = error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("everything up to the last checkpoint is kept; repeat the command to go on") from error
    results = {technique: _results(protocol, technique) for technique in TECHNIQUES}
    if failure is not None and not any(results.values()):
        raise failure
    trained = bias_of_rows(rows.where("split", ["train"]))
    shown = shown_images(protocol, rows)
    left_out = len(rows) - len(shown)
    outcome = Outcome(protocol, shown, left_out, trained, shortcuts, two_generators, results, processes.is_first)
    return outcome, failure


def _begin(protocol: Protocol, rows: Sequence[Row]) -> None:
    """Create the output folder with the audit of the files, or check that it belongs to the same protocol.

    Raises UsageError if it does not, and DataError for images that cannot be read.
    """
    mine = {
        "split": split_digest(rows),
        "holdout": protocol.holdout,
        "recipe": protocol.recipe,
        "settings": dict(protocol.overrides),
    }
    path = protocol.output / CONFIG_FILE
    stored = _read(path) if path.exists() else mine
    if changed := [name for name in mine if stored.get(name) != mine[name]]:
        raise UsageError(
            f"{protocol.output}: contains a reproduction with another {', '.join(changed)}; repeat its options, or "
            "choose another --output"
        )
    protocol.output.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)
    path = protocol.output / AUDIT_FILE
    if not path.exists():
        faults = check_files(rows)
        unreadable = [f"{name}: {reason}" for name, reason in faults.unreadable]
        raise_for(unreadable, "images cannot be read", "repair or remove them (`genforensic audit` lists all)")
        shortcuts = [asdict(shortcut) for shortcut in probe_shortcuts(rows)]
        write_json(path, {"shortcuts": shortcuts, "two_generators": len(faults.two_generators)})


def _audited(protocol: Protocol) -> tuple[list[Shortcut], int]:
    """Return the shortcuts, and the number of files under several generators, that _begin() found."""
    stored = _read(protocol.output / AUDIT_FILE)
    return [Shortcut(**shortcut) for shortcut in stored["shortcuts"]], int(stored["two_generators"])


def _run(protocol: Protocol, rows: Rows, seed: int, technique: str, processes: Processes) -> None:
    """Train, export and measure a technique with a seed, unless that is done."""
    result = _result_file(protocol, seed, technique)
    if result.exists():
        return
    folder = seed_folder(protocol, seed)
    if processes.is_first:
        note(f"{technique}, seed {seed} of 0 to {protocol.seeds - 1}")
    if processes.is_first and split_file(folder) is None:
        save_split(folder, draw_adapt(protocol, rows, seed))
    processes.wait()
    exports = train(train_options(protocol, technique, seed), evaluated=False)
    export = exports / f"{protocol.recipe}-{technique}.onnx"
    processes.first_does(lambda: write_json(result, _measure(protocol, export, folder)))


def _measure(protocol: Protocol, export: Path, folder: Path) -> dict[str, Any]:
    """Return the figures on every set of images that the model was not fitted on, as `genforensic evaluate` does."""
    model, rows = Model.load(export, protocol.device), read_split(folder)
    adapted = "adapt" in model.card.training["splits"]
    shown = shown_images(protocol, rows)
    sets = {
        SEEN: shown.where("split", ["val"]),
        UNSEEN: shown.where("split", [] if adapted else ["adapt", "test"]),
        TEST: shown.where("split", ["test"]),
    }
    run = technique_run(folder, model.card.technique)
    return {
        "labels": model.card.labels,
        "settings": model.card.training["settings"],
        "environment": run.environment(),
        "seconds": _seconds(run.folder / LOG_FILE),
        "metrics": {
            name: asdict(evaluate_model(model, chosen, name).metrics) for name, chosen in sets.items() if chosen
        },
    }


def _seconds(log: Path) -> float:
    """Return the time that all epochs took."""
    with log.open(encoding="utf-8", newline="") as stream:
        return sum(float(epoch.get("seconds") or 0) for epoch in csv.DictReader(stream))


def _results(protocol: Protocol, technique: str) -> list[dict[str, Any]]:
    paths = (_result_file(protocol, seed, technique) for seed in range(protocol.seeds))
    return [_read(path) for path in paths if path.exists()]


def _result_file(protocol: Protocol, seed: int, technique: str) -> Path:
    return seed_folder(protocol, seed) / f"{technique}.json"


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises TrainingError for a damaged file."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({type(error).__name__}); remove it, and run again") from error
