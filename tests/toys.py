"""Toy exports, toy images and a child process for the tests: small enough to check by hand."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from forensic_cli.card import CARD_KEY, Calibration, ModelCard, Preprocessing

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "/nonexistent"
"""A folder of configuration that has none: what a developer has set must not change what the tests see."""
LABELS = ("real", "alpha", "beta")
"""The toy network calls red `real`, green `alpha`, blue `beta`, and finds grey to be nothing of them."""
GAINS = {"baseline": 4.0, "weighted": 4.5, "finetune": 5.0, "adversarial": 5.5}
"""Logit of a pure colour, by technique: softmax((gain, 0, 0)) is what a red image gets."""
PREPROCESSING = Preprocessing("patches", 32, 2)
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _PR_CAPBSET_DROP = 1, 2, 24


def toy_card(
    technique: str = "baseline", recipe: str = "native", labels: Sequence[str] = LABELS, **more: Any
) -> ModelCard:
    """Return a card that fits what `write_toy_export` builds by default."""
    return ModelCard(
        name=more.pop("name", f"{recipe}-{technique}"),
        technique=technique,
        recipe=recipe,
        labels=tuple(labels),
        preprocessing=more.pop("preprocessing", PREPROCESSING),
        calibration=more.pop("calibration", Calibration(1.0, 10, 0.1, 0.05)),
        **more,
    )


def write_toy_export(
    path: Path,
    card: ModelCard | None = None,
    weights: Any = None,
    text: str | None = None,
    size: int | None = None,
) -> Path:
    """Write an export: mean colour (0 to 1) times `weights` (3 x K).

    `text` takes the place of the card's JSON; with neither card nor text the file has no card. `size` is the
    side of the graph's input, else the card's.
    """
    if weights is None:
        technique, count = (card.technique, len(card.labels)) if card else ("baseline", len(LABELS))
        weights = np.eye(3, count) * GAINS.get(technique, 4.0)
    weights = np.asarray(weights, np.float32)
    side = size or (card.preprocessing.size if card else PREPROCESSING.size)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["views"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "sides"], ["colour"], keepdims=0),
            helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
        ],
        "toy",
        [helper.make_tensor_value_info("views", TensorProto.UINT8, ["N", side, side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "sides"),
            numpy_helper.from_array(weights / np.float32(255), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if text is None and card is not None:
        text = card.to_json()
    if text is not None:
        helper.set_model_props(model, {CARD_KEY: text})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_toy_exports(folder: Path, recipe: str = "native", **more: Any) -> Path:
    """Write one toy export for each technique; returns the folder."""
    for technique in GAINS:
        write_toy_export(folder / f"{recipe}-{technique}.onnx", toy_card(technique, recipe, **more))
    return folder


def solid(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (40, 36), **options: Any) -> Path:
    """Write a one-coloured image (3 channels RGB, 4 channels RGBA); returns its path."""
    mode = "RGBA" if len(colour) == 4 else "RGB"
    Image.new(mode, size, colour).save(path, **options)
    return path


def make_images(folder: Path) -> Path:
    """Write five readable images: red, green, blue, grey, and a tiny red one."""
    folder.mkdir(parents=True, exist_ok=True)
    solid(folder / "1-red.png", (255, 0, 0))
    solid(folder / "2-green.webp", (0, 255, 0), (90, 70), lossless=True)
    solid(folder / "3-blue.bmp", (0, 0, 255))
    solid(folder / "4-grey.png", (128, 128, 128))
    solid(folder / "5-tiny.png", (255, 0, 0), (12, 9))
    return folder


def rows_of(text: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines report, without its header and seal."""
    return [row for row in map(json.loads, text.splitlines()[1:]) if "seal" not in row]


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that imports this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENFORENSIC_")}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "train")])
    return {
        **environment,
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": NOWHERE,
        **more,
    }


def genforensic(
    *arguments: Any, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a child process; never hangs, and never shows a traceback."""
    settings: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "timeout": 60, **options}
    environment = child_environment(**(env or {}))
    done = subprocess.run([sys.executable, "-m", "forensic_cli", *arguments], env=environment, check=False, **settings)
    assert "Traceback" not in str(done.stdout) + str(done.stderr)
    return done


def drop_root_override() -> None:
    """Let file permissions bind root too: for `preexec_fn`. Raises where the kernel does not allow it."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def obeys_permissions() -> bool:
    """Tell whether permissions bind a child process here, be it root's."""
    try:
        return os.geteuid() != 0 or bool(subprocess.run(["true"], preexec_fn=drop_root_override, check=True))
    except (OSError, subprocess.SubprocessError):
        return False
