"""Runs exports on ONNX Runtime: views in, logits and distances out."""

import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from forensic_cli.card import ANY_STATE, ModelCard, Preprocessing, output_names
from forensic_cli.errors import ModelError
from forensic_cli.exports import Export, open_export, read_cards
from forensic_cli.images.views import Views

Logits: TypeAlias = npt.NDArray[np.float32]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
_PROVIDER_TOLERANCE = 2e-2
"""Largest difference between providers that rounding explains, relative to the largest logit."""


def softmax(logits: npt.NDArray[Any], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the probabilities of logits, float (..., K), divided by a temperature; in double precision."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), np.float64)


@dataclass(frozen=True)
class Session:
    """An ONNX Runtime session for one file; several threads may use it at once."""

    path: Path
    """The file."""
    sha256: str
    """Of the whole file, hexadecimal."""
    runtime: Any
    """onnxruntime.InferenceSession."""
    turns: AbstractContextManager[Any]
    """Entered around each run: a lock on a GPU, where concurrent runs would compete for memory; no lock on a CPU."""

    def run(self, outputs: Sequence[str], images: Sequence[Views], states: Sequence[int]) -> list[Logits]:
        """Run B images, each as views uint8 V x S x S x 3 (V may differ) with the index of its state.

        Returns the named outputs, float32 with B rows each. Raises ModelError if it fails or computes infinity or NaN.
        """
        counts = [len(views) for views in images]
        try:
            binding = self.runtime.io_binding()
            views = np.concatenate(images) if len(images) > 1 else np.ascontiguousarray(images[0])
            binding.bind_cpu_input("views", views)
            binding.bind_cpu_input("image", np.repeat(np.arange(len(images)), counts))
            binding.bind_cpu_input("state", np.asarray(states, np.int64))
            for name in outputs:
                binding.bind_output(name)
            with self.turns:
                self.runtime.run_with_iobinding(binding)
            arrays = [np.asarray(output, np.float32) for output in binding.copy_outputs_to_cpu()]
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise ModelError(f"{self.path}: failed on {sum(counts)} views ({_first_line(error)})") from error
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(f"{self.path}: computed infinity or NaN; copy it again or export it again")
        return arrays


@dataclass(frozen=True)
class Sample:
    """One image as the models see it."""

    views: tuple[Views, ...]
    """Views, uint8 V x S x S x 3, for each preprocessing in use."""
    state: str = ANY_STATE
    """Name of its state (images.header.STATES), or `other`."""


@dataclass(frozen=True)
class Evidence:
    """What one model measured on B images."""

    logits: Logits
    """Float32, B x K."""
    distances: npt.NDArray[np.float32]
    """Distance of each image from the training images of its state, whose mean distance is 1; length B."""


@dataclass(frozen=True)
class Model:
    """One technique of an export, ready to judge images."""

    card: ModelCard
    """What the file says about the technique."""
    session: Session
    """The session of the file, which its techniques share."""
    outputs: tuple[str, str]
    """Names of the technique's outputs in the graph: logits and distances."""

    @classmethod
    def load(cls, path: Path, device: str = "cpu", threads: int = 1) -> "Model":
        """Load an export that has one technique; see load_all()."""
        (model,) = cls.load_all(path, device, threads)
        return model

    @classmethod
    def load_all(cls, path: Path, device: str = "cpu", threads: int = 1) -> list["Model"]:
        """Start a session for an export, and return a model for each technique in it.

        `device`: `auto` uses CUDA if it works, `cuda` requires it. `threads`: threads within one run, 0 for one per
        core; 1 is best if several threads use the session. The file is loaded from memory, so external weights are
        refused. Raises ModelError for a file that is not a usable export.
        """
        with open_export(path) as stream:
            return cls.load_bytes(path, stream.read(), device, threads)

    @classmethod
    def load_bytes(cls, path: Path, data: bytes, device: str = "cpu", threads: int = 1) -> list["Model"]:
        """Do the same with the content of a file that may lie on another machine."""
        cards = read_cards(io.BytesIO(data), path)
        runtime = _start(path, data, device, threads)
        turns = nullcontext() if runtime.get_providers()[0] == CPU else Lock()
        session = Session(path, hashlib.sha256(data).hexdigest(), runtime, turns)
        models = [cls(card, session, output_names(card.technique, len(cards))) for card in cards]
        _check_signature(models)
        return models

    @property
    def path(self) -> Path:
        """The export."""
        return self.session.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole export, hexadecimal."""
        return self.session.sha256

    @property
    def provider(self) -> str:
        """The execution provider in use, which may be another than ONNX Runtime lists as available."""
        return str(self.session.runtime.get_providers()[0])

    def judge(self, images: Sequence[Views], states: Sequence[str]) -> Evidence:
        """Judge B images, each as views uint8 V x S x S x 3 (V may differ) with the name of its state."""
        samples = [Sample((views,), state) for views, state in zip(images, states, strict=True)]
        return judge_samples([self], [self.card.preprocessing], samples)[0]


def load_models(
    exports: Sequence[Export], device: str, threads: int = 1, contents: Mapping[Path, bytes] | None = None
) -> list[Model]:
    """Start one session per file, and return a model for each export, in their order.

    `contents`: what is in the files, if they lie on another machine. Models that do not run on the CPU are compared
    with it. Raises ModelError if the results differ.
    """

    def load(path: Path, device: str, threads: int) -> list[Model]:
        if contents is None:
            return Model.load_all(path, device, threads)
        return Model.load_bytes(path, contents[path], device, threads)

    loaded = {path: load(path, device, threads) for path in dict.fromkeys(export.path for export in exports)}
    for path, models in loaded.items():
        if models[0].provider != CPU:
            for model, reference in zip(models, load(path, "cpu", 1), strict=True):
                check_against_cpu(model, reference)
    by_technique = {(path, model.card.technique): model for path, models in loaded.items() for model in models}
    return [by_technique[export.path, export.card.technique] for export in exports]


def judge_samples(
    models: Sequence[Model], preprocessings: Sequence[Preprocessing], samples: Sequence[Sample]
) -> list[Evidence]:
    """Return what each model measures on B images; `preprocessings`: those of the samples' views, in order.

    Models that share a session run together, so that the common parts of their graphs are computed once.
    """
    evidence: dict[int, Evidence] = {}
    for session in {id(model.session): model.session for model in models}.values():
        places = [i for i, model in enumerate(models) if model.session is session]
        card = models[places[0]].card
        views = preprocessings.index(card.preprocessing)
        # A state that the network does not know gets the weights of the first one; its card has no decision for it
        states = [card.states.index(sample.state) if sample.state in card.states else 0 for sample in samples]
        names = [name for i in places for name in models[i].outputs]
        outputs = session.run(names, [sample.views[views] for sample in samples], states)
        for i, logits, distances in zip(places, outputs[::2], outputs[1::2], strict=True):
            evidence[i] = Evidence(logits, distances)
    return [evidence[i] for i in range(len(models))]


def check_against_cpu(model: Model, reference: Model) -> float:
    """Compare a model with itself on the CPU, on views that are computed by a formula.

    Returns the largest difference between their logits, relative to the largest logit. Raises ModelError if it is more
    than rounding explains (more in 16-bit floats): then a driver or a device does not work correctly.
    """
    views = [view[None] for view in formula_views(model.card.preprocessing.size)]
    states = [model.card.states[0]] * len(views)
    logits, expected = model.judge(views, states).logits, reference.judge(views, states).logits
    difference = float(np.abs(logits - expected).max() / max(1.0, float(np.abs(expected).max())))
    if difference >= _PROVIDER_TOLERANCE:
        raise ModelError(
            f"{model.path}: {model.provider} computes other logits than the CPU (relative difference {difference:.1e}, "
            f"allowed {_PROVIDER_TOLERANCE:.0e}); check the driver, or scan with --device cpu"
        )
    return difference


def formula_views(size: int) -> Views:
    """Return a gradient, a checkerboard, a flat grey and noise, uint8 4 x S x S x 3."""
    rows, columns = np.mgrid[:size, :size]
    gradient = np.stack([rows, columns, rows + columns], axis=-1) * 255 // (2 * size)
    checkerboard = np.repeat(((rows // 4 + columns // 4) % 2 * 255)[..., None], 3, axis=-1)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    return np.stack([gradient, checkerboard, np.full_like(noise, 128), noise]).astype(np.uint8)


def images_at_once(models: Sequence[Model]) -> int:
    """Return the best number of images per run: 1 on a CPU, because of its caches, and 32 on a GPU."""
    return images_per_run([model.provider for model in models])


def images_per_run(providers: Sequence[str]) -> int:
    """Do the same for models that may be on another machine."""
    return 1 if all(provider == CPU for provider in providers) else 32


def _start(path: Path, data: bytes, device: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # a session that does not start also raises an exception, with the same text
    # Spinning threads would occupy the cores that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [CPU]
    if device == "cuda":
        if not _has_gpu():
            raise ModelError(
                "no CUDA device was found on this machine; leave out --require-gpu and --device cuda to scan on the CPU"
            )
        providers = [CUDA]
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    elif device == "auto" and _has_gpu():
        providers = [CUDA, CPU]
    if CUDA in providers:
        ort.preload_dlls()  # CUDA's libraries, from Python packages
    ort.set_default_logger_severity(4)
    try:
        return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        reason = _first_line(error)
        if device == "cuda":
            raise ModelError(
                f"{path}: does not run on CUDA ({reason}); check the driver with nvidia-smi, "
                "or leave out --require-gpu and --device cuda"
            ) from error
        raise ModelError(f"{path}: not a usable ONNX file ({reason}); copy it again or export it again") from error


def has_cuda_runtime() -> bool:
    """Tell whether this ONNX Runtime can use CUDA, whatever the machine has."""
    return CUDA in ort.get_available_providers()


def _has_gpu() -> bool:
    """Tell whether CUDA is worth a try; onnxruntime-gpu lists it as available on machines without a GPU as well."""
    device_exists = sys.platform == "win32" or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg"))
    return device_exists and has_cuda_runtime()


def _check_signature(models: Sequence[Model]) -> None:
    session, card = models[0].session, models[0].card
    size = card.preprocessing.size
    inputs = {node.name: (node.type, list(node.shape[1:])) for node in session.runtime.get_inputs()}
    outputs = {node.name: list(node.shape[1:]) for node in session.runtime.get_outputs()}
    indices = ("tensor(int64)", list[int]())
    fits = inputs == {"views": ("tensor(uint8)", [size, size, 3]), "image": indices, "state": indices}
    for model in models:
        logits, distances = model.outputs
        fits &= outputs.pop(logits, None) == [len(model.card.labels)] and outputs.pop(distances, None) == []
        fits &= (model.card.preprocessing, model.card.states) == (card.preprocessing, card.states)
    if not fits or outputs:
        raise ModelError(
            f"{session.path}: its graph does not fit its card (expected views uint8 [N, {size}, {size}, 3], image, "
            f"state and {', '.join(f'{m.outputs[0]} [B, {len(m.card.labels)}]' for m in models)}); export it again"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("[ONNXRuntimeError] : ")[:160]
