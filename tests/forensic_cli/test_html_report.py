"""Tests of the HTML report without a browser: what is in the page, what it takes from files, what it refuses."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_cli.card import LikelihoodRatio, Preprocessing
from forensic_cli.images.header import STATES
from forensic_cli.reports.html.pictures import WINDOW, residual_spectrum
from pages import HEADER, MODEL, Page, made_up_row, read_page, source_hash
from toys import DECISION, GAINS, genforensic, solid, toy_card, write_toy_export, write_toy_exports

HOSTILE = ('"><img src=x onerror=alert(1)>.png', "<script>alert(2)<!--.png", "'&quot; onclick=alert(3) .png")


@pytest.fixture
def results(tmp_path: Path, images: Path, toy_exports: Path, run: Any) -> Path:
    """Return the results of a scan of five images and a broken one, with all techniques."""
    (images / "6-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    path = tmp_path / "case.jsonl"
    run("scan", images, "--exports", toy_exports, "-t", "all", "-f", "jsonl", "-o", path)
    *kept, _ = path.read_text().splitlines(keepends=True)  # without its seal: tests write rows of their own
    path.write_text("".join(kept))
    return path


def rows_of(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()[1:]]


def rewrite(results: Path, change: Any) -> Path:
    """Write the results again with each row changed."""
    header = results.read_text().splitlines()[0]
    rows = [json.dumps(change(row)) for row in rows_of(results)]
    results.write_text("\n".join([header, *rows]) + "\n")
    return results


def make(run: Any, results: Path, exports: Path, *options: Any) -> Page:
    page = results.with_name("page.html")
    done = run("report", results, "--html", page, "--exports", exports, "--force", *options)
    assert (done.exit_code, done.stdout) == (0, "")
    assert [line for line in done.stderr.splitlines() if "the seal is missing" not in line] == []
    return read_page(page.read_text(encoding="utf-8"))


def test_the_page_holds_every_row(results: Path, toy_exports: Path, run: Any) -> None:
    found = make(run, results, toy_exports).records()
    assert len(found) == 6
    assert found == [{name: row[name] for name in one} for row, one in zip(rows_of(results), found, strict=True)]


def test_the_same_results_give_the_same_bytes(results: Path, toy_exports: Path, run: Any) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        page = results.with_name(name)
        assert run("report", results, "--html", page, "--exports", toy_exports).exit_code == 0
        pages.append(page.read_bytes())
    assert pages[0] == pages[1]


def test_json_results_give_the_same_page(results: Path, toy_exports: Path, run: Any) -> None:
    """Only the name and hash of the results file differ, and that JSON knows what was left out."""
    header, *lines = results.read_text().splitlines()
    whole = {"run": json.loads(header)["genforensic"], "files": [json.loads(line) for line in lines], "summary": {}}
    other = results.with_suffix(".json")
    other.write_text(json.dumps(whole))
    assert make(run, other, toy_exports).scripts == make(run, results, toy_exports).scripts


def test_a_scan_writes_the_same_page(results: Path, images: Path, toy_exports: Path, run: Any) -> None:
    page = results.with_name("scan.html")
    done = run("scan", images, "--exports", toy_exports, "-t", "all", "-f", "html", "-o", page)
    assert done.exit_code == 1  # one file could not be read
    assert read_page(page.read_text()).scripts == make(run, results, toy_exports).scripts


def test_only_the_page_s_own_script_and_style_may_run(results: Path, toy_exports: Path, run: Any) -> None:
    page = make(run, results, toy_exports)
    (script,) = (text for attributes, text in page.scripts if attributes.get("type") != "application/json")
    (style,) = page.styles
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [source_hash(script)],
        "style-src": [source_hash(style)],
        "img-src": ["data:"],
        "connect-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    names = {name for _, name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name == "style"}
    sources = [value or "" for _, name, value in page.attributes if name in ("src", "href")]
    assert [one for one in sources if not one.startswith(("data:image/", "#"))] == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_hostile_names_and_values_stay_text(results: Path, toy_exports: Path, run: Any) -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        number = int(Path(row["path"]).name[0])
        evil = HOSTILE[number % 3]
        said = [{"source": evil, "claim": f"</script>{evil}", "value": evil}]
        return {**row, "path": f"</script>{evil}", "metadata": said, "duplicate_of": evil, "phash": evil}

    page = make(run, rewrite(results, change), toy_exports)
    bare = {"path": "x.png", "metadata": [], "duplicate_of": None, "phash": None}
    plain = make(run, rewrite(results, lambda row: {**row, **bare}), toy_exports)
    assert [attributes for attributes, _ in page.scripts] == [attributes for attributes, _ in plain.scripts]
    assert {tag for tag, _, _ in page.attributes} == {tag for tag, _, _ in plain.attributes}
    assert sorted({row["path"] for row in page.data("rows")}) == sorted(f"</script>{one}" for one in HOSTILE)


def test_hostile_names_of_models_stay_text(results: Path, toy_exports: Path, run: Any) -> None:
    evil = "</script><script>alert(1)</script>\u202e"
    header, *lines = results.read_text().splitlines()
    changed = json.loads(header)
    for model in changed["genforensic"]["models"]:
        model |= {"name": evil, "file": evil, "validation": evil}
    changed["genforensic"]["version"] = evil
    results.write_text("\n".join([json.dumps(changed), *lines]) + "\n")
    page = make(run, results, toy_exports)
    assert "alert(1)" in page.text
    assert "\u202e" not in page.text
    assert sum(attributes.get("type") != "application/json" for attributes, _ in page.scripts) == 1


GROUPED = (
    {"sha256": "a", "cluster": 1, "verdict": "real"},
    {"sha256": "b", "cluster": 2, "verdict": "real"},
    {"sha256": "a", "cluster": 1, "verdict": "real", "duplicate_of": "0.png"},
    {"sha256": "c", "cluster": 1, "verdict": "alpha"},
    {"sha256": "d", "status": "truncated"},
    {"sha256": "d", "status": "truncated", "duplicate_of": "4.png"},
    {"status": "truncated"},
    {"status": "truncated"},
)


def grouped_page(run: Any, tmp_path: Path, dedupe: int | None) -> Page:
    rows = [made_up_row(f"{i}.png", **row) for i, row in enumerate(GROUPED)]
    for row in rows if dedupe is None else ():
        row["cluster"] = None
    (tmp_path / "r.jsonl").write_text(lines({"genforensic": {**HEADER, "dedupe": dedupe}}, *rows))
    return make(run, tmp_path / "r.jsonl", write_toy_exports(tmp_path / "exports"))


def test_copies_and_what_looks_the_same_are_one_finding(tmp_path: Path, run: Any) -> None:
    page = grouped_page(run, tmp_path, 4)
    assert page.data("about")["groups"] == [[0, 2, 3], [4, 5]]
    text = " ".join(page.text.split())
    assert "4 images in 2 findings: copies and near-duplicates count as one. In 1 of them the answers" in text
    assert "differ in at most 4 of 64 bits" in text


def test_without_near_duplicates_copies_alone_are_one_finding(tmp_path: Path, run: Any) -> None:
    page = grouped_page(run, tmp_path, None)
    assert page.data("about")["groups"] == [[0, 2], [4, 5]]
    text = " ".join(page.text.split())
    assert "4 images in 3 findings: copies count as one." in text
    assert "bits of 64" not in text
    assert "mixed" not in {value for _, name, value in page.attributes if name == "id"}


def test_what_there_is_none_of_takes_no_room(results: Path, toy_exports: Path, run: Any) -> None:
    page = make(run, rewrite(results, lambda row: {**row, "sha256": None}), toy_exports)
    assert not {"grouped", "mixed", "conflict"} & {value for _, name, value in page.attributes if name == "id"}
    assert "finding" not in page.text


def test_thumbnails_are_made_of_what_was_judged(results: Path, toy_exports: Path, run: Any) -> None:
    rows = rows_of(results)
    solid(Path(rows[0]["path"]), (0, 0, 255), (300, 200))
    solid(Path(rows[2]["path"]), (255, 0, 0))  # a BMP of as many bytes
    Path(rows[3]["path"]).unlink()
    assert Path(rows[2]["path"]).stat().st_size == rows[2]["bytes"]
    page = make(run, results, toy_exports)
    assert [text if text.startswith("!") else "picture" for text in page.thumbnails] == [
        *("!changed", "picture", "!changed", "!missing", "picture", "!none")
    ]
    green = Image.open(io.BytesIO(base64.b64decode(page.thumbnails[1]))).convert("RGB")
    assert green.size == (90, 70)
    assert np.abs(np.asarray(green, int) - [0, 255, 0]).max() < 16
    assert page.data("about")["evidence"] == [1, 4]


def test_a_large_image_has_a_small_thumbnail(tmp_path: Path, toy_exports: Path, run: Any) -> None:
    (tmp_path / "in").mkdir()
    solid(tmp_path / "in" / "wide.png", (255, 0, 0), (1600, 400))
    run("scan", tmp_path / "in", "--exports", toy_exports, "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    page = make(run, tmp_path / "r.jsonl", toy_exports)
    assert Image.open(io.BytesIO(base64.b64decode(page.thumbnails[0]))).size == (160, 40)
    preview = Image.open(io.BytesIO(base64.b64decode(page.data("evidence-0")["preview"])))
    assert preview.size == (512, 128)


def test_pictures_end_at_their_limit(results: Path, toy_exports: Path, run: Any) -> None:
    page = make(run, results, toy_exports, "--pictures", 0, "--evidence", 1)
    assert page.thumbnails == [*["!limit"] * 5, "!none"]
    assert len(page.data("about")["evidence"]) == 1


def test_paths_are_relative_to_the_root(results: Path, toy_exports: Path, run: Any, tmp_path: Path) -> None:
    def relative(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "path": Path(row["path"]).name}

    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "images", moved)
    rewrite(results, relative)
    assert set(make(run, results, toy_exports).thumbnails) == {"!missing", "!none"}
    assert "!missing" not in make(run, results, toy_exports, "--root", moved).thumbnails


def test_a_name_that_is_not_utf8_is_found_again(tmp_path: Path, toy_exports: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    solid(tmp_path / "x.png", (255, 0, 0)).rename(folder / os.fsdecode(b"caf\xe9.png"))
    solid(folder / r"kept\xe9.png", (255, 0, 0))
    done = genforensic("scan", folder, "--exports", toy_exports, "-f", "html")
    assert done.returncode == 0
    page = read_page(done.stdout)
    assert [Path(row["path"]).name for row in page.data("rows")] == [r"caf\xe9.png", r"kept\x5cxe9.png"]
    assert not [text for text in page.thumbnails if text.startswith("!")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_opened(results: Path, toy_exports: Path, run: Any) -> None:
    path = Path(rows_of(results)[0]["path"])
    path.unlink()
    os.mkfifo(path)
    assert make(run, results, toy_exports).thumbnails[0] == "!missing"


def sigmoid_of(gain: float) -> float:
    """Return the probability that a toy gives a pure colour: softmax of (gain, 0, 0)."""
    return float(np.exp(gain) / (np.exp(gain) + 2))


def test_patches_answer_for_themselves(tmp_path: Path, toy_exports: Path, run: Any) -> None:
    """The left half is red (`real`), the right half green (`alpha`); the toys see 2 x 2 patches of 32 pixels."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 1] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in" / "halves.png")
    run("scan", tmp_path / "in", "--exports", toy_exports, "-t", "all", "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    page = make(run, tmp_path / "r.jsonl", toy_exports)
    (found,) = page.data("evidence-0")["maps"]
    assert found["method"] == "patches"
    assert found["places"] == [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]]
    about = page.data("about")
    for number, technique in enumerate(about["techniques"]):
        high = sigmoid_of(GAINS[technique])
        low = (1 - high) / 2
        values = dict(zip(about["labels"], found["values"][str(number)], strict=True))
        assert values["real"] == pytest.approx([high, low, high, low], abs=6e-4)
        assert values["alpha"] == pytest.approx([low, high, low, high], abs=6e-4)


