"""Quantization: int8 and fp16 exports, written only if they judge images as the float32 export does."""

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
from forensic_train.onnx_export import write_model
from forensic_train.rows import Row
from forensic_train.run import atomic
from forensic_train.seeds import generator_for

MOST_LOST = 0.005
"""Share of the images, half a point of accuracy, that a reduced export may always lose against float32."""
CHANCE = 0.05
"""Significance level: a larger loss is refused if its McNemar p-value is below this."""
LEAST_ALIKE = 0.8
"""Share of images that must keep their label: two poor models can have the same accuracy on different images."""
_RANGE_METHODS = ("Percentile", "Entropy", "MinMax")
"""Methods of ONNX Runtime to choose the ranges of int8; the next one is tried if a method changes too many labels."""
_ALIKE_ENOUGH = 0.98
_RANGE_IMAGES = 500
_IMAGES_AT_ONCE = 10
_TRIAL_IMAGES = 200
_CHECKED_IMAGES = 1000


@dataclass(frozen=True)
class Agreement:
    """How an export of reduced precision judges in comparison with the float32 export of the same weights."""

    precision: str
    """int8 or fp16."""
    images: int
    """Number of images compared."""
    set: str
    """Description of these images."""
    calibration_images: int
    """Training images that determine the ranges of int8; 0 for fp16."""
    range_method: str
    """Percentile, Entropy or MinMax; empty for fp16."""
    same_label: float
    """Share of images with the same raw label, 0 to 1."""
    accuracy: float
    """Accuracy of the reduced export, 0 to 1."""
    accuracy_fp32: float
    """Accuracy of the float32 export, 0 to 1."""
    only_fp32_right: int
    """Images on which float32 is right and the reduced export is wrong."""
    only_reduced_right: int
    """Images on which float32 is wrong and the reduced export is right."""
    p_value: float
    """Exact one-sided McNemar test of the loss, over the images on which only one of the two is right."""
    ece: float
    """Expected calibration error of the uncalibrated scores of the reduced export, 0 to 1."""
    ece_fp32: float
    """The same for the float32 export."""


