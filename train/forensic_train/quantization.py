"""Exports of reduced precision: int8 and fp16, written only where they judge as the float32 export does."""

import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from forensic_cli.card import Preprocessing
from forensic_cli.console import note
from forensic_cli.errors import ModelError, TrainingError
from forensic_cli.images.views import views
from forensic_cli.model import Logits, Model, softmax
from forensic_train.crossfit.scores import Scores
from forensic_train.dataset import read_pixels
from forensic_train.evaluate import expected_calibration_error, infer, targets_of
from forensic_train.manifest import Row
from forensic_train.onnx_export import write_model
from forensic_train.run import atomic
from forensic_train.seeds import generator_for

MOST_LOST = 0.005
"""Accuracy that a reduced export may lose against float32 in any case, as a share of the images: half a point."""
CHANCE = 0.05
"""Probability of so large a loss, or a larger one, were both equally good, below which the loss is no chance."""
LEAST_ALIKE = 0.8
"""Share of images that must keep their label: two poor models can be right equally often, and about other images."""
_RANGE_METHODS = ("Percentile", "Entropy", "MinMax")
"""How int8 may get its ranges, as ONNX Runtime calls them; the next is tried where one changes too many labels."""
_ALIKE_ENOUGH = 0.98
_RANGE_IMAGES = 500
_IMAGES_AT_ONCE = 10
_TRIAL_IMAGES = 200
_CHECKED_IMAGES = 1000


@dataclass(frozen=True)
class Agreement:
    """How an export of reduced precision judges, beside the float32 export of the same weights."""

    precision: str
    """int8 or fp16."""
    images: int
    """Compared."""
    set: str
    """Which images these are."""
    calibration_images: int
    """Training images that the ranges of int8 come from; 0 for fp16."""
    range_method: str
    """Percentile, Entropy or MinMax; empty for fp16."""
    same_label: float
    """Share of images that get the same raw label, 0 to 1."""
    accuracy: float
    """Of the reduced export, 0 to 1."""
    accuracy_fp32: float
    """Of the float32 export."""
    only_fp32_right: int
    """Images that float32 gets right and the reduced export wrong."""
    only_reduced_right: int
    """Images of which the opposite holds."""
    p_value: float
    """Of the loss: the exact one-sided McNemar test over the images on which only one of the two is right."""
    ece: float
    """Expected calibration error of the reduced export, of uncalibrated scores, 0 to 1."""
    ece_fp32: float
    """The same of the float32 export."""


