"""Finds out whether this installation can judge images, and what is missing: by trying, not by asking."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from forensic_cli.config import config_files
from forensic_cli.console import print_json
from forensic_cli.errors import ExitCode, GenforensicError, pip_line
from forensic_cli.exports import export_files
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, state_of
from forensic_cli.images.views import views
from forensic_cli.table import MISSING, Table

if TYPE_CHECKING:
    from forensic_cli.model import Logits, Model

EXTRAS = {
    "train": ("torch", "torchvision", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib"),
    "heif": ("pillow_heif",),
    "c2pa": ("c2pa",),
    "dedupe": ("imagehash",),
    "watch": ("watchfiles",),
    "parquet": ("pyarrow",),
}
"""Packages of each optional extra."""
_USES = {
    "train": "train, evaluate and audit",
    "heif": "HEIC images",
    "c2pa": "C2PA manifests",
    "dedupe": "scan --dedupe",
    "watch": "scan --watch",
    "parquet": "scan --format parquet",
}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_SAMPLE_SIDE = 256


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    """What."""
    state: Literal["ok", "absent", "fault"]
    """absent: does not work here, and a scan does without. fault: a scan cannot work, or gives wrong results."""
    detail: str
    """What was found, and for anything but ok what to do."""

    def record(self) -> dict[str, str]:
        """Return a JSON-ready dict."""
        return asdict(self)


def examine(exports: Path | None) -> Iterator[Check]:
    """Yield every check, in the order in which they are made."""
    yield from _versions()
    models = []
    for found in _exports(exports):
        if isinstance(found, Check):
            yield found
        else:
            yield _self_test(found)
            models.append(found)
    if models:
        yield Check("CPUExecutionProvider", "ok", f"runs {len(models)} models")
        yield _cuda(models[0])
    yield from _extras()


def _versions() -> Iterator[Check]:
    from forensic_cli import __version__
    from forensic_cli.scan import versions

    yield Check("genforensic", "ok", __version__)
    for name, found in versions().items():
        if name not in ("c2pa", "pillow-heif"):  # of the extras
            yield Check(name, "ok", found)
    for path in config_files():
        yield Check("configuration", "ok", str(path))
    there = [f"{name} {_version(name)}" for name in _RUNTIMES if _version(name)]
    if len(there) == 1:
        yield Check("ONNX Runtime", "ok", there[0])
    else:
        packages = ", ".join(there) or "no package"
        mend = "two in one environment break each other: pip uninstall all of them, and install genforensic again"
        yield Check("ONNX Runtime", "fault", f"{packages}; {mend}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _exports(option: Path | None) -> "Iterator[Model | Check]":
    from forensic_cli.model import Model

    try:
        files = export_files(option)
    except GenforensicError as error:
        yield Check("exports", "fault", str(error))
        return
    for path in files:
        try:
            yield from Model.load_all(path, "cpu")
        except GenforensicError as error:
            yield Check(path.name, "fault", str(error))


def _self_test(model: "Model") -> Check:
    """Judge one sample twice on the CPU."""
    try:
        first, second = _judged(model), _judged(model)
    except GenforensicError as error:
        return Check(model.card.name, "fault", str(error))
    if first.tobytes() != second.tobytes():
        return Check(model.card.name, "fault", "the same image gives two results; check the memory of this machine")
    return Check(model.card.name, "ok", f"{model.path}, sha256 {model.sha256[:12]}, judges a sample twice alike")


def _cuda(reference: "Model") -> Check:
    """Start a session on the GPU, and compare what it says with the CPU."""
    from forensic_cli.model import CUDA, Model, check_against_cpu

    try:
        on_cuda = Model.load_all(reference.path, "cuda")
    except GenforensicError as error:
        return Check(CUDA, "absent", f"{str(error).partition(';')[0]}; scans run on the CPU")
    try:
        difference = check_against_cpu(next(one for one in on_cuda if one.card == reference.card), reference)
    except GenforensicError as error:
        return Check(CUDA, "fault", str(error))
    return Check(CUDA, "ok", f"works; its logits differ from the CPU's by at most {difference:.1g} of the largest")


def _judged(model: "Model") -> "Logits":
    """Send a sample through decoding, views and the model; returns its logits, 1 x K."""
    found = decode(_sample())
    assert isinstance(found, Decoded)
    return model.judge([views(found.pixels, model.card.preprocessing)], [state_of(found.header).name]).logits


def _sample() -> bytes:
    """Return a PNG of smooth colours and noise, the same on every machine."""
    import cv2

    ramp = np.linspace(0, 200, _SAMPLE_SIDE, dtype=np.float64)
    smooth = np.stack([np.add.outer(ramp, ramp) / 2, np.add.outer(ramp, -ramp) / 2 + 100, np.tile(ramp, (256, 1))], -1)
    noise = np.random.default_rng(7).integers(0, 40, smooth.shape)
    pixels: Pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            detail = f"no {', '.join(missing)}; for {_USES[extra]}: {pip_line(extra)}"
            yield Check(f"extra {extra}", "absent", detail)
        else:
            yield Check(f"extra {extra}", "ok", f"installed, for {_USES[extra]}")


def is_healthy(checks: Sequence[Check]) -> bool:
    """Tell whether a scan works here."""
    return not any(check.state == "fault" for check in checks)


def doctor(
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of .onnx exports; else $GENFORENSIC_EXPORTS, else what ships."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try out whether images can be judged here: versions, exports, execution providers and optional packages.

    Every export judges a sample twice on the CPU; where CUDA starts, its results are compared with the CPU's. What
    ONNX Runtime only claims to offer does not count.

    Examples:

        genforensic doctor

        genforensic doctor --exports runs/first/exports --json

    Exit code: 0 healthy, 3 a scan cannot work or gives wrong results.
    """
    from forensic_cli.reports.text import visible

    checks = list(examine(exports))
    healthy = is_healthy(checks)
    if as_json:
        record = {"healthy": healthy, "checks": [check.record() for check in checks]}
        print_json(record)
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{check.state:<6}  {visible(check.name):<{width}}  {visible(check.detail)}")
        faults = sum(check.state == "fault" for check in checks)
        typer.echo("healthy" if healthy else f"not healthy: {faults} of {len(checks)} checks found a fault")
    raise typer.Exit(ExitCode.DONE if healthy else ExitCode.MODEL)


