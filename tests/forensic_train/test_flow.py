"""`genforensic train`, `export` and `evaluate` from labelled images to a report, in this process."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from forensic_cli.card import ANY_STATE
from forensic_cli.model import Model
from forensic_train.crossfit.scores import Scores, scores_file, write_scores
from forensic_train.loader import Batch
from forensic_train.manifest import count_cells, with_hashes
from forensic_train.run import CONFIG_FILE, Run, read_split
from forensic_train.techniques import TECHNIQUES
from forensic_train.techniques.weighted import Weighted

RunCommand = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.fixture
def copied(trained_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the trained run, with the named parts of it only."""

    def copy(*parts: str) -> Path:
        target = tmp_path / "copy"
        for part in parts or tuple(path.name for path in trained_run.iterdir()):
            source = trained_run / part
            if source.is_dir():
                shutil.copytree(source, target / part)
            else:
                target.mkdir(exist_ok=True)
                shutil.copy(source, target / part)
        return target

    return copy


def one_line(result: Any, code: int) -> str:
    """Check that a command failed with its code and a single line; returns the line."""
    assert (result.exit_code, result.stdout) == (code, "")
    lines = str(result.stderr).splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("genforensic: ")
    return lines[0].removeprefix("genforensic: ")


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = Run(run).load(CPU)
    return {f"{name}.{key}": tensor for name, module in state["modules"].items() for key, tensor in module.items()}


def test_all_trains_everything_in_dependency_order(trained_run: Path) -> None:
    assert sorted(path.name for path in (trained_run / "exports").glob("*.onnx")) == [
        f"toy-{name}.onnx" for name in ("adversarial", "baseline", "discriminant", "finetune", "weighted")
    ]
    base, tuned = weights(trained_run / "baseline"), weights(trained_run / "finetune")
    differing = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert differing == {"network.generator_head.weight", "network.generator_head.bias"}


def test_a_split_trains_on_no_bytes_that_it_tests_on(trained_run: Path) -> None:
    rows = read_split(trained_run)
    assert len(rows) == 70
    contents: dict[str, set[bytes]] = {}
    for row in rows:
        contents.setdefault(row.split, set()).add(row.path.read_bytes())
    seen = [content for side in contents.values() for content in side]
    assert len(seen) == len(set(seen)) == 70
    with (trained_run / "split.csv").open(newline="") as stream:
        assert all(len(line["sha256"]) == 64 for line in csv.DictReader(stream))


def test_ctrl_c_and_resume_give_the_weights_of_a_run_without_them(
    run: RunCommand, labelled: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Weighted):
        updates = 0

        def update(self, batch: Batch) -> dict[str, float]:
            self.updates += 1
            if self.updates > 9:  # an epoch has 7 or 8
                raise KeyboardInterrupt
            return super().update(batch)

    options = ["train", "-t", "weighted", "--data", labelled, "--recipe", "toy", "--output", tmp_path / "r"]
    options += ["--seed", 3, "--device", "cpu", "--epochs", 2]
    with monkeypatch.context() as patch:
        patch.setitem(TECHNIQUES, "weighted", Interrupted)  # type: ignore[arg-type]
        broken = run(*options)
    assert one_line(broken, 130) == "interrupted; everything written so far is complete"
    assert len(Run(tmp_path / "r" / "weighted").load(CPU)[1]["history"]) == 1

    assert "contains a run already; add --resume" in one_line(run(*options), 4)
    resumed = run(*options, "--resume")
    assert (resumed.exit_code, resumed.stdout) == (0, "")
    assert "Done. Next: genforensic evaluate" in resumed.stderr
    found, expected = weights(tmp_path / "r" / "weighted"), weights(trained_run / "weighted")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    exports = [folder / "exports" / "toy-weighted.onnx" for folder in (tmp_path / "r", trained_run)]
    assert onnx.load(exports[0]).graph == onnx.load(exports[1]).graph


def test_an_existing_run_is_left_as_it_is(run: RunCommand, labelled: Path, copied: Callable[..., Path]) -> None:
    output = copied("split.csv", "baseline")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    options = ["train", "-t", "baseline", "--data", labelled, "--recipe", "toy", "--output", output, "--seed", 4]
    line = one_line(run(*options, "--device", "cpu", "--epochs", 2), 4)
    assert line == f"{output / 'baseline'}: contains a run already; add --resume, or choose another --output"
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_another_techniques_split_is_left_as_it_is(
    run: RunCommand, labelled: Path, copied: Callable[..., Path]
) -> None:
    """The baseline's test images must not become another technique's training images."""
    output = copied("split.csv", "baseline")
    before = (output / "split.csv").read_bytes()
    options = ["train", "-t", "weighted", "--data", labelled, "--recipe", "toy", "--output", output, "--seed", 4]
    done = run(*options, "--device", "cpu", "--epochs", 1)
    assert (output / "split.csv").read_bytes() == before
    assert str(output) in one_line(done, 4)


