"""A session and its card: views -> logits -> calibrated probabilities, on ONNX Runtime."""

import hashlib
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forensic_cli.card import ANY_STATE, ModelCard, Preprocessing, output_names
from forensic_cli.errors import ModelError
from forensic_cli.exports import MAX_EXPORT_BYTES, read_cards
from forensic_cli.images.views import Views

Logits: TypeAlias = npt.NDArray[np.float32]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
_PROVIDER_TOLERANCE = 2e-2
"""Difference of logits between providers that rounding can explain, as a share of the largest logit."""


def softmax(logits: npt.NDArray[Any], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Turn logits (..., K) into probabilities at a temperature, in double precision."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), np.float64)


@dataclass(frozen=True)
class Session:
    """ONNX Runtime's session on one export file; several threads may run it at once."""

    path: Path
    """Where the file was read."""
    sha256: str
    """Of the whole file, hexadecimal."""
    runtime: Any
    """onnxruntime.InferenceSession."""
    turns: AbstractContextManager[Any]
    """Entered around each run: one at a time on a GPU, whose memory several would share; free on a CPU."""

    @property
    def provider(self) -> str:
        """The execution provider that the session really runs on; available providers are only a wish."""
        return str(self.runtime.get_providers()[0])

    def run(self, outputs: Sequence[str], images: Sequence[Views], states: Sequence[int]) -> list[Logits]:
        """Run the views of B images, each V x S x S x 3 (V may differ), and the index of each one's state.

        Returns each named output, float32 with B rows.
        """
        counts = [len(views) for views in images]
        try:
            binding = self.runtime.io_binding()
            binding.bind_cpu_input(
                "views", np.concatenate(images) if len(images) > 1 else np.ascontiguousarray(images[0])
            )
            binding.bind_cpu_input("image", np.repeat(np.arange(len(images)), counts))
            binding.bind_cpu_input("state", np.asarray(states, np.int64))
            for name in outputs:
                binding.bind_output(name)
            with self.turns:
                self.runtime.run_with_iobinding(binding)
            found = [np.asarray(output, np.float32) for output in binding.copy_outputs_to_cpu()]
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise ModelError(f"{self.path}: failed on {sum(counts)} views ({_first_line(error)})") from error
        if not all(np.isfinite(output).all() for output in found):
            raise ModelError(f"{self.path}: computed values that are not numbers; copy it again or export it again")
        return found


@dataclass(frozen=True)
class Sample:
    """One image as models see it."""

    views: tuple[Views, ...]
    """One array V x S x S x 3 for each wanted preprocessing."""
    state: str = ANY_STATE
    """Name of its state (state.STATES), or `other`."""


@dataclass(frozen=True)
class Evidence:
    """What one model measured of B images."""

    logits: Logits
    """B x K."""
    distances: npt.NDArray[np.float32]
    """B: how far each image lies from the training images of its state; 1 is the mean of these."""


@dataclass(frozen=True)
class Model:
    """One technique of an export, ready to judge views."""

    card: ModelCard
    """What the file says of the technique."""
    session: Session
    """Of the file; techniques in one file share it."""
    outputs: tuple[str, str]
    """Names of the graph's outputs with the technique's logits and distances."""

    @classmethod
    def load(cls, path: Path, device: str = "cpu", threads: int = 1) -> "Model":
        """Read an export of one technique and start a session; see load_all()."""
        (model,) = cls.load_all(path, device, threads)
        return model

    @classmethod
    def load_all(cls, path: Path, device: str = "cpu", threads: int = 1) -> list["Model"]:
        """Read an export and start a session; returns a model for each technique in it.

        `threads`: intra-op threads of one run, 0 for one a core; one is best where several threads run the session
        at once. `auto` takes CUDA where it works, `cuda` fails where it does not. Raises ModelError for a file that is
        not a genforensic export. The file is loaded from memory, so weights outside it (external data) are refused.
        """
        data = _read(path)
        cards = read_cards(BytesIO(data), path)
        runtime = _start(path, data, device, threads)
        on_cpu = runtime.get_providers()[0] == CPU
        session = Session(path, hashlib.sha256(data).hexdigest(), runtime, nullcontext() if on_cpu else Lock())
        models = [cls(card, session, output_names(card.technique, len(cards))) for card in cards]
        _check_signature(models)
        return models

    @property
    def path(self) -> Path:
        """Where the export was read."""
        return self.session.path

    @property
    def sha256(self) -> str:
        """Of the whole export, hexadecimal."""
        return self.session.sha256

    @property
    def provider(self) -> str:
        """The execution provider that the session really runs on."""
        return self.session.provider

    def judge(self, images: Sequence[Views], states: Sequence[str]) -> Evidence:
        """Judge the views of B images (each V x S x S x 3, V may differ), given the name of each one's state."""
        (evidence,) = judge_samples(
            [self],
            [self.card.preprocessing],
            [Sample((views,), state) for views, state in zip(images, states, strict=True)],
        )
        return evidence


def judge_samples(
    models: Sequence[Model], preprocessings: Sequence[Preprocessing], samples: Sequence[Sample]
) -> list[Evidence]:
    """Return what each model measures of B images, whose views are given for every preprocessing.

    Models of one session are run together, so that what their graphs share is computed once.
    """
    found: dict[int, Evidence] = {}
    for session in {id(model.session): model.session for model in models}.values():
        places = [i for i, model in enumerate(models) if model.session is session]
        card = models[places[0]].card
        cut = preprocessings.index(card.preprocessing)
        # A state without weights of its own gets those of the first one; no decision then answers for it
        states = [card.states.index(one.state) if one.state in card.states else 0 for one in samples]
        names = [name for i in places for name in models[i].outputs]
        outputs = session.run(names, [one.views[cut] for one in samples], states)
        for place, i in enumerate(places):
            found[i] = Evidence(outputs[2 * place], outputs[2 * place + 1])
    return [found[i] for i in range(len(models))]


def check_against_cpu(model: Model, reference: Model) -> float:
    """Compare a model on its provider with itself on the CPU, on views made by a formula. Raises ModelError.

    Returns the largest difference of their logits, as a share of the largest logit.

    Rounding differs between devices, by more in 16-bit floats; a driver or a device that computes something else
    differs by far more than that.
    """
    views = [view[None] for view in formula_views(model.card.preprocessing.size)]
    states = [model.card.states[0]] * len(views)
    found, expected = model.judge(views, states).logits, reference.judge(views, states).logits
    worst = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not worst < _PROVIDER_TOLERANCE:
        raise ModelError(
            f"{model.path}: {model.provider} computes other logits than the CPU (by {worst:.1e} of their size, allowed "
            f"{_PROVIDER_TOLERANCE:.0e}); check the driver, or scan with --device cpu"
        )
    return worst


def formula_views(size: int) -> Views:
    """Return a gradient, a checkerboard, a flat grey and noise, uint8 4 x S x S x 3."""
    rows, columns = np.mgrid[:size, :size]
    gradient = np.stack([rows, columns, rows + columns], axis=-1) * 255 // (2 * size)
    checkerboard = np.repeat(((rows // 4 + columns // 4) % 2 * 255)[..., None], 3, axis=-1)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    return np.stack([gradient, checkerboard, np.full_like(noise, 128), noise]).astype(np.uint8)


def images_at_once(models: Sequence[Model]) -> int:
    """Return how many images one run should hold: one on a CPU, whose caches more would spill, and 32 on a GPU."""
    return 1 if all(model.provider == CPU for model in models) else 32


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_EXPORT_BYTES:
            raise ModelError(f"{path}: {size} bytes are more than an export may have ({MAX_EXPORT_BYTES})")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _start(path: Path, data: bytes, device: str, threads: int) -> Any:
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


def _check_signature(models: Sequence[Model]) -> None:
    session, card = models[0].session, models[0].card
    inputs = {given.name: (given.type, list(given.shape[1:])) for given in session.runtime.get_inputs()}
    outputs = {given.name: list(given.shape[1:]) for given in session.runtime.get_outputs()}
    size = card.preprocessing.size
    expected = {
        "views": ("tensor(uint8)", [size, size, 3]),
        "image": ("tensor(int64)", []),
        "state": ("tensor(int64)", []),
    }
    wanted = {name: shape for m in models for name, shape in zip(m.outputs, ([len(m.card.labels)], []), strict=True)}
    shared = all((m.card.preprocessing, m.card.states) == (card.preprocessing, card.states) for m in models)
    fits = inputs == expected and outputs == wanted and shared
    if not fits:
        raise ModelError(
            f"{session.path}: its graph does not fit its card (expected views uint8 [N, {size}, {size}, 3], image, "
            f"state and {', '.join(f'{m.outputs[0]} [B, {len(m.card.labels)}]' for m in models)}); export it again"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("[ONNXRuntimeError] : ")[:160]
