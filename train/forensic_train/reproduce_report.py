"""The report of `genforensic reproduce`: the paper's tables, measured and published side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group

from forensic_cli.reports.text import counted
from forensic_cli.tables import MISSING, Table
from forensic_train.audit import bias_tables, in_words
from forensic_train.evaluation_report import paint_confusion
from forensic_train.paper import GENERATORS, PUBLISHED
from forensic_train.repeats import FIGURES, Repeats, spread
from forensic_train.reproduce import SEEN, TEST, UNSEEN, Outcome
from forensic_train.run import atomic, write_json

REPORT_FILE = "report.md"
_JSON_FILE = "report.json"
_SETS = {
    SEEN: "subjects seen in training, images that were not",
    UNSEEN: "the unseen subject",
    TEST: "the unseen subject, images that finetune did not adapt to",
}
_PUBLISHED_SCORES = {name: published.accuracy for name, published in PUBLISHED.items()}


def write_report(outcome: Outcome) -> Path:
    """Write report.md, report.json and a confusion matrix for each technique; returns the Markdown file."""
    folder = outcome.protocol.output
    pictures = [_draw(outcome, technique) for technique in _finished(outcome)]
    by_technique = [
        part
        for technique, picture in zip(_finished(outcome), pictures, strict=True)
        for part in (
            _class_table(outcome, technique).markdown(3),
            f"![Confusion of {technique} on {_SETS[_scored_on(technique)]}]({picture})",
        )
    ]
    bias, *probe = bias_tables(outcome.bias, outcome.shortcuts)
    parts = [
        "# Generator attribution with biased data, reproduced",
        _about(outcome),
        _accuracy_table(outcome).markdown(2),
        _order(outcome),
        "## Precision, recall and F1",
        f"Mean ± standard deviation over the seeds, on {_SETS[UNSEEN]}, "
        f"for finetune on {_SETS[TEST]}. The paper's figures are given where it has a generator of the same name; "
        "its images are other images, and its unseen subject is military vehicles.",
        *by_technique,
        "## The bias of the training images",
        _bias_words(outcome),
        *(table.markdown(3) for table in (bias, *probe)),
        _settings_table(outcome).markdown(2),
        _machines(outcome),
    ]
    with atomic(folder / REPORT_FILE) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_json(folder / _JSON_FILE, _record(outcome))
    return folder / REPORT_FILE


def report_tables(outcome: Outcome) -> Group:
    """Return the tables of the techniques for a terminal, the ranking last."""
    tables = [_class_table(outcome, technique) for technique in _finished(outcome)]
    return Group(*(table.rich() for table in (*tables, _accuracy_table(outcome))), _order(outcome))


def departures(outcome: Outcome) -> list[str]:
    """Return in which ways a reproduction is not the paper's to the letter."""
    protocol = outcome.protocol
    found = []
    if protocol.recipe != "paper":
        found.append(f"recipe `{protocol.recipe}` in place of the ResNet-50 at 224 pixels (`paper`)")
    if protocol.overrides:
        found.append("settings " + ", ".join(f"`{name}={text}`" for name, text in protocol.overrides.items()))
    if protocol.val:
        found.append(f"{protocol.val:.0%} of the images of seen subjects are measured instead of trained on")
    if shared := _shared_generators(outcome):
        found.append(shared)
    if lacking := outcome.lacking():
        found.append(f"no image of the unseen subject by {', '.join(lacking)}")
    return found


def _shared_generators(outcome: Outcome) -> str:
    """Say how many of the paper's generators the data has; empty if it has those and no others."""
    mine = set(outcome.bias.generators)
    if mine == set(GENERATORS):
        return ""
    return f"{len(mine)} generators, {len(mine & set(GENERATORS))} of them among the paper's {len(GENERATORS)}"


def _finished(outcome: Outcome) -> list[str]:
    return [technique for technique, results in outcome.results.items() if results]


def _scored_on(technique: str) -> str:
    """Return the set of images on which the paper scores a technique."""
    return TEST if technique == "finetune" else UNSEEN


def _repeats(outcome: Outcome, technique: str, images: str) -> Repeats:
    metrics = (result["metrics"].get(images) for result in outcome.results[technique])
    return Repeats(tuple(each for each in metrics if each is not None))


def _accuracies(outcome: Outcome, technique: str, images: str) -> list[float]:
    return _repeats(outcome, technique, images).values("accuracy")


