"""Export: a trained network and its card in one ONNX file, checked against PyTorch before anyone may use it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.export import Dim

from forensic_cli.card import ModelCard, card_key
from forensic_cli.errors import TrainingError
from forensic_cli.model import Model
from forensic_train.network import Network
from forensic_train.run import atomic

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between a logit of PyTorch and one of ONNX Runtime."""
_PARITY_BATCH = 5


def export_network(network: Network, card: ModelCard, path: Path) -> None:
    """Write the ONNX file: input views uint8 N x S x S x 3, output logits float32 N x K.

    Raises TrainingError when it does not compute what PyTorch computes; no file is left then.
    """
    network = network.cpu().eval()
    size = card.preprocessing.size
    example = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=["views"],
        output_names=["logits"],
        dynamic_shapes={"views": {0: Dim("batch")}},
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        write_model(proto, [card], temporary)
        check_parity(network, temporary)


def write_card(path: Path, card: ModelCard) -> None:
    """Replace the card inside an export of one technique; the graph and the weights stay as they are."""
    proto = onnx.load(path)
    with atomic(path) as temporary:
        write_model(proto, [card], temporary)


def check_parity(network: Network, path: Path) -> None:
    """Compare PyTorch and ONNX Runtime on random and flat views. Raises TrainingError when they differ.

    Largest difference below 1e-4, the same top label, and the same logits one by one as in a batch.
    """
    model = Model.load(path)
    size = model.card.preprocessing.size
    views = np.random.default_rng(0).integers(0, 256, (_PARITY_BATCH, size, size, 3), dtype=np.uint8)
    views[-1] = 128
    with torch.inference_mode():
        expected = network(torch.from_numpy(views)).numpy()
    batch = model.logits(views)
    singly = np.concatenate([model.logits(view[None]) for view in views])
    worst = max(float(np.abs(expected - found).max()) for found in (batch, singly))
    if not worst < TOLERANCE or not all(
        np.array_equal(expected.argmax(axis=1), found.argmax(axis=1)) for found in (batch, singly)
    ):
        raise TrainingError(
            f"{path.name}: the export differs from PyTorch by {worst:.1e} (allowed {TOLERANCE:.0e}); it was not written"
        )


def write_model(proto: onnx.ModelProto, cards: Sequence[ModelCard], path: Path) -> None:
    """Write a graph with the card of each technique in it, and nothing of the machine that it was made on."""
    _strip(proto)
    del proto.metadata_props[:]
    for card in cards:
        proto.metadata_props.add(key=card_key(card.technique, len(cards)), value=card.to_json())
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what the exporter notes about the machine that it ran on."""
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
