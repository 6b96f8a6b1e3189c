"""ONNX export: a trained network and its card in one file, which must give the same results as PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.export import Dim

from forensic_cli.card import ModelCard, Preprocessing, card_key, output_names
from forensic_cli.errors import DataError, TrainingError
from forensic_cli.images.views import Views, views
from forensic_cli.model import Model, formula_views
from forensic_train.dataset import read_pixels
from forensic_train.network import Network
from forensic_train.rows import Row
from forensic_train.run import atomic

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between a logit of PyTorch and one of ONNX Runtime, as a share of the largest logit."""
_PARITY_IMAGES = 8
_PARITY_VIEWS = 24


def export_network(network: Network, card: ModelCard, path: Path, images: Views | None = None) -> None:
    """Write the ONNX file: inputs views uint8 N x S x S x 3, image N and state B, outputs logits B x K and distance B.

    `images`: real views to compare it with PyTorch on, besides those of check_parity(). Raises TrainingError and leaves
    no file if its results differ from those of PyTorch.
    """
    network = network.cpu().eval()
    size = card.preprocessing.size
    example = torch.randint(0, 256, (5, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        network,
        (example, torch.tensor([0, 0, 1, 2, 2]), torch.zeros(3, dtype=torch.int64)),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=["views", "image", "state"],
        output_names=list(output_names(card.technique, 1)),
        # Names instead of Dim(): then one capture is enough, where Dim() fails and a slower way is tried
        dynamic_shapes={"views": {0: "views"}, "image": {0: Dim.AUTO}, "state": {0: "images"}},
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        write_model(proto, [card], temporary)
        check_parity(network, temporary, images)


def write_card(path: Path, card: ModelCard) -> None:
    """Replace the card inside an export of one technique; the graph and the weights stay the same."""
    proto = onnx.load(path)
    with atomic(path) as temporary:
        write_model(proto, [card], temporary)


def parity_views(rows: Sequence[Row], preprocessing: Preprocessing) -> Views | None:
    """Return views of a few images, spread over the rows, to compare an export on; None if none can be read."""
    cut = []
    for row in rows[:: max(1, len(rows) // _PARITY_IMAGES)][:_PARITY_IMAGES]:
        try:
            cut.append(views(read_pixels(row), preprocessing)[: _PARITY_VIEWS // _PARITY_IMAGES])
        except DataError:  # the images of an old run may have been moved
            continue
    return np.concatenate(cut) if cut else None


def check_parity(network: Network, path: Path, images: Views | None = None) -> None:
    """Compare PyTorch and ONNX Runtime on views made by a formula, and on `images`, real views N x S x S x 3.

    Logits may differ by TOLERANCE times the largest one (times 1 if that is smaller, because rounding errors grow with
    the logits), top labels must be equal, and single views must give the same as a batch.
    Raises TrainingError otherwise.
    """
    model = Model.load(path)
    cut = formula_views(model.card.preprocessing.size)
    cut = cut if images is None else np.concatenate([cut, images])
    states = [model.card.states[i % len(model.card.states)] for i in range(len(cut))]
    with torch.inference_mode():
        index = torch.tensor([model.card.states.index(state) for state in states])
        expected = network(torch.from_numpy(cut), torch.arange(len(cut)), index)[0].numpy()
    batch = model.judge([view[None] for view in cut], states).logits
    singly = np.concatenate(
        [model.judge([view[None]], [state]).logits for view, state in zip(cut, states, strict=True)]
    )
    scale = max(1.0, float(np.abs(expected).max()))
    worst = max(float(np.abs(a - b).max()) / scale for a, b in ((expected, batch), (expected, singly), (batch, singly)))
    if not worst < TOLERANCE:
        raise TrainingError(
            f"{path.name}: the export differs from PyTorch by {worst:.1e} of its largest logit (allowed "
            f"{TOLERANCE:.0e}); it was not written"
        )
    if not all(np.array_equal(expected.argmax(axis=1), logits.argmax(axis=1)) for logits in (batch, singly)):
        raise TrainingError(f"{path.name}: the export gives a different label than PyTorch; it was not written")


def write_model(proto: onnx.ModelProto, cards: Sequence[ModelCard], path: Path) -> None:
    """Write a graph with the card of each technique, and without traces of the machine that made it."""
    _strip(proto)
    del proto.metadata_props[:]
    for card in cards:
        proto.metadata_props.add(key=card_key(card.technique, len(cards)), value=card.to_json())
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _strip(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes, which contain paths of the machine that it ran on."""
    proto.doc_string = ""
    for holder in (
        proto.graph,
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.value_info,
    ):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
