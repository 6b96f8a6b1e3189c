"""Exports of reduced precision: int8 and fp16, written only where they judge as the float32 export does."""

import io
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from forensic_cli.console import note
from forensic_cli.errors import ModelError, TrainingError
from forensic_cli.model import Logits, Model, softmax
from forensic_cli.preprocess import Views, views
from forensic_train.calibrate import calibrate, expected_calibration_error
from forensic_train.dataset import read_pixels
from forensic_train.evaluate import infer, targets_of
from forensic_train.export import write_model
from forensic_train.manifest import Row
from forensic_train.run import atomic
from forensic_train.seeds import generator_for

MOST_LOST = 0.005
"""Accuracy that a reduced export may lose against float32, as a share of the images: half a point."""
LEAST_ALIKE = 0.8
"""Share of images that must keep their label: two poor models can be right equally often, and about other images."""
_CALIBRATION_IMAGES = 64
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
    same_label: float
    """Share of images that get the same raw label, 0 to 1."""
    accuracy: float
    """Of the reduced export, 0 to 1."""
    accuracy_fp32: float
    """Of the float32 export."""
    ece: float
    """Expected calibration error of the reduced export, at the temperature that suits float32, 0 to 1."""
    ece_fp32: float
    """The same of the float32 export."""


def reduce_export(
    plain: Path, path: Path, precision: str, ranges: Sequence[Row], checked: Sequence[Row], name: str
) -> Agreement:
    """Write the float32 export `plain` in reduced precision to `path`, with the same card, and compare the two.

    `ranges`: training images, some of which give int8 its ranges. `checked`: images that are compared, `name` says
    which. Raises TrainingError, and writes nothing, where it loses more than MOST_LOST
    or keeps fewer labels than LEAST_ALIKE.
    """
    before = Model.load(plain)
    rows = _some(checked, _CHECKED_IMAGES)
    chosen = _some(ranges, _CALIBRATION_IMAGES) if precision == "int8" else []
    with tempfile.TemporaryDirectory() as folder:
        reduced = Path(folder) / path.name
        logging.disable(logging.WARNING)  # the converters' advice is for who writes graphs
        try:
            if precision == "int8":
                _quantise(plain, reduced, (views(read_pixels(row), before.card.preprocessing) for row in chosen))
            else:
                _halve(plain, reduced)
            write_model(onnx.load(reduced), [before.card], reduced)
            after = Model.load(reduced)
        except (ValueError, RuntimeError, onnx.checker.ValidationError, ModelError) as error:
            what = str(error).strip().partition("\n")[0]
            raise TrainingError(f"{path.name}: its graph cannot be written as {precision} ({what})") from error
        finally:
            logging.disable(logging.NOTSET)
        found = _agreement(precision, before, after, rows, name, len(chosen))
        if found.same_label < LEAST_ALIKE:
            raise TrainingError(
                f"{path.name}: {precision} gives only {found.same_label:.1%} of {len(rows)} images the label that "
                f"float32 gives them; less than {LEAST_ALIKE:.0%} is another model, so it was not written"
            )
        if found.accuracy < found.accuracy_fp32 - MOST_LOST:
            raise TrainingError(
                f"{path.name}: {precision} gets {found.accuracy:.3f} of {len(rows)} images right and float32 "
                f"{found.accuracy_fp32:.3f}; more than {MOST_LOST} may not be lost, so it was not written"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(reduced.read_bytes())
    note(
        f"{path.name}: {precision} gives {found.same_label:.1%} of {found.images} images the same label, accuracy "
        f"{found.accuracy:.3f} (float32 {found.accuracy_fp32:.3f}), calibration error {found.ece:.3f} "
        f"({found.ece_fp32:.3f})"
    )
    return found


def as_record(agreement: Agreement) -> Mapping[str, Any]:
    """Return the figures as the model card keeps them."""
    return {name: round(x, 6) if isinstance(x, float) else x for name, x in asdict(agreement).items()}


def _quantise(path: Path, reduced: Path, images: Iterable[Views]) -> None:
    """Write an export with 8-bit weights, one scale a channel, and 8-bit activations (QDQ).

    Ranges are those of all but one activation in 100,000: single outliers would make all others coarse. What comes
    before the second convolution and the head stay in float32; they cost little and lose most. Weights keep 7 bits:
    without VNNI instructions two products of 8 bits overflow the 16 that they are added up in, and the scores would
    depend on the processor. Source: ONNX Runtime, "Quantize ONNX models".
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(images)

        def get_next(self) -> dict[str, Views] | None:
            cut = next(self._rest, None)
            return None if cut is None else {"views": cut}

    prepared = reduced.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared)
    with redirect_stdout(io.StringIO()):  # it reports on its histograms
        quantize_static(
            prepared,
            reduced,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            nodes_to_exclude=_sensitive(onnx.load(prepared).graph),
        )


def _sensitive(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes up to the first convolution, and of the means and matrix products at the end."""
    convolutions = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    first = convolutions[0] if convolutions else -1
    head = [node for node in graph.node if node.op_type in ("Gemm", "ReduceMean")]
    return [node.name for node in (*graph.node[: first + 1], *head) if node.name]


def _halve(path: Path, reduced: Path) -> None:
    """Write an export that computes in 16-bit floats; input and output stay as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=True))
    converted.topological_sort()  # the conversion appends its casts at the end
    onnx.save(converted.model, reduced)


def _some(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, drawn by a fixed seed, in their order."""
    if len(rows) <= count:
        return list(rows)
    places = generator_for("reduce", 0).choice(len(rows), count, replace=False)
    return [rows[i] for i in sorted(int(place) for place in places)]


def _agreement(
    precision: str, before: Model, after: Model, rows: Sequence[Row], name: str, calibration_images: int
) -> Agreement:
    targets = targets_of(before.card, rows)
    plain, reduced = infer(before, rows), infer(after, rows)
    temperature = calibrate(plain, targets, balanced=True).temperature

    def error(logits: Logits) -> float:
        return expected_calibration_error(softmax(logits, temperature), targets)

    return Agreement(
        precision,
        len(rows),
        name,
        calibration_images,
        same_label=float((plain.argmax(axis=1) == reduced.argmax(axis=1)).mean()),
        accuracy=float((reduced.argmax(axis=1) == targets).mean()),
        accuracy_fp32=float((plain.argmax(axis=1) == targets).mean()),
        ece=error(reduced),
        ece_fp32=error(plain),
    )