def test_patches_are_judged_in_the_state_of_their_image(tmp_path: Path, run: Any) -> None:
    """The decision of a JPEG of quality 85 is not that of a PNG with the same pixels."""
    decisions = {"lossless": DECISION, "jpeg-80": replace(DECISION, intercept=-3.0)}
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(states=STATES, decisions=decisions))
    (tmp_path / "in").mkdir()
    solid(tmp_path / "in" / "1.jpg", (0, 255, 0), (64, 64), quality=85)
    solid(tmp_path / "in" / "2.png", (0, 255, 0), (64, 64))
    run("scan", tmp_path / "in", "--exports", tmp_path / "exports", "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    page = make(run, tmp_path / "r.jsonl", tmp_path / "exports")
    score = np.log(np.exp(4) + 1)
    for number, intercept in enumerate((-3.0, 0.0)):
        (found,) = page.data(f"evidence-{number}")["maps"]
        real = found["values"]["0"][page.data("about")["labels"].index("real")]
        assert real == pytest.approx([1 / (1 + np.exp(score + intercept))] * 4, abs=2e-3)
        assert "differs" not in page.data(f"evidence-{number}")


def test_a_whole_view_is_covered_part_by_part(tmp_path: Path, run: Any) -> None:
    """A red image with one green part, 7 x 7 parts of 8 pixels: only that part speaks for `alpha`."""
    card = toy_card("baseline", preprocessing=Preprocessing("whole", 56))
    weights = np.eye(3) * 40.0
    write_toy_export(tmp_path / "exports" / "native-baseline.onnx", card, weights)
    image = np.zeros((56, 56, 3), np.uint8)
    image[..., 0] = 255
    image[16:24, 32:40] = (0, 255, 0)
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in" / "spot.png")
    exports = tmp_path / "exports"
    run("scan", tmp_path / "in", "--exports", exports, "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    page = make(run, tmp_path / "r.jsonl", exports, "--evidence", 1)
    (found,) = page.data("evidence-0")["maps"]
    assert found["method"] == "occlusion"
    assert len(found["places"]) == 49
    falls = found["values"]["0"][page.data("about")["labels"].index("real")]
    assert max(falls) <= 0.001
    assert min(falls) >= -0.001  # the image is surely red, whatever is covered

    weak = write_toy_export(exports / "native-baseline.onnx", card, np.eye(3) * 4.0)
    assert weak.exists()
    run("scan", tmp_path / "in", "--exports", exports, "-f", "jsonl", "-o", tmp_path / "w.jsonl")
    page = make(run, tmp_path / "w.jsonl", exports)
    found = page.data("evidence-0")["maps"][0]
    falls = found["values"]["0"][page.data("about")["labels"].index("alpha")]
    place = 2 * 7 + 4
    assert found["places"][place] == pytest.approx([2 / 7, 4 / 7, 3 / 7, 5 / 7], abs=1e-4)
    assert falls[place] == max(falls) > 0
    assert all(fall < 0 for i, fall in enumerate(falls) if i != place)  # grey takes red away, and so adds to green


def test_a_score_that_cannot_be_repeated_is_said(results: Path, toy_exports: Path, run: Any) -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["techniques"] and row["path"].endswith("1-red.png"):
            scores = row["techniques"]["baseline"]["scores"]
            row["techniques"]["baseline"]["scores"] = {**scores, "real": scores["real"] - 0.25}
        return row

    page = make(run, rewrite(results, change), toy_exports)
    assert page.data("evidence-0")["differs"] == pytest.approx(0.25)
    assert "differs" not in page.data("evidence-1")


def test_absent_models_are_said(results: Path, tmp_path: Path, run: Any) -> None:
    others = tmp_path / "others"
    write_toy_export(others / "native-baseline.onnx", toy_card("baseline", limits=("Another one.",)))
    page = make(run, results, others)
    absent = "native-adversarial, native-baseline, native-finetune, native-weighted"
    assert f"No evidence maps or figures for {absent}: no export with the SHA-256" in page.text
    assert page.data("evidence-0")["maps"] == []
    assert not page.thumbnails[0].startswith("!")


def test_generated_images_come_first_and_each_answer_in_turn(results: Path, toy_exports: Path, run: Any) -> None:
    """Three generated rows, two of one generator: two evidence maps show both generators, the surest of each."""
    answers = iter(
        [
            *(("real", "real", 0.04), ("generated", "alpha", 0.92), ("real", "real", 0.02)),
            *(("generated", "alpha", 0.94), ("generated", "beta", 0.91)),
        ]
    )

    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["status"] != "ok":
            return row
        headline, verdict, p = next(answers)
        return {**row, "headline": headline, "verdict": verdict, "p_generated": p}

    page = make(run, rewrite(results, change), toy_exports, "--evidence", 2)
    assert page.data("about")["evidence"] == [3, 4]
    assert page.data("about")["interest"] == [3, 1, 4, 2, 0, 5]


def test_the_totals_lead_and_the_pictures_follow(results: Path, toy_exports: Path, run: Any) -> None:
    words = " ".join(make(run, results, toy_exports).text.split())
    assert "2 generated 1 real 2 undecided alpha 1 beta 1 not judged: truncated 1 Images Search" in words
    order = [
        words.index(title) for title in ("Images Search", "What an answer means", "Limits", "Models and validation")
    ]
    assert order == sorted(order)


def test_the_cards_figures_are_in_the_page(tmp_path: Path, images: Path, run: Any) -> None:
    measured = {
        **{"images": 400, "accuracy": 0.5, "interval": [0.451, 0.549], "precision": 0.5, "recall": 0.475, "f1": 0.45},
        **{"ece": 0.0625, "worst_cell": "alpha / car", "worst_cell_accuracy": 0.125, "worst_cell_images": 8},
        "classes": [{"generator": "alpha", "precision": 0.25, "recall": 0.375, "f1": 0.3, "support": 16}],
    }
    decisions = {"any": replace(DECISION, generated=LikelihoodRatio(1.0, 0.0, -1.25, 1.5, 30, 60, 4, 0.5))}
    card = toy_card(
        metrics={"left-out": measured},
        decisions=decisions,
        limits=("It says `unknown` rarely.",),
        validation="90 toys.",
    )
    exports = write_toy_export(tmp_path / "exports" / "native-baseline.onnx", card).parent
    run("scan", images, "--exports", exports, "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    text = re.sub(r"\s+", " ", make(run, tmp_path / "r.jsonl", exports).text)
    assert "It says unknown rarely." in text
    assert "accuracy 0.500 (95 % Wilson interval 0.451 to 0.549), expected calibration error 0.062." in text
    assert "alpha0.250.380.3016" in text
    assert "any, generated / real-1.25+1.500.500––30604" in text
    assert text.count("Support is a likelihood ratio") == 2  # among the terms, and above the table


def test_a_card_with_figures_of_another_shape_makes_a_page(tmp_path: Path, images: Path, run: Any) -> None:
    card = toy_card(metrics={"test": {"accuracy": "high"}}, robustness={"blur": 3})
    exports = write_toy_export(tmp_path / "exports" / "native-baseline.onnx", card).parent
    run("scan", images, "--exports", exports, "-f", "jsonl", "-o", tmp_path / "r.jsonl")
    assert "native-baseline" in make(run, tmp_path / "r.jsonl", exports).text


@pytest.mark.parametrize("period", [2, 4])
def test_a_periodic_trace_is_a_point_of_the_spectrum(period: int) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (200, 300))
    stripes = 16.0 * (np.arange(300) % period == 0)
    grey = np.clip(128 + noise + stripes, 0, 255).astype(np.uint8)
    power = residual_spectrum(np.repeat(grey[..., None], 3, axis=2))
    middle = WINDOW // 2
    power[middle, middle] = -np.inf  # frequency 0
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    assert row == middle
    assert (column - middle) % (WINDOW // period) == 0


def test_a_page_is_not_overwritten_unasked(results: Path, toy_exports: Path, run: Any) -> None:
    page = results.with_name("there.html")
    page.write_text("mine")
    done = run("report", results, "--html", page, "--exports", toy_exports)
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("already exists; choose another name, or overwrite it with --force")
    assert page.read_text() == "mine"


def test_a_failure_leaves_an_old_page_alone(results: Path, run: Any) -> None:
    page = results.with_name("there.html")
    page.write_text("mine")
    results.write_text("broken")
    assert run("report", results, "--html", page, "--force").exit_code == 2
    assert page.read_text() == "mine"


def test_two_models_that_claim_one_technique(results: Path, toy_exports: Path, tmp_path: Path, run: Any) -> None:
    """A scan has one model a technique; results that say otherwise must not mix their labels up."""
    both = tmp_path / "both"
    shutil.copytree(toy_exports, both)
    other = write_toy_export(both / "paper-baseline.onnx", toy_card("baseline", "paper", ("real", "alpha"), name="p"))
    header, *lines = results.read_text().splitlines()
    changed = json.loads(header)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    changed["genforensic"]["models"].append({**MODEL, "technique": "baseline", "sha256": digest})
    results.write_text("\n".join([json.dumps(changed), *lines]) + "\n")
    page = make(run, results, both)
    assert len(page.data("evidence-0")["maps"][0]["values"]) == 4


def test_a_cut_last_line_is_left_out(results: Path, toy_exports: Path, run: Any) -> None:
    text = results.read_text()
    results.write_text(text[:-40])
    page = results.with_name("page.html")
    done = run("report", results, "--html", page, "--exports", toy_exports)
    assert done.exit_code == 0
    cut, seal = done.stderr.splitlines()
    assert cut == f"{results}: the last line is cut off and was left out"
    assert seal.startswith(f"{results}: the seal is missing: ")
    assert len(read_page(page.read_text()).data("rows")) == 5


GOOD = made_up_row("a.png")
WANTED = "give what `genforensic scan --output FILE.jsonl` wrote"


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not the results of a scan"),
        ("path,status\n", "not the results of a scan"),
        ('{"genforensic": ', "ends too early, as a scan that was stopped leaves it"),
        (lines({"genforensic": {**HEADER, "models": []}}), "the run header names no models"),
        (lines({"genforensic": HEADER}, [1]), "row 1 is not a record"),
        (lines({"genforensic": HEADER}, {**GOOD, "cluster": "1"}), "row 1 cannot be read (Expected `int | null`"),
        (lines({"genforensic": HEADER}) + "[" * 100_000 + "\n", "row 1 is not a record"),
    ],
)
def test_what_is_no_scan_is_refused(text: str, message: str, tmp_path: Path, run: Any) -> None:
    path = tmp_path / "results"
    path.write_text(text)
    done = run("report", path, "--html", tmp_path / "page.html")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"genforensic: {path}: {message}")
    assert WANTED in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_results_that_are_not_there(tmp_path: Path, run: Any) -> None:
    done = run("report", tmp_path / "none", "--html", tmp_path / "page.html")
    assert done.exit_code == 2
    assert done.stderr == f"genforensic: {tmp_path / 'none'}: no such file; {WANTED}\n"