def models(
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of .onnx exports; else $GENFORENSIC_EXPORTS, else what ships."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole cards as JSON.")] = False,
) -> None:
    """List the exports that a scan would find, with their model cards.

    Examples:

        genforensic models

        genforensic models --exports runs/mine/exports --json
    """
    from forensic_cli.exports import export_files, load_models, peek_exports

    exported = load_models(peek_exports(export_files(exports)), "cpu")
    if as_json:
        cards = [{"file": str(m.path), "sha256": m.sha256, "card": asdict(m.card)} for m in exported]
        print_json(cards)
        return
    from forensic_cli.console import stdout_console

    console = stdout_console()
    console.print(_table(exported).rich())
    console.print(f"Labels: {', '.join(exported[0].card.labels)}", soft_wrap=True)
    console.print(f"Folder: {exported[0].path.parent}", soft_wrap=True)


def _table(exported: "list[Model]") -> Table:
    rows = []
    for model in exported:
        card, pre = model.card, model.card.preprocessing
        views = f"{pre.size} px, whole" if pre.mode == "whole" else f"{pre.size} px, up to {pre.grid}x{pre.grid}"
        answered = ", ".join(state for state, decision in card.decisions.items() if not decision.is_silent)
        images = sum(sum(row.values()) for row in card.data.values())
        sets = [(name, card.metrics[name]) for name in ("left-out", "test") if name in card.metrics]
        measured = ", ".join(f"{name} {metrics['accuracy']:.3f} (n {metrics['images']})" for name, metrics in sets)
        rows.append((card.name, views, images, measured or MISSING, answered or MISSING, model.sha256[:12]))
    columns = ("model", "views", "images", "accuracy", "answers for", "sha256")
    return Table("Exports", columns, rows, left=(0, 1, 3, 4, 5), unbroken=(0, 5))
