"""Bad files against a real scan: the documented table is true, files that change cost a row, and nothing hangs."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from forensic_cli.images.decode import MAX_PIXELS
from forensic_cli.images.header import STATUSES, WARNINGS
from forensic_cli.pipeline import Prepared, Reading, prepare
from forensic_cli.record import printable
from forensic_cli.scan import ScanSettings, scan
from hostile import NAMES, NO_PERMISSION, TABLE, growing, scan_corpus, table
from mutations import MUTATIONS, splice
from pictures import encode, picture, seeds
from toys import PREPROCESSING, child_environment, obeys_permissions

# Outside pytest Pillow's warnings are no errors; as errors they would turn readable headers into unreadable ones
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

SEEDS = seeds()
FEWEST_PIXELS = 100_000  # so that headers with large sizes cost the fuzzing no time


def test_the_table_of_bad_input_is_what_a_scan_says(tmp_path: Path) -> None:
    if not obeys_permissions():
        pytest.skip("root cannot give up its override of permissions here")
    assert table(scan_corpus(tmp_path)) == TABLE.read_text(encoding="utf-8"), (
        "run tests/hostile.py and look at the diff"
    )


def test_the_table_has_every_kind_of_row() -> None:
    text = TABLE.read_text(encoding="utf-8")
    assert NO_PERMISSION in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count(" | ") > 2]
    assert {row[1] for row in rows} >= {"ok", *STATUSES}
    warned = " ".join(row[3] for row in rows)
    # Metadata is beside the matter, and the toys take patches in any state
    assert [name for name in WARNINGS if f"`{name}`" not in warned] == [
        *("metadata_conflict", "other_compression", "silent_state", "unlike_training", "upscaled")
    ]


@pytest.mark.parametrize("report", ["jsonl", "json", "csv", "table"])
def test_a_name_of_any_bytes_is_one_row(run: Any, toy_exports: Path, tmp_path: Path, report: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES.values():
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encode(picture(), "PNG"))
    done = run("scan", folder, "--exports", toy_exports, "-f", report)
    assert (done.exit_code, done.stderr) == (0, "")
    wanted = sorted(printable(path) for path in folder.iterdir())
    if report == "csv":
        found = [row["path"].removeprefix("'") for row in csv.DictReader(io.StringIO(done.stdout, newline=""))]
    elif report == "json":
        found = [row["path"] for row in json.loads(done.stdout)["files"]]
    elif report == "jsonl":
        found = [row["path"] for line in done.stdout.splitlines() if "path" in (row := json.loads(line))]
    else:
        assert f"{len(NAMES)} images judged" in done.stdout
        assert sum(str(folder) in line for line in done.stdout.splitlines()) == len(NAMES)
        return
    assert sorted(found) == wanted


def test_a_file_that_goes_away_while_a_scan_runs_is_a_row(toy_exports: Path, tmp_path: Path) -> None:
    from forensic_cli.exports import export_files, peek_exports, select
    from forensic_cli.model import load_models

    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        path.write_bytes(encode(picture(), "PNG"))

    def found_and_lost() -> Any:
        yield paths[0]
        paths[1].unlink()
        yield from paths[1:]

    models = load_models(select(peek_exports(export_files(toy_exports)), ["baseline"], None), "cpu")
    rows = list(scan(found_and_lost(), models, ScanSettings(workers=1)))
    assert [(row.path, row.status, row.reason) for row in rows] == [
        (str(paths[0]), "ok", None),
        (str(paths[1]), "missing", "the file is gone"),
        (str(paths[2]), "ok", None),
    ]


def test_a_file_that_never_stops_growing_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log.png"
    path.write_bytes(encode(picture(), "PNG") + bytes(50 << 20))
    with growing(path):  # on a busy machine the writer may get no turn during one reading
        found = [prepare(path, Reading((PREPROCESSING,))).failure for _ in range(20)]
    assert {failure.status for failure in found if failure} == {"changed"}
    assert prepare(path, Reading((PREPROCESSING,))).failure is None


def test_a_pipe_that_took_a_files_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    program = (
        "import sys\nfrom pathlib import Path\nfrom forensic_cli.pipeline import read_file\n"
        "print(read_file(Path(sys.argv[1])).reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"],
        capture_output=True,
        encoding="utf-8",
        env=child_environment(),
        timeout=30,
        check=True,
    )
    assert done.stdout == "not a regular file (any more)\n"


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    """Four at once would take four times the memory of one, 430 MB; the results of the others may still be there."""
    path = tmp_path / "bomb.png"
    Image.new("L", (7750, 7750)).save(path)
    program = (
        "import re, sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
        "from forensic_cli.images.decode import decode\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(*pool.map(lambda _: type(decode(data)).__name__, range(4)))\n"
        # Not ru_maxrss, which begins with the size of the process that started this one
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, env=child_environment(), check=True
    )
    kinds, megabytes = done.stdout.splitlines()
    assert kinds == " ".join(["Decoded"] * 4)
    assert int(megabytes) < 1500


def assert_sound(found: Prepared) -> None:
    assert set(found.warnings) <= set(WARNINGS)
    if found.failure is not None:
        assert found.failure.status in STATUSES
        assert found.failure.reason
        assert found.failure.reason.isprintable()
        assert found.sample is None
    else:
        assert found.header is not None
        assert found.header.width * found.header.height <= FEWEST_PIXELS
        assert found.sample is not None
        assert found.sample.views[0].dtype == np.uint8
        assert found.sample.views[0].shape[1:] == (PREPROCESSING.size, PREPROCESSING.size, 3)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3),
    st.sampled_from(["", *sorted(SEEDS)]),
    st.integers(0, 1 << 32),
)
def test_damage_of_any_kind_gives_views_or_a_reason(kind: str, steps: list[Any], other: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = SEEDS[kind]
    for step in steps:
        data = step(data, rng) if data else data
    data = splice(data, SEEDS[other], rng) if other else data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.png"
        path.write_bytes(data)
        assert_sound(prepare(path, Reading((PREPROCESSING,), max_pixels=FEWEST_PIXELS)))


def test_the_seeds_of_the_fuzzing_are_pictures() -> None:
    """Mutants of what is refused anyway would test nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in SEEDS.items():
            path = Path(folder) / name
            path.write_bytes(data)
            failure = prepare(path, Reading((PREPROCESSING,), max_pixels=MAX_PIXELS)).failure
            assert (failure is None) == (name != "tga"), failure


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_lack_of_memory_is_said_and_not_taken_for_damage(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    Image.new("L", (12_000, 12_000)).save(path, kind)
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom forensic_cli.images.decode import decode\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), -1))\n"
        "answer = decode(data)\n"
        "print(answer.status, answer.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, env=child_environment(), check=False
    )
    assert (done.returncode, done.stdout) == (
        0,
        "unreadable 12000 x 12000 pixels are too many for this machine's memory\n",
    )
