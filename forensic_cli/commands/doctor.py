"""`genforensic doctor` and `genforensic models`: does this installation work, and which exports does it have?

Nothing is taken on trust: every export judges a sample, and a GPU counts only if it computes what the CPU computes.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from forensic_cli import __version__
from forensic_cli.commands import TRAINING_MODULES, Exports, Json
from forensic_cli.config import config_files
from forensic_cli.console import print_json, print_text, stdout_console
from forensic_cli.errors import ExitCode, GenforensicError, pip_line
from forensic_cli.tables import MISSING, Table

if TYPE_CHECKING:
    from forensic_cli.model import Model

EXTRAS = {
    "train": ("train, evaluate and audit", TRAINING_MODULES),
    "heif": ("HEIC images", ("pillow_heif",)),
    "c2pa": ("C2PA manifests", ("c2pa",)),
    "dedupe": ("scan --dedupe", ("imagehash",)),
    "watch": ("scan --watch", ("watchfiles",)),
    "parquet": ("scan --format parquet", ("pyarrow",)),
}
"""{optional extra: (what it is for, the modules it installs)}."""
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    """What was checked."""
    state: Literal["ok", "absent", "fault"]
    """absent: does not work here, but scans work without it. fault: scans fail or give wrong results."""
    detail: str
    """What was found and, unless all is well, what to do."""


def doctor(exports: Exports = None, as_json: Json = False) -> None:
    """Check whether this installation works: versions, exports, GPU and optional packages.

    Every export judges a sample image twice on the CPU. If CUDA works, its results are compared with those of the CPU.

    Examples:

        genforensic doctor
        genforensic doctor --exports runs/first/exports --json

    Exit codes: 0 healthy; 3 scans fail or give wrong results.
    """
    from forensic_cli.reports.text import visible

    checks = list(_examine(exports))
    faults = sum(check.state == "fault" for check in checks)
    if as_json:
        print_json({"healthy": not faults, "checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print_text(f"{check.state:<6}  {visible(check.name):<{width}}  {visible(check.detail)}")
        print_text(f"not healthy: {faults} of {len(checks)} checks found a fault" if faults else "healthy")
    raise typer.Exit(ExitCode.MODEL if faults else ExitCode.DONE)


def _examine(exports: Path | None) -> Iterator[Check]:
    yield from _versions()
    models = []
    for loaded in _load(exports):
        if isinstance(loaded, Check):
            yield loaded
        else:
            models.append(loaded)
            yield _judge_twice(loaded)
    if models:
        yield Check("CPUExecutionProvider", "ok", f"runs {len(models)} models")
        yield _compare_cuda(models[0])
    for extra, (purpose, modules) in EXTRAS.items():
        if missing := ", ".join(name for name in modules if importlib.util.find_spec(name) is None):
            yield Check(f"extra {extra}", "absent", f"{missing} not installed; for {purpose}: {pip_line(extra)}")
        else:
            yield Check(f"extra {extra}", "ok", f"installed, for {purpose}")


def _versions() -> Iterator[Check]:
    from importlib.metadata import distributions

    from forensic_cli.scan import versions

    yield Check("genforensic", "ok", __version__)
    for name, installed in versions().items():
        if name not in ("c2pa", "pillow-heif"):  # reported with their extras
            yield Check(name, "ok", installed)
    for path in config_files():
        yield Check("configuration", "ok", str(path))
    runtimes = [f"{name} {found.version}" for name in _RUNTIMES for found in islice(distributions(name=name), 1)]
    if len(runtimes) == 1:
        yield Check("ONNX Runtime", "ok", runtimes[0])
    else:
        # All of them install the same module, so the files of the last one overwrite those of the others
        repair = "exactly one must be installed: uninstall all of them with pip, then install genforensic again"
        yield Check("ONNX Runtime", "fault", f"{', '.join(runtimes) or 'no package'}; {repair}")


def _load(exports: Path | None) -> "Iterator[Model | Check]":
    from forensic_cli.exports import export_files
    from forensic_cli.model import Model

    try:
        files = export_files(exports)
    except GenforensicError as error:
        yield Check("exports", "fault", str(error))
        return
    for path in files:
        try:
            yield from Model.load_all(path, "cpu")
        except GenforensicError as error:
            yield Check(path.name, "fault", str(error))


def _judge_twice(model: "Model") -> Check:
    from forensic_cli.model import formula_views

    name, views = model.card.name, [view[None] for view in formula_views(model.card.preprocessing.size)]
    states = [model.card.states[0]] * len(views)
    try:
        first, second = (model.judge(views, states).logits.tobytes() for _ in range(2))
    except GenforensicError as error:
        return Check(name, "fault", str(error))
    if first != second:
        return Check(name, "fault", "the same image gave two results; check the memory of this machine")
    return Check(name, "ok", f"{model.path}, sha256 {model.sha256[:12]}, judges a sample twice alike")


def _compare_cuda(reference: "Model") -> Check:
    from forensic_cli.model import CUDA, Model, check_against_cpu

    try:
        on_cuda = Model.load_all(reference.path, "cuda")
    except GenforensicError as error:
        return Check(CUDA, "absent", f"{str(error).partition(';')[0]}; scans run on the CPU")
    try:
        difference = check_against_cpu(on_cuda[0], reference)
    except GenforensicError as error:
        return Check(CUDA, "fault", str(error))
    return Check(CUDA, "ok", f"works; its logits differ from the CPU's by at most {difference:.1g} of the largest")


def models(exports: Exports = None, as_json: Json = False) -> None:
    """List the available exports: training images and the states of compression that each one answers for.

    With --json: the complete model cards, with all figures.

    Examples:

        genforensic models
        genforensic models --exports runs/mine/exports --json
    """
    from forensic_cli.exports import export_files, peek_exports
    from forensic_cli.model import load_models

    loaded = load_models(peek_exports(export_files(exports)), "cpu")
    if as_json:
        print_json([{"file": str(model.path), "sha256": model.sha256, "card": asdict(model.card)} for model in loaded])
        return
    console = stdout_console()
    console.print(_table(loaded).rich())
    console.print(f"Labels: {', '.join(loaded[0].card.labels)}", soft_wrap=True)
    console.print(f"Folder: {loaded[0].path.parent}", soft_wrap=True)


def _table(loaded: "list[Model]") -> Table:
    rows = []
    for model in loaded:
        card = model.card
        answered = ", ".join(state for state, decision in card.decisions.items() if not decision.is_silent)
        images = sum(sum(row.values()) for row in card.data.values())
        rows.append((card.name, images, answered or MISSING, model.sha256[:12]))
    return Table("Exports", ("model", "images", "answers for", "sha256"), rows, left=(0, 2, 3), unbroken=(0, 3))