def test_binary_results(tmp_path: Path, run: Any) -> None:
    (tmp_path / "image.jsonl").write_bytes(b"\xff\xd8\xff")
    done = run("report", tmp_path / "image.jsonl", "--html", tmp_path / "page.html")
    assert (done.exit_code, done.stderr) == (
        2,
        f"genforensic: {tmp_path / 'image.jsonl'}: not the results of a scan; {WANTED}\n",
    )


@pytest.mark.parametrize(
    ("change", "sentence", "kind"),
    [
        (lambda text: text, "the seal holds: the file is as it was sealed (", "soft"),
        (
            lambda text: text[: text.index('{"seal"')],
            "the seal is missing: the scan was stopped before its end, the seal was removed, or the file was "
            "reformatted; 5 rows cannot be checked",
            "alert",
        ),
        (
            lambda text: text.replace('"verdict": "alpha"', '"verdict": "real"', 1),
            "the seal is broken: row 2 (NAME) is not what was sealed there",
            "alert",
        ),
        (
            lambda text: text.replace('"verdict": "alpha"', '"verdict": "real"').replace(
                '"threshold": null', '"threshold": 0.6'
            ),
            "the seal is broken: the run header was edited",
            "alert",
        ),
    ],
)
def test_the_page_and_the_command_say_whether_the_seal_holds(
    change: Any, sentence: str, kind: str, images: Path, toy_exports: Path, tmp_path: Path, run: Any
) -> None:
    results, page = tmp_path / "case.jsonl", tmp_path / "page.html"
    assert run("scan", images, "--exports", toy_exports, "-o", results).exit_code == 0
    results.write_text(change(results.read_text()))
    sentence = sentence.replace("NAME", str(images / "2-green.webp"))
    done = run("report", results, "--html", page, "--exports", toy_exports)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == ("" if kind == "soft" else f"{results}: {sentence}; the page says so\n")
    head = page.read_text().partition("<main>")[0]
    assert re.search(rf'<p id="seal" class="{kind}">case.jsonl: {re.escape(sentence)}', head)


