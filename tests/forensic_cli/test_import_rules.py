"""Tests of the import rules: scans work without PyTorch, and help pages load nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toys import ROOT, child_environment

NEVER_IN_A_SCAN = (
    *("torch", "torchvision", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "forensic_benchmark"),
    *("imagehash", "watchfiles", "ray", "duckdb", "pyarrow"),
)
NEVER_IN_HELP = (*NEVER_IN_A_SCAN, "cv2", "onnxruntime", "numpy", "PIL", "jinja2")
SOURCES = sorted((ROOT / "forensic_cli").rglob("*.py"))
PROGRAM = """
import sys
from forensic_cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as leaving:
    code = leaving.code or 0
print("LOADED", code, *sorted(sys.modules))
"""


def modules_after(*arguments: object) -> tuple[int, set[str], str]:
    """Run a command line in a child; returns its exit code, the modules it loaded, and its output."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=child_environment(),
        check=False,
    )
    assert "Traceback" not in done.stderr
    output, _, loaded = done.stdout.rpartition("LOADED ")
    code, *names = loaded.split()
    training = {name for name in names if name.startswith("forensic_train.")}
    assert {name for name in training if not name.startswith("forensic_train.commands")} == set()
    return int(code), {name.split(".")[0] for name in names}, output


def test_a_whole_scan_loads_no_training_package(toy_exports: Path, images: Path) -> None:
    code, loaded, output = modules_after("scan", images, "--exports", toy_exports, "--technique", "all")
    assert code == 0
    assert "5 images judged" in output
    assert {"cv2", "onnxruntime", "numpy"} <= loaded  # it really scanned
    assert loaded & set(NEVER_IN_A_SCAN) == set()


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("scan", "--help"), ("report", "--help"), ("models", "--help"), ("train", "--help"), ("--version",)],
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code, loaded, output = modules_after(*arguments)
    assert code == 0
    assert output.strip()
    assert "typer" in loaded
    assert loaded & set(NEVER_IN_HELP) == set()


def test_rooms_import_only_from_those_below_them() -> None:
    """The contracts are in pyproject.toml, and CONTRIBUTING.md draws them."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        capture_output=True,
        encoding="utf-8",
        env=child_environment(),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_map_names_every_room() -> None:
    drawn = re.search(
        r"```text\nforensic_cli/(.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert drawn is not None
    rooms = [path.stem for path in (ROOT / "forensic_cli").iterdir() if path.suffix == ".py" or path.is_dir()]
    missing = [room for room in rooms if not room.startswith("__") and room not in re.findall(r"\w+", drawn[1])]
    assert missing == []


def test_every_source_is_valid_on_the_oldest_python_promised() -> None:
    """pyproject.toml promises Python 3.11; ast can read as that version did, even on a later one."""
    sources = [*SOURCES, *sorted((ROOT / "train").rglob("*.py"))]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    too_new = []
    for source in sources:
        try:
            tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 11))
        except SyntaxError as error:
            too_new.append(f"{source.relative_to(ROOT)}:{error.lineno}: {error.msg}")
            continue
        too_new += [
            f"{source.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if type(node).__name__ == "TypeAlias" or getattr(node, "type_params", None)
        ]
    assert too_new == []
