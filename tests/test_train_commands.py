"""The commands around training: audit, models, evaluate, and what they say without the training packages."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from toys import ROOT, child_environment, solid

RunCommand = Callable[..., Any]
PAPER_COUNTS = ROOT / "train" / "forensic_train" / "paper_counts.csv"

SOURCES = ROOT / "train" / "sources.tsv"


def failed(result: Any, code: int) -> str:
    """Check that a command failed with its code and a single line; returns the line."""
    assert (result.exit_code, result.stdout) == (code, "")
    lines = str(result.stderr).splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# audit


def test_audit_prints_the_papers_figures(run: RunCommand) -> None:
    done = run("audit", "--counts", PAPER_COUNTS)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "H(G) 1.700   H(S) 1.628   I(G;S) 0.683   H(S|G) 0.946 nats" in done.stdout
    assert "27 of 42 cells are empty." in done.stdout
    assert "A rule that sees only the subject gets 45.2% right." in done.stdout
    totals = [line for line in done.stdout.splitlines() if "123920" in line]
    assert len(totals) == 1


def test_audit_as_json(run: RunCommand) -> None:
    done = run("audit", "--counts", PAPER_COUNTS, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    figures = {name: value for name, value in found["bias"].items() if isinstance(value, float)}
    assert {name: round(value, 3) for name, value in figures.items()} == {
        "generator_entropy": 1.700,
        "subject_entropy": 1.628,
        "mutual_information": 0.683,
        "conditional_entropy": 0.946,
        "subject_rule_accuracy": 0.452,
    }
    assert found["bias"]["empty_cells"] == 27
    assert found["bias"]["counts"][2] == [0, 8480, 0, 0, 0, 0, 0]
    assert found["shortcuts"] == []


@pytest.mark.parametrize("text", ["generator,cat\na,1\nb,x\n", "", "\0", "generator,cat\na,1\n"])
def test_audit_refuses_a_bad_table_in_one_line(run: RunCommand, tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    assert failed(run("audit", "--counts", path), 4).startswith(f"genforensic: {path}: ")


def test_audit_wants_exactly_one_source(run: RunCommand, tmp_path: Path) -> None:
    message = "genforensic: give either DATA (a folder or a manifest) or --counts FILE.csv"
    assert failed(run("audit"), 2) == message
    assert failed(run("audit", tmp_path, "--counts", PAPER_COUNTS), 2) == message
    assert "no such file or folder" in failed(run("audit", tmp_path / "nothing"), 2)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Return ROOT/<generator>/N, no subjects; one generator is JPEG, the other PNG."""
    for generator, suffix in (("alpha", ".jpg"), ("beta", ".png")):
        (tmp_path / "flat" / generator).mkdir(parents=True)
        for i in range(6):
            solid(tmp_path / "flat" / generator / f"{i}{suffix}", (20 * i, 99, 10))
    return tmp_path / "flat"


def test_audit_warns_of_a_shortcut_and_of_missing_subjects(run: RunCommand, flat: Path) -> None:
    done = run("audit", flat)
    assert done.exit_code == 0
    subjects, shortcut = done.stderr.splitlines()
    assert subjects == ("The data has no subjects: adversarial training and subject hold-outs are not possible.")
    assert shortcut.startswith("Warning: format, ")
    assert "save all images in one format, size and quality" in shortcut
    found = json.loads(run("audit", flat, "--json").stdout)
    accuracy = {one["name"]: one["balanced_accuracy"] for one in found["shortcuts"]}
    assert accuracy["format"] == 1.0


