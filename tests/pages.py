"""Reads a page of `genforensic report` back: its scripts, its data, its policy."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from forensic_cli.record import FileResult


@dataclass
class Page(HTMLParser):
    """What a browser finds in a page before anything runs."""

    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str | None]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        elif tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._open == "style":
            self.styles[-1] += data
        else:
            self.text += data

    def data(self, name: str) -> Any:
        """Return the value in the script element of an id."""
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == name)

    @property
    def policy(self) -> dict[str, list[str]]:
        """The Content-Security-Policy: {directive: sources}."""
        content = next(
            value for tag, name, value in self.attributes if tag == "meta" and "default-src" in (value or "")
        )
        return {words[0]: words[1:] for words in map(str.split, (content or "").split(";"))}

    def records(self) -> list[dict[str, Any]]:
        """Return the rows with names in place of numbers, as a scan wrote them."""
        about = self.data("about")
        return [_record(row, about) for row in self.data("rows")]

    @property
    def thumbnails(self) -> list[str]:
        """Each row's thumbnail in base64, or the name of the note in its place."""
        chunks = [json.loads(text) for one, text in self.scripts if str(one.get("id")).startswith("pictures-")]
        return [text for chunk in chunks for text in chunk]


MODEL = {"name": "n", "technique": "t", "recipe": "r", "labels": ["real", "alpha"], "file": "n.onnx", "sha256": "0"}
HEADER = {
    **{"version": "1", "models": [MODEL], "providers": [], "onnxruntime": "1", "ensemble": None},
    **{"threshold": 0.5, "started": "now"},
}
"""A run header with nothing but what every one has."""


def made_up_row(path: str, **fields: Any) -> dict[str, Any]:
    """Return a row of a results file with these fields; it was judged if a verdict is among them."""
    row = FileResult(path, "ok", None, None, None, None, None, None, None, None, 0, ()).record()
    if "verdict" in fields:
        headline = {"real": "real", "inconclusive": "undecided"}.get(fields["verdict"], "generated")
        row |= {"headline": headline, "label": fields["verdict"]}
        row |= {"confidence": 0.75, "agreement": 1.0, "candidates": [], "scores": {}, "log10_lr": {}, "techniques": {}}
    return row | fields


def read_page(text: str) -> Page:
    """Parse a page."""
    page = Page()
    page.feed(text)
    page.close()
    return page


def source_hash(text: str) -> str:
    """Return how a policy names a script or a style by its content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _record(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    labels = about["labels"]
    plain = (
        "path",
        "status",
        "reason",
        "headline",
        "verdict",
        "agreement",
        "sha256",
        "bytes",
        "format",
        "width",
        "height",
    )
    plain += ("generated_log10_lr", "strength", "state", "duplicate_of", "cluster", "phash")
    record: dict[str, Any] = {name: row.get(name) for name in plain} | {
        name: row.get(name, []) for name in ("warnings", "metadata")
    }
    record |= _prediction(row, labels, row["status"] == "ok")
    techniques = zip(about["techniques"], row.get("techniques", []), strict=False)
    found = {name: _prediction(one, labels, True) for name, one in techniques if one}
    return record | {"techniques": found or None}


def _prediction(one: dict[str, Any], labels: list[str], judged: bool) -> dict[str, Any]:
    if not judged:
        return dict.fromkeys(("label", "confidence", "p_generated", "candidates", "scores", "log10_lr"))
    return {
        "label": labels[one["label"]],
        "confidence": one["confidence"],
        "p_generated": one.get("p_generated"),
        "candidates": [labels[number] for number in one.get("candidates", [])],
        "scores": _named(one.get("scores", []), labels),
        "log10_lr": _named(one.get("ratios", []), labels),
    }


def _named(values: list[float | None], labels: list[str]) -> dict[str, float]:
    return {label: value for label, value in zip(labels, values, strict=False) if value is not None}
