"""A session and its card: views -> logits -> calibrated probabilities, on ONNX Runtime."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forensic_cli.card import ModelCard
from forensic_cli.errors import ModelError
from forensic_cli.peek import MAX_EXPORT_BYTES, read_card
from forensic_cli.preprocess import Views

Logits: TypeAlias = npt.NDArray[np.float32]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def softmax(logits: npt.NDArray[Any], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Turn logits (..., K) into probabilities at a temperature, in double precision."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), np.float64)


@dataclass(frozen=True)
class Model:
    """One export, ready to judge views."""

    card: ModelCard
    """What the file says of itself."""
    path: Path
    """Where it was read."""
    sha256: str
    """Of the whole file, hexadecimal."""
    session: Any
    """onnxruntime.InferenceSession."""

    @classmethod
    def load(cls, path: Path, device: str = "cpu", threads: int = 0) -> "Model":
        """Read an export and start a session.

        `threads`: intra-op threads, 0 for one a core. `auto` takes CUDA where it works, `cuda` fails where it
        does not. Raises ModelError for a file that is not a genforensic export. The file is loaded from
        memory, so weights outside it (external data) are refused.
        """
        data = _read(path)
        card = read_card(BytesIO(data), path)
        session = _session(path, data, device, threads)
        _check_signature(path, session, card)
        return cls(card, path, hashlib.sha256(data).hexdigest(), session)

    @property
    def provider(self) -> str:
        """The execution provider that the session really runs on; available providers are only a wish."""
        return str(self.session.get_providers()[0])

    def logits(self, views: Views) -> Logits:
        """Run uint8 views N x S x S x 3; returns float32 N x K."""
        try:
            logits = np.asarray(self.session.run(["logits"], {"views": views})[0], np.float32)
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise ModelError(f"{self.path}: failed on {len(views)} views ({_first_line(error)})") from error
        if not np.isfinite(logits).all():
            raise ModelError(f"{self.path}: computed values that are not numbers; copy it again or export it again")
        return logits

    def image_logits(self, images: Sequence[Views]) -> Logits:
        """Run the views of B images (each V x S x S x 3, V may differ) and average over views; B x K."""
        logits = self.logits(np.concatenate(images))
        counts = np.array([len(views) for views in images])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.asarray(np.add.reduceat(logits, starts, axis=0) / counts[:, None], np.float32)

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Calibrate image logits B x K with the card's temperature."""
        return softmax(logits, self.card.calibration.temperature)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_EXPORT_BYTES:
            raise ModelError(f"{path}: {size} bytes are more than an export may have ({MAX_EXPORT_BYTES})")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _session(path: Path, data: bytes, device: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # a session that does not start raises, with the same words
    # Spinning threads would take the cores that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [CPU]
    if device == "cuda":
        _prepare_cuda(required=True)
        providers = [CUDA]
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    elif device == "auto" and _prepare_cuda(required=False):
        providers = [CUDA, CPU]
    ort.set_default_logger_severity(4)
    try:
        return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        if device == "cuda":
            raise ModelError(
                f"{path}: does not run on CUDA ({_first_line(error)}); check the driver with nvidia-smi, "
                "or leave out --require-gpu and --device cuda"
            ) from error
        raise ModelError(
            f"{path}: not a usable ONNX file ({_first_line(error)}); copy it again or export it again"
        ) from error


def _prepare_cuda(required: bool) -> bool:
    """Load CUDA's libraries from Python packages where a GPU is present; tell whether CUDA is worth a try."""
    present = sys.platform == "win32" or any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg"))
    if present and CUDA in ort.get_available_providers():
        ort.preload_dlls()
        return True
    if required:
        raise ModelError(
            "no CUDA device was found on this machine; leave out --require-gpu and --device cuda to scan on the CPU"
        )
    return False


def _check_signature(path: Path, session: Any, card: ModelCard) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    size = card.preprocessing.size
    fits = (
        [i.name for i in inputs] == ["views"]
        and inputs[0].type == "tensor(uint8)"
        and list(inputs[0].shape[1:]) == [size, size, 3]
        and [o.name for o in outputs] == ["logits"]
        and outputs[0].shape[-1] == len(card.labels)
    )
    if not fits:
        raise ModelError(
            f"{path}: its graph does not fit its card (expected views uint8 [N, {size}, {size}, 3] "
            f"and logits [N, {len(card.labels)}]); export it again"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("[ONNXRuntimeError] : ")[:160]