def reduce_export(
    plain: Path, path: Path, precision: str, ranges: Sequence[Row], checked: Sequence[Row], name: str
) -> Agreement:
    """Write the float32 export `plain` in reduced precision to `path`, with the same card, and compare the two.

    `ranges`: training images, some of which give int8 its ranges, and others of which choose the way to take them.
    `checked`: images that are compared, `name` says which. Raises TrainingError, and writes nothing, where more than
    MOST_LOST is lost and chance does not explain it, or fewer labels are kept than LEAST_ALIKE.
    """
    before = Model.load(plain)
    rows = _some(checked, _CHECKED_IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _quiet_converters():
                if precision == "int8":
                    reduced, method, images = _best_int8(plain, before, Path(folder), ranges)
                else:
                    reduced, method, images = _halve(plain, Path(folder) / "half.onnx"), "", 0
                write_model(onnx.load(reduced), [before.card], reduced)
                after = Model.load(reduced)
        except (ValueError, RuntimeError, onnx.checker.ValidationError, ModelError) as error:
            what = str(error).strip().partition("\n")[0]
            raise TrainingError(f"{path.name}: its graph cannot be written as {precision} ({what})") from error
        found = _agreement(precision, before, after, rows, name, images, method)
        _refuse_worse(path, found)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(reduced.read_bytes())
    note(
        f"{path.name}: {precision} gives {found.same_label:.1%} of {found.images} images the same label, accuracy "
        f"{found.accuracy:.3f} (float32 {found.accuracy_fp32:.3f}; {_paired(found)}), calibration error "
        f"{found.ece:.3f} ({found.ece_fp32:.3f})"
    )
    return found


def reduced_scores(scores: Scores, plain: Model, reduced: Model) -> Scores:
    """Return cross-fitted scores as a reduced export would give them.

    The logits of each image, in every form, change as they do from `plain` to `reduced` on the image as it is. For
    images that the export itself judged these are its own scores; fold models have none in reduced precision, and
    their rounding is taken to be alike.
    """
    change = infer(reduced, scores.rows)[0] - infer(plain, scores.rows)[0]
    logits = scores.logits.copy()
    logits[:, :, [scores.labels.index(label) for label in plain.card.labels]] += change[:, None]
    return replace(scores, logits=logits)


def loss_p_value(only_before: int, only_after: int) -> float:
    """Return the exact one-sided McNemar test: how probable such a loss is where neither is better.

    `only_before`, `only_after`: images that the one is right about and the other is not. Source: McNemar 1947.
    """
    from scipy.stats import binomtest

    if only_before + only_after == 0:
        return 1.0
    return float(binomtest(only_before, only_before + only_after, 0.5, alternative="greater").pvalue)


def _refuse_worse(path: Path, found: Agreement) -> None:
    """Raise TrainingError where a reduced export is another model, or a worse one."""
    if found.same_label < LEAST_ALIKE:
        raise TrainingError(
            f"{path.name}: {found.precision} gives only {found.same_label:.1%} of {found.images} images the label that "
            f"float32 gives them; less than {LEAST_ALIKE:.0%} is another model, so it was not written"
        )
    if found.accuracy < found.accuracy_fp32 - MOST_LOST and found.p_value < CHANCE:
        raise TrainingError(
            f"{path.name}: {found.precision} gets {found.accuracy:.3f} of {found.images} images right and float32 "
            f"{found.accuracy_fp32:.3f}; {_paired(found)}: more than {MOST_LOST} is lost, and not by chance, so it was "
            "not written"
        )


def _paired(found: Agreement) -> str:
    differing = found.only_fp32_right + found.only_reduced_right
    return (
        f"of {differing} images that only one gets right, float32 has {found.only_fp32_right}, "
        f"exact McNemar p {found.p_value:.3f}"
    )


def as_record(agreement: Agreement) -> Mapping[str, Any]:
    """Return the figures as the model card keeps them."""
    return {name: round(x, 6) if isinstance(x, float) else x for name, x in asdict(agreement).items()}


@contextmanager
def _quiet_converters() -> Iterator[None]:
    """Silence the converters, whose advice is for who writes graphs, and their reports on histograms."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _best_int8(plain: Path, before: Model, folder: Path, training: Sequence[Row]) -> tuple[Path, str, int]:
    """Return the int8 graph that keeps most labels, how it got its ranges, and from how many images.

    Chosen on training images, further ones where there are enough: those that it is compared on choose nothing.
    """
    drawn = _some(training, _RANGE_IMAGES + _TRIAL_IMAGES)
    trial = drawn[:: max(1, len(drawn) // _TRIAL_IMAGES)][:_TRIAL_IMAGES]
    taken = {id(row) for row in trial}
    ranges = [row for row in drawn if id(row) not in taken] if len(drawn) > 2 * len(trial) else drawn
    whole = len(ranges) // _IMAGES_AT_ONCE * _IMAGES_AT_ONCE  # as the quantiser wants it
    ranges = ranges[: whole or len(ranges)][:_RANGE_IMAGES]
    wanted = infer(before, trial)[0].argmax(axis=1)
    best: tuple[float, Path, str] | None = None
    for method in _RANGE_METHODS:
        candidate = folder / f"{method}.onnx"
        _quantise(plain, candidate, _RangeReader(ranges, before.card.preprocessing), method)
        write_model(onnx.load(candidate), [before.card], candidate)
        alike = float((infer(Model.load(candidate), trial)[0].argmax(axis=1) == wanted).mean())
        if best is None or alike > best[0]:
            best = alike, candidate, method
        if alike >= _ALIKE_ENOUGH:
            break
    assert best is not None
    return best[1], best[2], len(ranges)


class _RangeReader:
    """Images as ONNX Runtime's quantiser reads them: a part at a time, for it holds every activation of the part."""

    def __init__(self, rows: Sequence[Row], preprocessing: Preprocessing) -> None:
        self._rows = rows
        self._preprocessing = preprocessing
        self.set_range(0, len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Begin anew with a part of the images."""
        self._rest = iter(self._rows[start_index:end_index])

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the inputs of the next image; None after the last."""
        row = next(self._rest, None)
        if row is None:
            return None
        cut = views(read_pixels(row), self._preprocessing)
        return {"views": cut, "image": np.zeros(len(cut), np.int64), "state": np.zeros(1, np.int64)}


def _quantise(path: Path, reduced: Path, images: _RangeReader, method: str) -> None:
    """Write an export with 8-bit weights, one scale a channel, and 8-bit activations (QDQ).

    What comes before the second convolution and the head stay in float32; they cost little and lose most. Weights keep
    7 bits: without VNNI instructions two products of 8 bits overflow the 16 that they are added up in, and the scores
    would depend on the processor. Source: ONNX Runtime, "Quantize ONNX models".
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = reduced.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared)
    quantize_static(
        prepared,
        reduced,
        images,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        nodes_to_exclude=_sensitive(onnx.load(prepared).graph),
        extra_options={"CalibStridedMinMax": min(_IMAGES_AT_ONCE, len(images))},
    )


def _sensitive(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes up to the first convolution, and of those behind the last one: means and the head.

    The head is a Gemm here, its bias joined to its product by the preparation.
    """
    convolutions = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    first = convolutions[0] if convolutions else -1
    stored = {tensor.name for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    names = {node.name for node in graph.node[: first + 1]}
    names |= {node.name for node in graph.node if node.op_type in ("Gemm", "ReduceMean")}
    wanted = [output.name for output in graph.output]
    passed: set[str] = set()
    while wanted:
        name = wanted.pop()
        node = producers.get(name)
        if node is None or name in passed or (node.op_type in ("Conv", "MatMul") and stored & set(node.input)):
            continue
        passed.add(name)
        names.add(node.name)
        wanted.extend(node.input)
    return sorted(names - {""})


def _halve(path: Path, reduced: Path) -> Path:
    """Write an export that computes in 16-bit floats; input and output stay as they are. Returns the file."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=True))
    converted.topological_sort()  # the conversion appends its casts at the end
    onnx.save(converted.model, reduced)
    return reduced


def _some(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, drawn by a fixed seed, in their order."""
    if len(rows) <= count:
        return list(rows)
    places = generator_for("reduce", 0).choice(len(rows), count, replace=False)
    return [rows[i] for i in sorted(int(place) for place in places)]


def _agreement(
    precision: str, before: Model, after: Model, rows: Sequence[Row], name: str, range_images: int, range_method: str
) -> Agreement:
    targets = targets_of(before.card, rows)
    plain, reduced = infer(before, rows)[0], infer(after, rows)[0]
    right_before, right_after = plain.argmax(axis=1) == targets, reduced.argmax(axis=1) == targets
    lost, gained = int((right_before & ~right_after).sum()), int((right_after & ~right_before).sum())

    def error(logits: Logits) -> float:
        return expected_calibration_error(softmax(logits), targets)

    return Agreement(
        precision,
        len(rows),
        name,
        range_images,
        range_method,
        same_label=float((plain.argmax(axis=1) == reduced.argmax(axis=1)).mean()),
        accuracy=float(right_after.mean()),
        accuracy_fp32=float(right_before.mean()),
        only_fp32_right=lost,
        only_reduced_right=gained,
        p_value=loss_p_value(lost, gained),
        ece=error(reduced),
        ece_fp32=error(plain),
    )