def test_audit_has_nothing_to_warn_of_in_equal_files(run: RunCommand, tmp_path: Path) -> None:
    for generator in ("alpha", "beta"):
        for subject in ("car", "cat"):
            (tmp_path / generator / subject).mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (30, 30), (i, 5, 5)).save(tmp_path / generator / subject / f"{i}.bmp")
    done = run("audit", tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "0 of 4 cells are empty." in done.stdout


def test_audit_names_unreadable_images_and_bytes_under_two_generators(run: RunCommand, tmp_path: Path) -> None:
    for i, name in enumerate(("a/cat/1", "a/cat/2", "b/cat/1", "b/cat/2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        solid(tmp_path / f"{name}.png", (9 * i, 9, 9))
    (tmp_path / "b" / "cat" / "2.png").write_bytes((tmp_path / "a" / "cat" / "1.png").read_bytes())
    (tmp_path / "a" / "cat" / "2.png").write_bytes(b"no image")
    done = run("audit", tmp_path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-4:] == [
        "Training would stop at 1 image that cannot be read:",
        f"  {tmp_path / 'a/cat/2.png'}: no known image format",
        "1 file with the same bytes under several generators:",
        f"  {tmp_path / 'a/cat/1.png'} (a), {tmp_path / 'b/cat/2.png'} (b)",
    ]
    as_json = run("audit", tmp_path, "--json")
    found = json.loads(as_json.stdout)
    assert as_json.exit_code == 1
    assert found["unreadable"] == [{"path": str(tmp_path / "a/cat/2.png"), "reason": "no known image format"}]
    (same,) = found["two_generators"]
    assert [one["generator"] for one in same["files"]] == ["a", "b"]
    (tmp_path / "a" / "cat" / "2.png").unlink()
    assert run("audit", tmp_path).exit_code == 0


# corpus


def test_corpus_names_the_labels_that_there_are(run: RunCommand, tmp_path: Path) -> None:
    line = failed(run("corpus", SOURCES, "--output", tmp_path / "corpus", "--only", "lsgm"), 2)
    assert line.startswith("genforensic: --only lsgm names no label of the table, which has dalle2, dalle3, flux, ")
    line = failed(run("corpus", SOURCES, "--output", tmp_path / "corpus", "--from", "https://example.org"), 2)
    assert line == (
        "genforensic: --from 'https://example.org' names no repository; write {repo} where owner/name belongs"
    )
    assert not (tmp_path / "corpus").exists()


# models


def test_models_lists_the_exports(run: RunCommand, toy_exports: Path) -> None:
    done = run("models", "--exports", toy_exports)
    assert (done.exit_code, done.stderr) == (0, "")
    for technique in ("baseline", "weighted", "finetune", "adversarial"):
        assert f"native-{technique}" in done.stdout
    assert f"Folder: {toy_exports}" in done.stdout
    assert "Labels: real, alpha, beta" in done.stdout


def test_models_as_json_is_the_whole_card(run: RunCommand, toy_exports: Path) -> None:
    found = json.loads(run("models", "--exports", toy_exports, "--json").stdout)
    assert [one["card"]["technique"] for one in found] == ["adversarial", "baseline", "finetune", "weighted"]
    assert found[0]["card"]["labels"] == ["real", "alpha", "beta"]
    assert all(len(one["sha256"]) == 64 for one in found)


def test_models_without_exports_says_where_it_looked(run: RunCommand, tmp_path: Path) -> None:
    assert failed(run("models", "--exports", tmp_path), 3) == (
        f"genforensic: no exports found in {tmp_path}; train some with `genforensic train`, "
        "or name a folder of .onnx files with --exports"
    )


# evaluate


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Return images of which the toy network gets one of `real`'s three and one of `beta`'s two wrong."""
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    made = {"real/cat": [red, red, green], "alpha/cat": [green, green], "beta/car": [blue, red]}
    for cell, wanted in made.items():
        (tmp_path / "data" / cell).mkdir(parents=True)
        for i, colour in enumerate(wanted):
            solid(tmp_path / "data" / cell / f"{i}.png", colour)
    return tmp_path / "data"


def test_evaluate_measures_other_images(run: RunCommand, toy_exports: Path, colours: Path, tmp_path: Path) -> None:
    done = run("evaluate", "--data", colours, "--exports", toy_exports, "-f", "json", "-o", tmp_path / "e")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [(one["model"], one["images"]) for one in found] == [
        (f"native-{name}", "test") for name in ("adversarial", "baseline", "finetune", "weighted")
    ]
    for one in found:
        assert one["metrics"]["accuracy"] == pytest.approx(5 / 7)
        assert one["metrics"]["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 1]]
        assert one["metrics"]["worst_cell"] == "beta / car"
    assert (tmp_path / "e" / "evaluation.json").read_text() == done.stdout
    assert {path.name for path in (tmp_path / "e").glob("*.png")} == {f"{one['model']}-test.png" for one in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("markdown", "| alpha | 0.67 | 1.00 | 0.80 | 2 |"), ("table", "│ alpha         │      0.67 │   1.00 │ 0.80 │")],
)
def test_evaluate_writes_no_file_unasked(
    run: RunCommand, toy_exports: Path, colours: Path, name: str, expected: str
) -> None:
    before = sorted(colours.parent.rglob("*"))
    done = run("evaluate", "--data", colours, "--exports", toy_exports, "--format", name)
    assert (done.exit_code, done.stderr) == (0, "")
    assert expected in done.stdout
    assert sorted(colours.parent.rglob("*")) == before


def test_evaluate_says_what_it_needs(run: RunCommand, toy_exports: Path, colours: Path, tmp_path: Path) -> None:
    assert failed(run("evaluate"), 2) == "genforensic: name a RUN, or labelled images with --data"
    assert failed(run("evaluate", tmp_path), 4) == (
        f"genforensic: {tmp_path}: is not a training run (it has no split.csv)"
    )
    bad = run("evaluate", tmp_path, "--format", "pdf")
    assert bad.exit_code == 2
    assert "'pdf' is not one of 'table', 'json', 'markdown'" in bad.stderr
    (colours / "beta").rename(colours / "unheard")
    assert failed(run("evaluate", "--data", colours, "--exports", toy_exports), 4) == (
        "genforensic: native-adversarial does not know unheard; its labels are real, alpha, beta"
    )


def test_evaluate_measures_one_technique_and_knows_no_other(
    run: RunCommand, toy_exports: Path, colours: Path, tmp_path: Path
) -> None:
    options = ["evaluate", "--data", colours, "--exports", toy_exports, "--format", "json"]
    found = json.loads(run(*options, "--technique", "weighted").stdout)
    assert [one["model"] for one in found] == ["native-weighted"]
    assert failed(run(*options, "--technique", "nope"), 2) == (
        "genforensic: no export has technique 'nope'; allowed: adversarial, baseline, finetune, weighted, all"
    )
    assert failed(run(*options, "--recipe", "paper"), 2) == (
        "genforensic: no export has recipe 'paper'; allowed: native, all"
    )
    assert failed(run(*options, "--set", "epochs=1"), 2) == (
        "genforensic: --set and --fold are for --leave-out; add --leave-out, or remove them"
    )
    leaving = ("--leave-out", "source", "--data", tmp_path, "--output", tmp_path / "out", "--robustness")
    assert failed(run("evaluate", *leaving), 2) == (
        "genforensic: --robustness measures exports; the recipe native is measured in every form by --leave-out"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_evaluate_leave_out_trains_on_the_device_that_was_asked_for(
    run: RunCommand, colours: Path, tmp_path: Path
) -> None:
    options = ["evaluate", "--leave-out", "subject", "--data", colours, "--output", tmp_path / "r", "--workers", 1]
    done = run(*options, "--folds", 2, "--technique", "baseline", "--device", "cuda")
    assert done.exit_code == 4
    assert done.stderr.splitlines()[-1].startswith("genforensic: no CUDA device was found; train with --device cpu")
    assert "'tpu' is not one of 'auto', 'cpu', 'cuda'" in run(*options, "--device", "tpu").stderr


# train and export, as far as they get without training


def test_train_refuses_what_it_does_not_know(run: RunCommand, colours: Path, tmp_path: Path) -> None:
    output = tmp_path / "r"
    train = ["train", "--data", colours, "--output", output, "-t"]
    unknown = run(*train, "boost")
    assert unknown.exit_code == 2
    assert "'boost' is not one of 'baseline', 'weighted', 'finetune'" in unknown.stderr
    assert "recipe 'huge' is not known; allowed: native, residual, paper" in failed(
        run(*train, "all", "--recipe", "huge"), 2
    )
    assert failed(run(*train, "all", "--set", "stable"), 2) == (
        "genforensic: --set 'stable' is not understood; write KEY=VALUE, such as --set stable=true"
    )
    assert "setting 'stabel' is not known to" in failed(run(*train, "all", "--set", "stabel=true"), 2)
    assert "--holdout 'subject=bus' matches no row" in failed(run(*train, "baseline", "--holdout", "subject=bus"), 2)
    assert failed(run("train", "-t", "baseline", "--output", output), 2) == (
        "genforensic: there is nothing to train on; name a labelled folder or a manifest with --data"
    )
    assert not output.exists()


def test_calibrate_is_checked_before_anything_is_trained(run: RunCommand, colours: Path, tmp_path: Path) -> None:
    output, nowhere = tmp_path / "r", tmp_path / "nowhere"
    train = ["train", "--data", colours, "--output", output, "-t", "all", "--calibrate"]
    message = f"{nowhere}: no such folder; --calibrate takes the output of `genforensic evaluate --leave-out source`"
    assert failed(run(*train, nowhere), 2) == f"genforensic: {message}"
    nowhere.mkdir()
    line = failed(run(*train, nowhere), 4)
    assert "things are missing: (1) " in line
    for technique in ("baseline", "weighted", "finetune", "adversarial", "discriminant"):
        assert f"scores-{technique}.npz: is not a file of scores" in line
    assert not output.exists()


def test_export_of_no_run_says_so(run: RunCommand, tmp_path: Path) -> None:
    assert failed(run("export", tmp_path), 4) == (
        f"genforensic: {tmp_path}: contains no trained technique; name the --output folder of `genforensic train`"
    )


# Without the training packages

_BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["genforensic", *{arguments!r}]
from forensic_cli.main import main
main()
"""


def without(package: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process in which a package is not installed."""
    program = _BLOCKED.format(package=package, arguments=[str(argument) for argument in arguments])
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", env=child_environment(), check=False
    )


@pytest.mark.parametrize(
    ("command", "package"),
    [("train", "torch"), ("evaluate", "torch"), ("export", "torch"), ("audit", "sklearn"), ("corpus", "torch")],
)
def test_a_missing_extra_names_the_line_that_mends_it(
    command: str, package: str, colours: Path, flat: Path, toy_exports: Path
) -> None:
    arguments = {
        "train": ["-t", "baseline", "--data", colours],
        "evaluate": ["--data", colours, "--exports", toy_exports],
        "export": [colours],
        "audit": [flat],
        "corpus": [SOURCES, "--output", flat / "corpus"],
    }
    done = without(package, command, *arguments[command])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: `genforensic {command}` needs {package}, which is not installed; "
        "run: pip install 'genforensic[train]' (in a checkout: pip install '.[train]')\n"
    )


def test_without_the_benchmark_one_line_says_where_it_is(tmp_path: Path) -> None:
    done = without("forensic_benchmark", "benchmark", "--quick", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: the benchmark and its checkpoints are not part of the installed package; run `genforensic "
        "benchmark` from a checkout of the repository (pip install --editable '.[train]')\n"
    )


def test_what_needs_no_extra_works_without_it(toy_exports: Path) -> None:
    assert without("torch", "models", "--exports", toy_exports).returncode == 0
    assert without("torch", "audit", "--counts", PAPER_COUNTS).returncode == 0
    assert without("torch", "train", "--help").returncode == 0


def test_a_fault_in_another_package_is_not_blamed_on_the_extra(colours: Path) -> None:
    done = without("cv2", "audit", colours)
    assert done.returncode != 0
    assert "pip install" not in done.stderr