def title_of(page: Path) -> tuple[str, str]:
    found = re.search(r"<title>(.*)</title>.*<h1>(.*)</h1>", page.read_text(), re.DOTALL)
    assert found
    return found[1], found[2]


def test_the_page_is_called_after_the_results_or_the_folder(
    images: Path, toy_exports: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "case_17").mkdir()
    images = images.rename(tmp_path / "case_17" / "<seized>")
    page = tmp_path / "page.html"
    scan = ("--exports", toy_exports, "-o", page, "--force", "-q")
    assert run("scan", images, *scan).exit_code == 0
    assert title_of(page) == ("&lt;seized&gt; – genforensic", "&lt;seized&gt;")
    assert run("scan", images / "1-red.png", *scan).exit_code == 0
    assert title_of(page)[1] == "1-red.png"
    monkeypatch.chdir(tmp_path / "case_17")
    assert run("scan", ".", *scan).exit_code == 0
    assert title_of(page)[1] == "&lt;seized&gt;"
    (tmp_path / "case_17" / "more.png").write_bytes((images / "1-red.png").read_bytes())
    assert run("scan", ".", *scan).exit_code == 0
    assert title_of(page)[1] == "case_17"
    assert run("scan", ".", "--exports", toy_exports, "-o", tmp_path / "a & b.jsonl").exit_code == 0
    assert run("report", tmp_path / "a & b.jsonl", "--html", page, "--exports", toy_exports, "--force").exit_code == 0
    assert title_of(page)[1] == "a &amp; b.jsonl"


def test_a_bare_row_makes_a_page(tmp_path: Path, toy_exports: Path, run: Any) -> None:
    """Rows may have labels that no model of the header has."""
    bare = made_up_row("a.png", verdict="gamma", confidence=0.5, scores={"gamma": 0.5})
    (tmp_path / "r.jsonl").write_text(lines({"genforensic": HEADER}, GOOD, bare, made_up_row("", status="odd")))
    page = make(run, tmp_path / "r.jsonl", toy_exports)
    assert page.data("about")["labels"] == ["real", "alpha", "gamma"]
    assert page.data("rows")[1]["scores"] == [None, None, 0.5]
    assert page.thumbnails[1] == "!missing"
