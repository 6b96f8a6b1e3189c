"""Finds out whether this installation can judge images, and what is missing: by trying, not by asking."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from forensic_cli.config import config_files
from forensic_cli.errors import GenforensicError
from forensic_cli.exports import export_files
from forensic_cli.extras import pip_line
from forensic_cli.preprocess import Decoded, Pixels, decode, views
from forensic_cli.state import state_of

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