def test_a_run_is_resumed_with_its_own_options_only(
    run: RunCommand, labelled: Path, copied: Callable[..., Path]
) -> None:
    output = copied("split.csv", "baseline")
    options = ["train", "-t", "baseline", "--data", labelled, "--recipe", "toy", "--output", output, "--seed", 3]
    line = one_line(run(*options, "--device", "cpu", "--epochs", 3, "--resume"), 4)
    assert "cannot be resumed, these differ: settings; repeat the options it was started with" in line


def test_a_run_of_another_version_ends_in_one_line(run: RunCommand, copied: Callable[..., Path]) -> None:
    output = copied("split.csv", "baseline")
    config = output / "baseline" / CONFIG_FILE
    config.write_text(json.dumps({**json.loads(config.read_text()), "run_version": 99}))
    expected = f"{output / 'baseline'}: is a run of version 99, this tool reads 1; train it again"
    assert one_line(run("export", output), 4) == expected


def test_a_rate_that_is_too_high_ends_in_one_line(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "baseline", "--data", labelled, "--recipe", "toy", "--output", tmp_path / "r"]
    line = one_line(run(*options, "--device", "cpu", "--lr", 1e30), 4)
    assert line.startswith("baseline: loss is not a finite number in epoch 1; there is no checkpoint;")


def test_finetune_without_a_baseline_says_what_to_train_first(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "finetune", "--data", labelled, "--recipe", "toy", "--output", tmp_path / "r"]
    assert one_line(run(*options, "--device", "cpu"), 4) == (
        f"{tmp_path / 'r' / 'baseline'}: there is no trained baseline to start from; train it first, "
        "or name a run with --from"
    )