def _scores(outcome: Outcome) -> dict[str, float]:
    """Return the mean accuracy of each technique on the images on which the paper scores it, highest first."""
    scores = {name: float(np.mean(_accuracies(outcome, name, _scored_on(name)))) for name in _finished(outcome)}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _rank(technique: str, scores: Mapping[str, float]) -> str:
    """Return the rank of a technique by its score; equal ones share their ranks."""
    first = 1 + sum(score > scores[technique] for score in scores.values())
    last = sum(score >= scores[technique] for score in scores.values())
    return str(first) if first == last else f"{first} to {last}"


def _accuracy_table(outcome: Outcome) -> Table:
    unseen, tested = outcome.count("adapt", "test"), outcome.count("test")
    note = (
        f"Mean ± standard deviation over the seeds. Ranked as in the paper: finetune by the {tested} unseen images "
        f"that it does not adapt to, drawn again for every seed, the others by all {unseen}. {_guesses(outcome)}"
    )
    columns = (
        *("technique", "rank", f"unseen ({unseen})", f"of these, finetune's test ({tested})"),
        *(f"seen ({outcome.count('val')})", "published, unseen", "published rank", "seeds"),
    )
    rows: list[list[object]] = []
    scores = _scores(outcome)
    for technique in scores:
        cells = [_accuracies(outcome, technique, images) for images in (UNSEEN, TEST, SEEN)]
        rows.append(
            [
                technique,
                _rank(technique, scores),
                *(spread(values) if values else MISSING for values in cells),
                f"{PUBLISHED[technique].accuracy:.2f}",
                _rank(technique, _PUBLISHED_SCORES),
                len(outcome.results[technique]),
            ]
        )
    return Table("Accuracy", columns, rows, note)


def _guesses(outcome: Outcome) -> str:
    """Say how accurate one is on the unseen subject without looking at the images."""
    unseen = [row.generator for row in outcome.rows if row.split in ("adapt", "test")]
    most = max(sorted(set(unseen)), key=unseen.count)
    return (
        f"Guessing among the {len(outcome.bias.generators)} generators is right for "
        f"{1 / len(outcome.bias.generators):.3f}, always naming {most} for {unseen.count(most) / len(unseen):.3f} of "
        "the unseen images."
    )


def _order(outcome: Outcome) -> str:
    """Compare the measured order with the published one."""
    scores = _scores(outcome)
    pairs = [(a, b) for a in scores for b in scores if _PUBLISHED_SCORES[a] > _PUBLISHED_SCORES[b]]
    kept = sum(scores[a] > scores[b] for a, b in pairs)
    return (
        f"Measured: {_chain(scores)}. Published: {_chain(_PUBLISHED_SCORES)}. Of {len(pairs)} pairs of techniques that "
        f"differ in the paper, {kept} are in the same order here."
    )


def _chain(scores: Mapping[str, float]) -> str:
    """Return techniques from the highest score to the lowest, with `>` or `=` between them."""
    names = sorted(scores, key=lambda name: -scores[name])
    signs = [" = " if scores[a] == scores[b] else " > " for a, b in pairwise(names)]
    return "".join(name + sign for name, sign in zip(names, [*signs, ""], strict=True))


def _class_table(outcome: Outcome, technique: str) -> Table:
    """Return measured and published figures of every generator and their macro average."""
    repeats, published = _repeats(outcome, technique, _scored_on(technique)), PUBLISHED[technique]
    rows: list[list[object]] = []
    for generator in repeats.generators():
        figures = [repeats.of_generator(generator, name) for name in FIGURES]
        images = float(np.mean(repeats.of_generator(generator, "support")))
        rows.append([generator, *_side_by_side(figures, published.generators.get(generator)), f"{images:.0f}"])
    averages = [repeats.values(name) for name in FIGURES]
    images = float(np.mean(repeats.values("images")))
    rows.append(["macro average", *_side_by_side(averages, published.average), f"{images:.0f}"])
    columns = [name for figure in ("precision", "recall", "F1") for name in (figure, "published")]
    return Table(technique, ("generator", *columns, "images"), rows, styles={len(rows) - 1: "bold"})


def _side_by_side(measured: Sequence[Sequence[float]], published: Sequence[float] | None) -> list[str]:
    cells = []
    for place, values in enumerate(measured):
        cells += [spread(values, 2), MISSING if published is None else f"{published[place]:.2f}"]
    return cells


