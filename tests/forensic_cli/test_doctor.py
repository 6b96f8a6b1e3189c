"""Tests of `genforensic doctor`: it calls healthy what works, and finds what does not by trying it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from forensic_cli.commands.doctor import EXTRAS
from toys import GAINS, child_environment, genforensic, toy_card, write_toy_export, write_toy_exports

HAS_GPU = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")) or sys.platform == "win32"


def checks(done: Any) -> dict[str, tuple[str, str]]:
    return {check["name"]: (check["state"], check["detail"]) for check in json.loads(done.stdout)["checks"]}


def test_a_whole_installation_is_healthy(run: Any, toy_exports: Path) -> None:
    done = run("doctor", "--exports", toy_exports, "--json")
    assert (done.exit_code, done.stderr, json.loads(done.stdout)["healthy"]) == (0, "", True)
    found = checks(done)
    assert found["numpy"] == ("ok", np.__version__)
    assert found["CPUExecutionProvider"] == ("ok", "runs 4 models")
    for technique in GAINS:
        state, detail = found[f"native-{technique}"]
        assert (state, detail.endswith("judges a sample twice alike")) == ("ok", True)


def test_what_ships_is_healthy_with_every_technique_of_a_file(run: Any) -> None:
    done = run("doctor", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    shipped = [name for name, (_, detail) in checks(done).items() if detail.endswith("judges a sample twice alike")]
    assert "native-discriminant" in shipped
    assert len(shipped) > 1


def test_the_configuration_in_force_is_named(
    run: Any, toy_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genforensic.toml").write_text("[scan]\nthreshold = 0.9\n")
    found = checks(run("doctor", "--exports", toy_exports, "--json"))
    assert found["configuration"] == ("ok", "genforensic.toml")


def test_the_lines_for_people(run: Any, toy_exports: Path) -> None:
    done = run("doctor", "--exports", toy_exports)
    assert (done.exit_code, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert last == "healthy"
    assert {line.split()[0] for line in lines} <= {"ok", "absent"}
    assert ["ok", "CPUExecutionProvider", "runs", "4", "models"] in [line.split() for line in lines]


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_a_provider_that_is_only_claimed_does_not_count(run: Any, toy_exports: Path) -> None:
    """onnxruntime-gpu lists CUDA on every machine."""
    found = checks(run("doctor", "--exports", toy_exports, "--json"))
    assert found["CUDAExecutionProvider"] == (
        "absent",
        "no CUDA device was found on this machine; scans run on the CPU",
    )


def test_no_exports_is_a_fault(run: Any, tmp_path: Path) -> None:
    done = run("doctor", "--exports", tmp_path, "--json")
    assert done.exit_code == 3
    assert checks(done)["exports"] == (
        "fault",
        f"no exports found in {tmp_path}; train some with `genforensic train`, or name a folder of .onnx files with "
        "--exports",
    )


def test_a_damaged_export_beside_a_whole_one_is_a_fault(run: Any, tmp_path: Path) -> None:
    exports = write_toy_exports(tmp_path)
    damaged = exports / "native-baseline.onnx"
    damaged.write_bytes(damaged.read_bytes()[:150])
    done = run("doctor", "--exports", exports)
    assert done.exit_code == 3
    (fault,) = [line for line in done.stdout.splitlines() if line.startswith("fault")]
    assert " ".join(fault.split()).startswith(f"fault native-baseline.onnx {damaged}: not a usable ONNX file (")
    assert done.stdout.splitlines()[-1].startswith("not healthy: 1 of ")


def test_a_pipe_among_the_exports_is_a_fault_and_never_opened(toy_exports: Path, tmp_path: Path) -> None:
    """To open a pipe that nobody writes to would wait forever: the child's time limit tells."""
    os.mkfifo(tmp_path / "a.onnx")
    done = genforensic("doctor", "--exports", tmp_path, timeout=30)
    assert done.returncode == 3
    assert f"{tmp_path / 'a.onnx'}: an export is a regular file of at most" in done.stdout


def test_an_export_that_computes_no_numbers_is_a_fault(run: Any, tmp_path: Path) -> None:
    path = write_toy_export(tmp_path / "a.onnx", toy_card(), np.full((3, 3), np.nan))
    found = checks(run("doctor", "--exports", tmp_path, "--json"))
    assert found["native-baseline"] == (
        "fault",
        f"{path}: computed infinity or NaN; copy it again or export it again",
    )


def test_an_export_that_gives_two_results_is_a_fault(run: Any, tmp_path: Path) -> None:
    path = write_toy_export(tmp_path / "a.onnx", toy_card())
    model = onnx.load(path)
    (last,) = [node for node in model.graph.node if node.output[0] == "logits"]
    last.output[0] = "steady"
    noise = helper.make_node("RandomNormalLike", ["steady"], ["noise"], dtype=TensorProto.FLOAT)
    model.graph.node.extend([noise, helper.make_node("Add", ["steady", "noise"], ["logits"])])
    onnx.save(model, path)
    found = checks(run("doctor", "--exports", tmp_path, "--json"))
    assert found["native-baseline"] == ("fault", "the same image gave two results; check the memory of this machine")


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    run: Any, toy_exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRAS, "parquet", ("scan --format parquet", ("no_such_package",)))
    done = run("doctor", "--exports", toy_exports, "--json")
    assert done.exit_code == 0  # a scan does without
    assert checks(done)["extra parquet"] == (
        "absent",
        "no_such_package not installed; for scan --format parquet: pip install 'genforensic[parquet]' (in a checkout: "
        "pip install '.[parquet]')",
    )


def test_two_runtimes_in_one_environment_are_a_fault(toy_exports: Path, tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime_directml"):
        info = tmp_path / f"{name}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    path = os.pathsep.join([str(tmp_path), child_environment()["PYTHONPATH"]])
    done = genforensic("doctor", "--exports", toy_exports, env={"PYTHONPATH": path})
    assert done.returncode == 3
    assert "onnxruntime 9.9" in done.stdout
    assert "exactly one must be installed: uninstall all of them with pip" in done.stdout
