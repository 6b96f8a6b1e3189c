"""Tests of exports: where they are looked for, which are picked, and which may be fused."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import ModelCard
from forensic_cli.errors import ModelError, UsageError
from forensic_cli.exports import Export, check_labels, export_files, export_folders, peek_exports, read_cards, select
from forensic_cli.model import Model, check_against_cpu
from toys import genforensic, toy_card, write_toy_export, write_toy_exports


def names(models: list[Export]) -> list[str]:
    return [model.card.name for model in models]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENFORENSIC_EXPORTS", raising=False)


def test_the_option_comes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = write_toy_export(tmp_path / "option" / "a.onnx", toy_card())
    variable = write_toy_export(tmp_path / "variable" / "b.onnx", toy_card())
    monkeypatch.setenv("GENFORENSIC_EXPORTS", str(variable.parent))
    assert export_files(option.parent) == [option]
    assert export_files(None) == [variable]


def test_what_ships_comes_last_and_the_package_before_the_checkout() -> None:
    package, checkout = export_folders(None)
    assert (package.name, package.parent.name) == ("exports", "forensic_cli")
    assert checkout == package.parent.parent / "exports"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENFORENSIC_EXPORTS", "")
    assert len(export_folders(None)) == 2


def test_an_empty_named_folder_does_not_fall_back_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENFORENSIC_EXPORTS", str(write_toy_exports(tmp_path / "full")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as caught:
        export_files(tmp_path / "empty")
    assert str(caught.value) == (
        f"no exports found in {tmp_path / 'empty'}; train some with `genforensic train`, "
        "or name a folder of .onnx files with --exports"
    )


def test_a_file_is_not_a_folder_of_exports(tmp_path: Path) -> None:
    file = write_toy_export(tmp_path / "a.onnx", toy_card())
    with pytest.raises(UsageError) as caught:
        export_files(file)
    assert str(caught.value) == (f"{file}: --exports and GENFORENSIC_EXPORTS take a folder of .onnx files, not a file")


def test_files_come_in_name_order_and_only_onnx(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "a.md"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in export_files(tmp_path)] == ["a.onnx", "b.onnx"]


def test_the_variable_is_used_by_a_scan(toy_exports: Path, images: Path) -> None:
    done = genforensic("scan", images, "-f", "csv", env={"GENFORENSIC_EXPORTS": str(toy_exports)})
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 6)


def test_a_model_knows_its_card_and_the_hash_of_its_file(toy_exports: Path) -> None:
    import hashlib

    path = toy_exports / "native-weighted.onnx"
    model = Model.load(path)
    assert model.card == toy_card("weighted")
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.provider == "CPUExecutionProvider"


def test_without_a_name_the_baseline_is_picked(toy_exports: Path) -> None:
    models = peek_exports(export_files(toy_exports))
    assert names(select(models, [], None)) == ["native-baseline"]


def test_without_a_baseline_the_first_technique_is_picked(tmp_path: Path) -> None:
    for technique in ("weighted", "finetune"):
        write_toy_export(tmp_path / f"{technique}.onnx", toy_card(technique))
    assert names(select(peek_exports(export_files(tmp_path)), [], None)) == ["native-finetune"]


def test_techniques_come_in_the_order_asked_for_and_once(toy_exports: Path) -> None:
    models = peek_exports(export_files(toy_exports))
    picked = select(models, ["weighted", "adversarial", "weighted"], None)
    assert names(picked) == ["native-weighted", "native-adversarial"]


def test_all_means_every_technique_by_name(toy_exports: Path) -> None:
    models = peek_exports(export_files(toy_exports))
    everything = ["native-adversarial", "native-baseline", "native-finetune", "native-weighted"]
    assert names(select(models, ["all"], None)) == everything
    assert names(select(models, ["weighted", "all"], None)) == everything


def test_an_unknown_technique_names_those_allowed(toy_exports: Path) -> None:
    models = peek_exports(export_files(toy_exports))
    with pytest.raises(UsageError) as caught:
        select(models, ["baselin"], None)
    assert str(caught.value) == (
        "no export has technique 'baselin'; allowed: adversarial, baseline, finetune, weighted, all"
    )


def test_of_several_recipes_native_is_picked_and_the_others_by_name(tmp_path: Path) -> None:
    for recipe in ("paper", "native", "alien"):
        write_toy_exports(tmp_path, recipe)
    models = peek_exports(export_files(tmp_path))
    assert names(select(models, [], None)) == ["native-baseline"]
    assert names(select(models, ["weighted"], "paper")) == ["paper-weighted"]
    assert {model.card.recipe for model in select(models, ["all"], "alien")} == {"alien"}
    with pytest.raises(UsageError) as caught:
        select(models, [], "papre")
    assert str(caught.value) == "no export has recipe 'papre'; found: alien, native, paper"


def test_without_native_the_first_recipe_is_picked(tmp_path: Path) -> None:
    for recipe in ("paper", "other"):
        write_toy_exports(tmp_path, recipe)
    assert names(select(peek_exports(export_files(tmp_path)), [], None)) == ["other-baseline"]


def test_two_exports_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        write_toy_export(tmp_path / name, toy_card())
    models = peek_exports(export_files(tmp_path))
    with pytest.raises(UsageError) as caught:
        select(models, [], None)
    assert str(caught.value) == (
        "technique 'baseline' is in several exports (one.onnx, two.onnx); put them in separate folders"
    )


def test_labels_in_another_order_may_be_fused(tmp_path: Path) -> None:
    write_toy_export(tmp_path / "a.onnx", toy_card(labels=("real", "alpha", "beta")))
    write_toy_export(tmp_path / "b.onnx", toy_card("weighted", labels=("beta", "real", "alpha")))
    assert check_labels(peek_exports(export_files(tmp_path))) == ("real", "alpha", "beta")


@pytest.mark.parametrize(
    ("labels", "only_first", "only_second"),
    [
        (("real", "alpha", "gamma"), "beta", "gamma"),
        (("real", "alpha"), "beta", "none"),
        (("real", "alpha", "beta", "gamma", "delta"), "none", "delta, gamma"),
    ],
)
def test_differing_labels_say_which(tmp_path: Path, labels: tuple[str, ...], only_first: str, only_second: str) -> None:
    write_toy_export(tmp_path / "a.onnx", toy_card())
    write_toy_export(tmp_path / "b.onnx", toy_card("weighted", labels=labels))
    with pytest.raises(ModelError) as caught:
        check_labels(peek_exports(export_files(tmp_path)))
    assert str(caught.value) == (
        "native-baseline and native-weighted cannot be fused because their labels differ: "
        f"only the first has {only_first}, only the second has {only_second}; scan with one technique at a time"
    )


def test_a_broken_export_does_not_stop_a_scan_with_the_others(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_exports, tmp_path / "exports")
    broken = folder / "native-weighted.onnx"
    broken.write_bytes(broken.read_bytes()[:150])
    done = genforensic("scan", images, "--exports", folder, "-f", "csv")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"skipped: {broken}: not a usable ONNX file (the file ends too early); copy it again or export it again"
    ]
    wanted = genforensic("scan", images, "--exports", folder, "-t", "weighted")
    assert wanted.returncode == 2
    assert "no export has technique 'weighted'; allowed: adversarial, baseline, finetune, all" in wanted.stderr


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_exports_are_refused_or_read_as_onnx_reads_them(toy_file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(toy_file)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(ModelError):
        assert all(isinstance(card, ModelCard) for card in read_cards(io.BytesIO(cut), Path("a.onnx")))


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_toy_export(tmp_path_factory.mktemp("toy") / "a.onnx", toy_card()).read_bytes()


@given(st.binary(max_size=200))
def test_no_bytes_lead_to_anything_but_a_card_or_a_model_error(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"^a\.onnx: "):
        read_cards(io.BytesIO(data), Path("a.onnx"))


def test_a_pipe_among_the_exports_is_left_out(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_exports, tmp_path / "exports")
    os.mkfifo(folder / "0.onnx")
    done = genforensic("scan", images, "--exports", folder, "-f", "csv")
    assert done.returncode == 0
    assert done.stderr.startswith(f"skipped: {folder / '0.onnx'}: an export is a regular file of at most")


def test_a_file_of_endless_fields_is_no_export() -> None:
    with pytest.raises(ModelError, match="too many fields"):
        read_cards(io.BytesIO(b"\x08\x01" * 200_000), Path("a.onnx"))


def test_a_provider_that_computes_something_else_is_found_before_a_scan(tmp_path: Path) -> None:
    same = Model.load(write_toy_export(tmp_path / "a.onnx", toy_card(), weights=np.eye(3) * 4))
    near = Model.load(write_toy_export(tmp_path / "b.onnx", toy_card(), weights=np.eye(3) * 4.01))
    other = Model.load(write_toy_export(tmp_path / "c.onnx", toy_card(), weights=np.eye(3) * 5))
    check_against_cpu(near, same)
    with pytest.raises(ModelError, match="computes other logits than the CPU") as caught:
        check_against_cpu(other, same)
    assert str(tmp_path / "c.onnx") in str(caught.value)