def _draw(outcome: Outcome, technique: str) -> str:
    """Draw the confusion matrices of a technique, summed over the seeds; returns the name of the file."""
    from matplotlib.figure import Figure

    sets = [name for name in (SEEN, _scored_on(technique)) if _repeats(outcome, technique, name).metrics]
    labels = outcome.results[technique][0]["labels"]
    seeds = len(outcome.results[technique])
    side = 2.4 + 0.55 * len(labels)
    figure = Figure(figsize=(side * len(sets), side), layout="constrained")
    figure.suptitle(f"{technique}, {outcome.protocol.recipe}, {counted(seeds, 'seed')}")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(sets), sharey=True)), sets, strict=True):
        paint_confusion(axes, labels, _repeats(outcome, technique, name).confusion().tolist())
        axes.set_title(_SETS[name].partition(",")[0])
        axes.set_xlabel("attributed to")
    figure.axes[0].set_ylabel("made by")
    picture = f"confusion-{technique}.png"
    figure.savefig(outcome.protocol.output / picture, dpi=80)
    return picture


def _about(outcome: Outcome) -> str:
    protocol = outcome.protocol
    lines = [
        f"data: {protocol.data}, {len(outcome.rows) + outcome.left_out} images by "
        f"{len(outcome.bias.generators)} generators",
        f"unseen subject: {protocol.subject}, {outcome.count('adapt', 'test')} images, of which finetune adapts to "
        f"{outcome.count('adapt')}",
        f"trained on {outcome.count('train')} images of other subjects; {outcome.count('val')} more are measured",
        f"recipe: {protocol.recipe}; seeds: 0 to {protocol.seeds - 1}",
        f"departs from the paper: {'; '.join(departures(outcome)) or 'in nothing'}",
    ]
    if outcome.left_out:
        lines.append(f"left out: {outcome.left_out} images of other subjects that share a group or bytes with it")
    missing = {name: protocol.seeds - len(results) for name, results in outcome.results.items()}
    if any(missing.values()):
        lacking = ", ".join(f"{name} ({count} of {protocol.seeds} seeds)" for name, count in missing.items() if count)
        lines.append(f"**incomplete**: {lacking} could not be trained")
    return "\n".join(f"- {line}" for line in [*lines, *_shared_sources(outcome)])


def _shared_sources(outcome: Outcome) -> Iterator[str]:
    """Say how many measured images come from a source that was fitted on, which makes them easier to name."""
    for name, measured, fitted in (
        ("seen subjects", ("val",), ("train",)),
        ("the unseen subject", ("adapt", "test"), ("train",)),
        ("finetune's test", ("test",), ("train", "adapt")),
    ):
        sources = [row.source for row in outcome.rows if row.split in measured]
        known = {row.source for row in outcome.rows if row.split in fitted}
        if sources and all(sources):
            share = sum(source in known for source in sources) / len(sources)
            yield f"{share:.0%} of the images of {name} come from a source that the technique was fitted on"


def _bias_words(outcome: Outcome) -> str:
    sentences = " ".join(line.rstrip(".") + "." for line in in_words(outcome.bias).splitlines())
    if suspicious := [shortcut.name for shortcut in outcome.shortcuts if shortcut.suspicious]:
        sentences += (
            f" **Properties of the files alone can predict the generator** ({', '.join(suspicious)}), so accuracies "
            "may be too high."
        )
    if outcome.two_generators:
        sentences += f" Files with the same bytes under several generators: {outcome.two_generators}."
    return sentences


def _settings_table(outcome: Outcome) -> Table:
    rows = []
    for technique in _finished(outcome):
        results = outcome.results[technique]
        settings = ", ".join(f"{name} {value}" for name, value in results[0]["settings"].items())
        minutes = np.mean([result["seconds"] for result in results]) / 60
        rows.append([technique, settings, f"{minutes:.1f}"])
    return Table("Settings", ("technique", "settings", "minutes a seed"), rows, left=(0, 1))


def _machines(outcome: Outcome) -> str:
    """Return each machine and set of versions that took part."""
    environments = [result["environment"] for results in outcome.results.values() for result in results]
    different = {json.dumps(each, sort_keys=True): each for each in environments}
    lines = []
    for each in different.values():
        packages = ", ".join(f"{name} {version}" for name, version in each.get("packages", {}).items())
        named = ", ".join(f"{name} {value}" for name, value in each.items() if name != "packages")
        lines.append(f"- {named}; {packages}")
    return "\n".join(["## Machine and versions\n", *lines])


def _record(outcome: Outcome) -> dict[str, Any]:
    protocol = {**asdict(outcome.protocol), "data": str(outcome.protocol.data), "output": str(outcome.protocol.output)}
    return {
        "protocol": protocol,
        "departures": departures(outcome),
        "images": {name: outcome.count(name) for name in ("train", "val", "adapt", "test")},
        "bias": asdict(outcome.bias),
        "shortcuts": [asdict(shortcut) for shortcut in outcome.shortcuts],
        "two_generators": outcome.two_generators,
        "ranking": _scores(outcome),
        "published": {name: asdict(figures) for name, figures in PUBLISHED.items()},
        "results": outcome.results,
    }