def reduce_export(
    plain: Path, path: Path, precision: str, ranges: Sequence[Row], checked: Sequence[Row], name: str
) -> Agreement:
    """Write the float32 export `plain` in reduced precision to `path`, with the same card, and compare the two.

    `ranges`: training images; some determine the ranges of int8, others choose the method for that. `checked`: images
    to compare the exports on, described by `name`. Raises TrainingError and writes nothing if more than MOST_LOST is
    lost and chance does not explain it, or if fewer labels than LEAST_ALIKE stay the same.
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
        agreement = _agreement(precision, before, after, rows, name, images, method)
        _refuse_worse(path, agreement)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(reduced.read_bytes())
    note(
        f"{path.name}: {precision} gives {agreement.same_label:.1%} of {agreement.images} images the same label, "
        f"accuracy {agreement.accuracy:.3f} (float32 {agreement.accuracy_fp32:.3f}; {_paired(agreement)}), calibration "
        f"error {agreement.ece:.3f} ({agreement.ece_fp32:.3f})"
    )
    return agreement


def reduced_scores(scores: Scores, plain: Model, reduced: Model) -> Scores:
    """Return out-of-fold scores as a reduced export would give them.

    Fold models exist only in float32. So the logits of an image, in every form, are changed by the difference that the
    image as published has between the exports `plain` and `reduced`; fold models are assumed to round alike.
    """
    change = infer(reduced, scores.rows)[0] - infer(plain, scores.rows)[0]
    logits = scores.logits.copy()
    logits[:, :, [scores.labels.index(label) for label in plain.card.labels]] += change[:, None]
    return replace(scores, logits=logits)


def loss_p_value(only_before: int, only_after: int) -> float:
    """Return the p-value of the exact one-sided McNemar test (McNemar 1947) of a loss of accuracy.

    `only_before`, `only_after`: number of images on which only the one or the other model is right.
    """
    from scipy.stats import binomtest

    if only_before + only_after == 0:
        return 1.0
    return float(binomtest(only_before, only_before + only_after, 0.5, alternative="greater").pvalue)


def _refuse_worse(path: Path, agreement: Agreement) -> None:
    """Raise TrainingError if a reduced export is effectively another model, or a worse one."""
    if agreement.same_label < LEAST_ALIKE:
        raise TrainingError(
            f"{path.name}: {agreement.precision} gives only {agreement.same_label:.1%} of {agreement.images} images "
            f"the label that float32 gives them; less than {LEAST_ALIKE:.0%} is another model, so it was not written"
        )
    if agreement.accuracy < agreement.accuracy_fp32 - MOST_LOST and agreement.p_value < CHANCE:
        raise TrainingError(
            f"{path.name}: {agreement.precision} gets {agreement.accuracy:.3f} of {agreement.images} images right and "
            f"float32 {agreement.accuracy_fp32:.3f}; {_paired(agreement)}: more than {MOST_LOST} is lost, and not by "
            "chance, so it was not written"
        )


def _paired(agreement: Agreement) -> str:
    """Return the paired comparison in words."""
    differing = agreement.only_fp32_right + agreement.only_reduced_right
    return (
        f"of {differing} images that only one gets right, float32 has {agreement.only_fp32_right}, "
        f"exact McNemar p {agreement.p_value:.3f}"
    )


def as_record(agreement: Agreement) -> Mapping[str, Any]:
    """Return the figures for the model card."""
    return {name: round(x, 6) if isinstance(x, float) else x for name, x in asdict(agreement).items()}


@contextmanager
def _quiet_converters() -> Iterator[None]:
    """Silence the converters: their advice on graphs and their reports on histograms do not concern the user."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _best_int8(plain: Path, before: Model, folder: Path, training: Sequence[Row]) -> tuple[Path, str, int]:
    """Return the int8 graph that keeps most labels, the method of its ranges, and the number of images for that.

    The method is chosen on other training images than the ranges, if there are enough, and never on those that the
    exports are compared on.
    """
    drawn = _some(training, _RANGE_IMAGES + _TRIAL_IMAGES)
    trial = drawn[:: max(1, len(drawn) // _TRIAL_IMAGES)][:_TRIAL_IMAGES]
    taken = {id(row) for row in trial}
    ranges = [row for row in drawn if id(row) not in taken] if len(drawn) > 2 * len(trial) else drawn
    whole = len(ranges) // _IMAGES_AT_ONCE * _IMAGES_AT_ONCE  # the quantizer needs a multiple of it
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
    """Images for ONNX Runtime's quantizer, in parts: it keeps every activation of a part in memory."""

    def __init__(self, rows: Sequence[Row], preprocessing: Preprocessing) -> None:
        self._rows = rows
        self._preprocessing = preprocessing
        self.set_range(0, len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Start again with a part of the images."""
        self._rest = iter(self._rows[start_index:end_index])

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the inputs of the next image, or None after the last one."""
        row = next(self._rest, None)
        if row is None:
            return None
        cut = views(read_pixels(row), self._preprocessing)
        return {"views": cut, "image": np.zeros(len(cut), np.int64), "state": np.zeros(1, np.int64)}


def _quantise(path: Path, reduced: Path, images: _RangeReader, method: str) -> None:
    """Write an export with 8-bit weights, one scale per channel, and 8-bit activations (QDQ).

    Everything before the second convolution and the head stay in float32, because they cost little time and lose most
    accuracy. Weights use 7 bits only: without VNNI instructions, the sum of two 8-bit products overflows its 16 bits,
    and scores would depend on the processor. Source: ONNX Runtime, "Quantize ONNX models".
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
    """Return the names of the nodes up to the first convolution and after the last one: means and the head.

    The head is a Gemm here, because quant_pre_process joins its product and its bias.
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
    """Write an export that computes in 16-bit floats, with the same inputs and outputs. Returns its path."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=True))
    converted.topological_sort()  # the conversion appends its casts at the end
    onnx.save(converted.model, reduced)
    return reduced


def _some(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, drawn with a fixed seed, in their original order."""
    if len(rows) <= count:
        return list(rows)
    places = generator_for("reduce", 0).choice(len(rows), count, replace=False)
    return [rows[i] for i in sorted(int(place) for place in places)]


def _agreement(
    precision: str, before: Model, after: Model, rows: Sequence[Row], name: str, range_images: int, range_method: str
) -> Agreement:
    """Compare two exports on labelled images."""
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
