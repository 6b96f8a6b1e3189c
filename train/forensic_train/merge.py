"""Merge several exports into one file, which stores and computes the common parts of their graphs only once."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import compose

from forensic_cli.card import output_names
from forensic_cli.console import already_there
from forensic_cli.errors import ModelError
from forensic_cli.exports import Export, check_labels
from forensic_cli.model import Model
from forensic_train.card_markdown import card_markdown
from forensic_train.onnx_export import write_model
from forensic_train.run import atomic

_TOLERANCE = 1e-5
_PARITY_BATCH = 3


def merge_exports(files: Sequence[Path], output: Path, force: bool = False) -> Path:
    """Write one export with all techniques of several ones, and their cards as Markdown next to it; returns its path.

    Equal weights and equal nodes are shared, so a common encoder or common first layers are stored and computed once.
    Raises ModelError for exports that cannot be merged (different recipes or labels, a technique twice) and if the
    merged file gives other results, and OutputError for an existing file unless `force` is set.
    """
    if output.exists() and (not force or not output.is_file()):
        raise already_there(output)
    exports = [export for path in files for export in Export.peek(path)]
    _check(exports)
    graphs = [onnx.load(path) for path in files]
    merged = graphs[0].__class__()
    merged.CopyFrom(graphs[0])
    merged.ClearField("graph")
    merged.graph.name = "merged"
    merged.graph.input.extend(graphs[0].graph.input)
    for place, (path, proto) in enumerate(zip(files, graphs, strict=True)):
        _take_in(
            merged,
            proto,
            f"{place}/",
            [export.card.technique for export in exports if export.path == path],
            len(exports),
        )
    _share_initializers(merged.graph)
    _share_nodes(merged.graph)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic(output) as temporary:
        write_model(merged, [export.card for export in exports], temporary)
        _check_parity(files, temporary)
    for export in exports:
        with atomic(output.with_name(f"{export.card.name}.md")) as temporary:
            temporary.write_text(card_markdown(export.card, output.name), encoding="utf-8")
    return output


def _check(exports: Sequence[Export]) -> None:
    """Raise ModelError unless the exports have one recipe, the same labels and different techniques."""
    check_labels(exports)
    first = exports[0]
    for other in exports[1:]:
        for what in ("recipe", "preprocessing"):
            if getattr(other.card, what) != getattr(first.card, what):
                raise ModelError(f"{other.path}: has a different {what} than {first.path}; merge exports of one recipe")
    techniques = [export.card.technique for export in exports]
    for technique in techniques:
        if techniques.count(technique) > 1:
            raise ModelError(f"technique {technique!r} is in several of the files; merge one export of each")


def _take_in(merged: onnx.ModelProto, proto: onnx.ModelProto, prefix: str, own: Sequence[str], techniques: int) -> None:
    """Append a graph; names get a prefix, except those of inputs, and outputs are named after their techniques."""
    known = {opset.domain: opset.version for opset in merged.opset_import}
    for opset in proto.opset_import:
        if known.setdefault(opset.domain, opset.version) != opset.version:
            raise ModelError(f"the exports have different operator sets of {opset.domain or 'ONNX'}; export them again")
    del merged.opset_import[:]
    merged.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in known.items())
    graph = compose.add_prefix_graph(proto.graph, prefix, rename_inputs=False)
    renamed = {
        f"{prefix}{before}": after
        for name in own
        for before, after in zip(output_names(name, len(own)), output_names(name, techniques), strict=True)
    }
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = renamed[output.name]
    merged.graph.node.extend(graph.node)
    merged.graph.initializer.extend(graph.initializer)
    merged.graph.output.extend(graph.output)


def _share_initializers(graph: onnx.GraphProto) -> None:
    """Keep only the first of all initializers with the same type, shape and values."""
    first: dict[tuple[int, tuple[int, ...], str], str] = {}
    same: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        key = (tensor.data_type, tuple(tensor.dims), sha256(np.ascontiguousarray(values).tobytes()).hexdigest())
        same[tensor.name] = first.setdefault(key, tensor.name)
        if same[tensor.name] == tensor.name:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def _share_nodes(graph: onnx.GraphProto) -> None:
    """Keep only the first of all nodes with the same operator, attributes and inputs.

    ONNX Runtime does this itself for float32 graphs, but not for quantized ones, where it treats equal dequantizations
    as different.
    """
    first: dict[tuple[str, str, tuple[str, ...], bytes], Sequence[str]] = {}
    same: dict[str, str] = {}
    results = {output.name for output in graph.output}
    kept = []
    for node in graph.node:  # ONNX stores nodes after those that their inputs come from
        node.input[:] = [same.get(name, name) for name in node.input]
        attributes = b"".join(sorted(part.SerializeToString(deterministic=True) for part in node.attribute))
        outputs = first.setdefault((node.domain, node.op_type, tuple(node.input), attributes), tuple(node.output))
        if outputs == tuple(node.output) or results & set(node.output):
            kept.append(node)
        else:
            same.update(zip(node.output, outputs, strict=True))
    del graph.node[:]
    graph.node.extend(kept)


def _check_parity(files: Sequence[Path], merged: Path) -> None:
    """Raise ModelError if the merged file gives other logits than the exports it was made of."""
    together = {model.card.technique: model for model in Model.load_all(merged)}
    for path in files:
        for model in Model.load_all(path):
            size = model.card.preprocessing.size
            views = np.random.default_rng(0).integers(0, 256, (_PARITY_BATCH, size, size, 3), dtype=np.uint8)
            images, states = [view[None] for view in views], [model.card.states[0]] * len(views)
            before = model.judge(images, states).logits
            difference = float(np.abs(before - together[model.card.technique].judge(images, states).logits).max())
            if not difference < _TOLERANCE:
                raise ModelError(
                    f"{model.card.technique}: the merged file differs from {path} by {difference:.1e} "
                    f"(allowed {_TOLERANCE:.0e}); it was not written"
                )
