"""The script that tries out a GPU, on the CPU: every part of it runs and prints its table."""

import subprocess
import sys

from toys import ROOT, child_environment


def test_the_gpu_check_runs_on_the_cpu() -> None:
    script = ROOT / "tests" / "benchmarks" / "gpu_check.py"
    done = subprocess.run(
        [sys.executable, str(script), "--cpu"],
        capture_output=True,
        encoding="utf-8",
        env=child_environment(OMP_NUM_THREADS="1"),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "## Training, batches of 4",
        "| adversarial | bf16-mixed | cpu | ",
        "## Scan of PNG images of 64 pixels",
        "| float16 | cpu | 32 | ",
        "All checks passed.",
    ):
        assert line in done.stdout
