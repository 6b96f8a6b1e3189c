"""From a trained run to a model that can be used: export, parity check, calibration, evaluation, model card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from forensic_cli import __version__
from forensic_cli.card import ModelCard
from forensic_cli.console import note
from forensic_cli.errors import TrainingError
from forensic_cli.model import Model
from forensic_train.card_markdown import card_markdown
from forensic_train.crossfit.measure import calibrate_on, evaluate_scores
from forensic_train.crossfit.scores import Scores, read_scores, scores_file
from forensic_train.decide import fit_decisions
from forensic_train.evaluate import evaluate_all, score_rows
from forensic_train.manifest import count_cells, with_hashes
from forensic_train.network import Network
from forensic_train.onnx_export import export_network, parity_views, write_card
from forensic_train.quantization import as_record, reduce_export, reduced_scores
from forensic_train.recipes import Recipe, find_recipe
from forensic_train.robustness import card_robustness, measure_test
from forensic_train.rows import Row, Rows
from forensic_train.run import EXPORTS_FOLDER, RunConfig, atomic, load_network, read_split, technique_run
from forensic_train.signals import signals_folder
from forensic_train.techniques import find_techniques, splits_behind
from forensic_train.techniques.base import Technique


def export_run(
    output: Path,
    technique: str,
    target: Path | None = None,
    robust: bool = False,
    evaluated: bool = True,
    scores: Path | None = None,
    precision: str = "fp32",
    signals: Path | None = None,
) -> Path:
    """Export a trained run, with parity check, calibration, evaluation and card. Returns the path of the export.

    `scores`: folder with out-of-fold scores to calibrate and evaluate on, without those of images in the run's own
    `test`; None: calibrate on `val` and evaluate on `test`.
    `precision`: fp32, int8 or fp16; a reduced one is compared with float32 and refused if worse (quantization.py).
    `robust`: evaluate re-encodings of `test` as well, which takes as long as a dozen evaluations.
    `evaluated`: whether to calibrate and evaluate at all. `signals`: folder where signals are kept; None: `output`.
    Raises TrainingError.
    """
    run = technique_run(output, technique)
    config = run.config()
    recipe = find_recipe(config.recipe)
    kind = find_techniques(config.technique)[0]
    rows = read_split(output)
    network = load_network(run, config, recipe)
    fitted = rows.where("split", splits_behind(kind))
    folder = EXPORTS_FOLDER if precision == "fp32" else f"{EXPORTS_FOLDER}-{precision}"
    path = (target or output / folder) / f"{config.recipe}-{config.technique}.onnx"
    judged = None if scores is None else _not_tested(read_scores(scores / scores_file(technique)), rows, scores)
    held = rows.where("split", ["val"])
    known_sources = judged is None and _share_sources(held, fitted)
    limits = _limits(config, fitted, known_sources, calibrated=judged is not None or bool(held))
    card = _card(config, recipe, kind, fitted, run.environment(), limits)
    card, judged = _export(network, card, path, precision, fitted, rows, judged)
    if not evaluated:
        return path
    evaluations = []
    if judged is not None:
        card = calibrate_on(card, judged)
        evaluations = [evaluate_scores(card, judged)]
    elif held:
        val_scores = _val_scores(path, network, recipe, held, signals or output)
        card = replace(card, decisions=fit_decisions(card, val_scores), validation=_described(held, known_sources))
    write_card(path, card)
    if judged is None or any(row.split == "test" for row in rows):
        evaluations += evaluate_all([Model.load(path)], rows)
    card = replace(card, metrics={evaluation.images: asdict(evaluation.metrics) for evaluation in evaluations})
    if robust:
        write_card(path, card)
        card = replace(card, robustness=card_robustness(measure_test([Model.load(path)], rows)))
    write_card(path, card)
    with atomic(path.with_suffix(".md")) as temporary:
        temporary.write_text(card_markdown(card, path.name), encoding="utf-8")
    note(f"{technique}: exported to {path}")
    return path


def _export(
    network: Network,
    card: ModelCard,
    path: Path,
    precision: str,
    fitted: Rows,
    rows: Rows,
    scores: Scores | None,
) -> tuple[ModelCard, Scores | None]:
    """Write the graph in a precision; returns card and scores, adjusted if the precision is not float32."""
    views = parity_views(fitted, card.preprocessing)
    if precision == "fp32":
        export_network(network, card, path, views)
        return card, scores
    with TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        export_network(network, card, plain, views)
        checked, name = _unfitted(rows.where("generator", card.labels), fitted)
        # The same images for every technique, so that a shared encoder is quantized identically and stays shared
        ranges = rows.where("split", ["train"])
        card = replace(card, precision=as_record(reduce_export(plain, path, precision, ranges, checked, name)))
        if scores is not None:
            scores = reduced_scores(scores, Model.load(plain), Model.load(path))
    write_card(path, card)
    return card, scores


def _not_tested(scores: Scores, rows: Rows, folder: Path) -> Scores:
    """Return the scores of images that are not in `test`: nothing may be calibrated on the images it is tested on.

    Raises TrainingError if none are left.
    """
    tested = {row.sha256 for row in with_hashes(rows.where("split", ["test"]))}
    places = [i for i, row in enumerate(scores.rows) if row.sha256 not in tested]
    if not places:
        raise TrainingError(
            f"{folder}: every image with scores of {scores.technique} is a test image of this run and must not be "
            "calibrated on; assign some images to `val` in the manifest, and remove --calibrate"
        )
    return scores.at(places)


def _share_sources(held: Sequence[Row], fitted: Sequence[Row]) -> bool:
    """Tell whether a calibration image comes, or may come, from a source that was fitted on."""
    sources = {row.source for row in fitted}
    return any(not row.source or row.source in sources for row in held)


def _unfitted(rows: Rows, fitted: Rows) -> tuple[Rows, str]:
    """Return images that were not fitted on, and a description; if there are none, the images that were."""
    used = set(fitted.column("split"))
    for name in ("val", "adapt", "test"):
        if name not in used and (chosen := rows.where("split", [name])):
            return chosen, f"split `{name}`, not fitted on"
    return fitted, "images that it was fitted on"


def _card(
    config: RunConfig,
    recipe: Recipe,
    kind: type[Technique],
    fitted: Sequence[Row],
    environment: Mapping[str, Any],
    limits: tuple[str, ...],
) -> ModelCard:
    """Return the card of an export before it is calibrated and evaluated."""
    return ModelCard(
        name=f"{config.recipe}-{config.technique}",
        technique=config.technique,
        recipe=config.recipe,
        labels=config.labels,
        preprocessing=recipe.preprocessing,
        states=recipe.encoder().states,
        data=count_cells(fitted),
        sources=count_cells(fitted, "source", "generator") if any(row.source for row in fitted) else {},
        training={
            "settings": dict(config.settings),
            "seed": config.seed,
            "holdout": list(config.holdout),
            "splits": list(splits_behind(kind)),
            "starts_from": kind.starts_from,
            "split_sha256": config.split_sha256,
            **({"weights_sha256": config.weights_sha256} if config.weights_sha256 else {}),
            "environment": dict(environment),
        },
        limits=limits,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        genforensic=__version__,
    )


def _limits(config: RunConfig, fitted: Sequence[Row], known_sources: bool, calibrated: bool) -> tuple[str, ...]:
    """Return the known limits of a model as the sentences of its card."""
    counts = {generator: sum(row.values()) for generator, row in count_cells(fitted).items()}
    few = [f"{generator} ({counts.get(generator, 0)})" for generator in config.labels if counts.get(generator, 0) < 200]
    limits = [
        f"It knows {len(config.labels)} labels only; an image by any other generator is called `generated` at best, "
        "and may get a wrong name.",
        "Images that were edited, or compressed more than once, are judged less reliably than measured here.",
        _confidence_limit(known_sources, calibrated),
    ]
    if few:
        limits.append(f"Fitted on fewer than 200 images of: {', '.join(few)}.")
    return tuple(limits)


def _confidence_limit(known_sources: bool, calibrated: bool) -> str:
    if not calibrated:
        return "Confidence is not calibrated: no images were kept for that."
    if known_sources:
        return "Confidence is calibrated on images from the training sources; it is too high on other sources."
    return "Confidence is calibrated on sources that the judging model had not seen, from the same collection."


def _val_scores(path: Path, network: Network, recipe: Recipe, held: Sequence[Row], folder: Path) -> Scores:
    """Judge the images kept for calibration, in every form that the recipe measures."""
    return score_rows(Model.load(path), network, with_hashes(held), recipe, signals_folder(folder, recipe.name))


def _described(held: Sequence[Row], known_sources: bool) -> str:
    sources = "the training sources, but not fitted on" if known_sources else "sources that it was not fitted on"
    return f"{len(held)} images of the split `val`, from {sources}."