def test_finetune_starts_from_another_run_and_its_split(run: RunCommand, trained_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    options = ["train", "-t", "finetune", "--from", trained_run, "--recipe", "toy", "--output", output]
    done = run(*options, "--device", "cpu", "--epochs", 1)
    assert (done.exit_code, done.stdout) == (0, "")
    assert read_split(output) == read_split(trained_run)
    base, tuned = weights(trained_run / "baseline"), weights(output / "finetune")
    assert all(torch.equal(base[name], tuned[name]) for name in base if "encoder" in name)
    assert not torch.equal(base["network.generator_head.weight"], tuned["network.generator_head.weight"])
    assert Model.load(output / "exports" / "toy-finetune.onnx").card.training["starts_from"] == "baseline"


def test_finetune_refuses_a_baseline_of_another_recipe(run: RunCommand, trained_run: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "finetune", "--from", trained_run, "--recipe", "native", "--output", tmp_path / "r"]
    assert "has a different recipe or different generators than this training; choose another --from" in one_line(
        run(*options, "--device", "cpu"), 4
    )


def test_adversarial_needs_subjects(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    lines = ["path,generator", *(f"{p},{p.parents[1].name}" for p in sorted(labelled.rglob("*.png")))]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    options = ["train", "-t", "adversarial", "--data", tmp_path / "m.csv", "--recipe", "toy"]
    line = one_line(run(*options, "--output", tmp_path / "r", "--device", "cpu"), 4)
    assert line.startswith(
        "adversarial needs subjects, but its training images have fewer than two; arrange the data as ROOT/"
    )


def test_a_damaged_training_image_is_named(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "d")
    for path in (tmp_path / "d" / "beta").rglob("*.png"):
        path.write_bytes(b"no image: " + path.name.encode() + path.parent.name.encode())
    options = ["train", "-t", "baseline", "--data", tmp_path / "d", "--recipe", "toy", "--output", tmp_path / "r"]
    line = one_line(run(*options, "--device", "cpu"), 4)
    assert line.endswith(".png: no known image format; repair or remove it")


@pytest.fixture
def declared(labelled: Path, tmp_path: Path) -> Path:
    """Return a manifest without subjects that declares `train` and `test` alone, 11 and 3 images of each cell."""
    lines = ["path,generator,split"]
    for path in sorted(labelled.rglob("*.png")):
        lines.append(f"{path},{path.parents[1].name},{'test' if int(path.stem) >= 11 else 'train'}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "m.csv"


def test_all_says_in_one_line_what_any_technique_lacks(run: RunCommand, declared: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "all", "--data", declared, "--recipe", "toy", "--output", tmp_path / "r"]
    assert one_line(run(*options, "--device", "cpu"), 4) == (
        "nothing was trained, 2 things are missing: (1) finetune is fitted on the split adapt, which has no "
        "images; assign some rows of the manifest to it (--adapt N draws them from `test`), or do not train finetune; "
        "(2) adversarial needs subjects, but its training images have fewer than two; arrange the data as "
        "ROOT/<generator>/<subject>/..., or train another technique"
    )
    assert not (tmp_path / "r").exists()


def test_a_declared_split_is_trained_on_as_declared(run: RunCommand, declared: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "baseline", "--data", declared, "--recipe", "toy", "--output", tmp_path / "r"]
    done = run(*options, "--device", "cpu", "--epochs", 1)
    assert done.exit_code == 0, done.stderr
    assert count_cells(read_split(tmp_path / "r"), "split", "generator") == {
        "test": {"alpha": 6, "beta": 6, "gamma": 3},
        "train": {"alpha": 22, "beta": 22, "gamma": 11},
    }
    assert "no images are kept for calibration, and confidences will not be calibrated." in done.stderr
    card = Model.load(tmp_path / "r" / "exports" / "toy-baseline.onnx").card
    assert "Confidence is not calibrated: no images were kept for that." in card.limits
    assert sum(sum(row.values()) for row in card.data.values()) == 55


def test_what_finetune_adapts_to_is_drawn_several_times(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    output, data = tmp_path / "r", tmp_path / "m.csv"
    lines = ["path,generator,subject,split"]
    for path in sorted(labelled.rglob("*.png")):
        split = "test" if int(path.stem) >= 9 else "train"
        lines.append(f"{path},{path.parents[1].name},{path.parent.name},{split}")
    data.write_text("\n".join(lines) + "\n")
    options = ["train", "--data", data, "--recipe", "toy", "--output", output, "--device", "cpu", "--epochs", 1]
    drawn = ["--val", 0, "--adapt", 16, "--draws", 3, "-t"]
    assert one_line(run(*options, *drawn, "weighted"), 2) == (
        "--draws repeats techniques that adapt to unseen images; weighted does not"
    )
    done = run(*options, *drawn, "all")
    assert done.exit_code == 0, done.stderr
    splits = [read_split(folder) for folder in (output, output / "draw-1", output / "draw-2")]
    for split in splits:
        counts = {name: sum(row.split == name for row in split) for name in ("train", "val", "adapt", "test")}
        assert counts == {"train": 45, "val": 0, "adapt": 16, "test": 9}
    assert len({tuple(row.path for row in split if row.split == "test") for split in splits}) == 3
    assert {path.name for path in (output / "draw-1" / "exports").glob("*.onnx")} == {"toy-finetune.onnx"}
    config = json.loads((output / "draw-1" / "finetune" / CONFIG_FILE).read_text())
    assert config["seed"] == 1
    base, tuned = weights(output / "baseline"), weights(output / "draw-2" / "finetune")
    assert all(torch.equal(base[name], tuned[name]) for name in base if "encoder" in name)

    found = json.loads(run("evaluate", output, "--format", "json").stdout)
    tested = [one["metrics"] for one in found if one["technique"] == "finetune"]
    assert [one["images"] for one in found if one["technique"] == "finetune"] == ["draw-1", "draw-2", "test"]
    assert {one["images"] for one in found if one["technique"] == "baseline"} == {"draw-1", "draw-2", "test", "unseen"}
    text = run("evaluate", output, "--format", "markdown").stdout
    values = [one["accuracy"] for one in tested]
    assert f"| toy-finetune | 3 | 9 | {fmean(values):.3f} | {stdev(values):.3f} |" in text
    assert "Accuracy over the draws that finetune adapts to" in run("evaluate", output).stdout


def test_one_technique_that_fails_does_not_stop_the_others(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    options = ["train", "-t", "all", "--data", labelled, "--recipe", "toy", "--output", tmp_path / "r", "--epochs", 1]
    done = run(*options, "--device", "cpu", "--set", "baseline.lr=1e30")
    assert done.exit_code == 4
    assert done.stderr.splitlines()[-1] == (
        "genforensic: not exported: baseline, finetune, of 5 techniques; the reasons are above"
    )
    assert "baseline: loss is not a finite number in epoch 1" in done.stderr
    assert {path.name for path in (tmp_path / "r" / "exports").glob("*.onnx")} == {
        f"toy-{name}.onnx" for name in ("weighted", "adversarial", "discriminant")
    }


def test_export_goes_on_behind_a_run_that_it_cannot_read(run: RunCommand, copied: Callable[..., Path]) -> None:
    output = copied("split.csv", "adversarial", "baseline", "weighted")
    (output / "baseline" / "last.ckpt").write_bytes(b"damaged")
    done = run("export", output)
    assert done.exit_code == 4
    assert done.stderr.splitlines()[-1] == (
        "genforensic: not exported: baseline, of 3 techniques; the reasons are above"
    )
    assert {path.name for path in (output / "exports").glob("*.onnx")} == {"toy-adversarial.onnx", "toy-weighted.onnx"}


def test_what_is_called_test_does_not_calibrate(run: RunCommand, copied: Callable[..., Path], tmp_path: Path) -> None:
    output = copied("split.csv", "baseline")
    rows = with_hashes(read_split(output))
    for wanted in (("adapt", "test"), ("test",)):
        chosen = tuple(row for row in rows if row.split in wanted)
        logits = np.random.default_rng(0).normal(size=(len(chosen), 1, 3)).astype(np.float32)
        folds, distances = np.zeros(len(chosen), np.int64), np.zeros((len(chosen), 1), np.float32)
        states, labels = np.full((len(chosen), 1), ANY_STATE), ("alpha", "beta", "gamma")
        scores = Scores("baseline", labels, chosen, folds, ("as it is",), states, logits, distances)
        write_scores(tmp_path / scores_file("baseline"), scores)
        done = run("export", output, "--calibrate", tmp_path)
        if wanted == ("test",):
            assert one_line(done, 4).startswith(
                f"{tmp_path}: every image with scores of baseline is a test image of this run and must not be "
                "calibrated on;"
            )
        else:
            card = Model.load(output / "exports" / "toy-baseline.onnx").card
            adapted = sum(row.split == "adapt" for row in rows)
            assert card.validation.startswith(f"{adapted} images from ")
            assert card.metrics["left-out"]["images"] == adapted


def test_export_writes_the_same_model_elsewhere(
    run: RunCommand, copied: Callable[..., Path], trained_run: Path, tmp_path: Path
) -> None:
    output = copied("split.csv", "weighted")
    done = run("export", output, "--output", tmp_path / "elsewhere")
    assert (done.exit_code, done.stdout) == (0, "")
    assert not (output / "exports").exists()
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"toy-weighted.onnx", "toy-weighted.md"}
    again = Model.load(tmp_path / "elsewhere" / "toy-weighted.onnx")
    first = Model.load(trained_run / "exports" / "toy-weighted.onnx")
    assert again.card.decisions == first.card.decisions
    assert again.card.metrics == first.card.metrics


def test_evaluate_writes_tables_and_pictures_beside_the_run(run: RunCommand, copied: Callable[..., Path]) -> None:
    output = copied("split.csv", "exports")
    done = run("evaluate", output)
    assert done.exit_code == 0
    assert done.stderr == f"Pictures and tables: {output / 'evaluation'}\n"
    techniques = ("adversarial", "baseline", "discriminant", "finetune", "weighted")
    scored = [f"toy-{name}-test" for name in techniques] + [f"toy-{n}-unseen" for n in techniques if n != "finetune"]
    pictures = {f"{name}.png" for name in scored}
    assert {p.name for p in (output / "evaluation").iterdir()} == {"evaluation.json", "evaluation.md", *pictures}
    for name in pictures:
        with Image.open(output / "evaluation" / name) as picture:
            picture.load()
            assert picture.format == "PNG"
    found = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert {(one["technique"], one["images"]) for one in found} == {
        *((name, "test") for name in techniques),
        *((name, "unseen") for name in techniques if name != "finetune"),
    }
    for one in found:
        # the card's figures are these ones
        card = Model.load(output / "exports" / f"{one['model']}.onnx").card
        assert card.metrics[one["images"]]["accuracy"] == one["metrics"]["accuracy"]
        assert one["metrics"]["images"] == sum(map(sum, one["metrics"]["confusion"]))
    for name in techniques:
        assert f"toy-{name}" in done.stdout
    assert "Ranking by accuracy" in done.stdout
