"""Peak memory of a whole `genforensic scan` by the number of files in one folder.

usage: python tests/benchmarks/scan_memory.py IMAGE [--files 1000 10000 100000] [--technique NAME] [--exports DIR]

The folder holds copies of one image, each with another number behind its end, so that no two are the same file. What
grows with their number shows, what decoding costs does not: take a small image.
"""

import argparse
import tempfile
import time
from pathlib import Path

from scan_throughput import run_python, scan_command


def main() -> None:
    """Scan folders of several sizes and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--technique", default="discriminant")
    parser.add_argument("--exports", type=Path)
    options = parser.parse_args()
    peaks: list[float] = []
    data = options.image.read_bytes()
    for count in options.files:
        with tempfile.TemporaryDirectory() as folder:
            for i in range(count):
                path = Path(folder) / f"{i:07}{options.image.suffix}"
                path.write_bytes(data + i.to_bytes(8))
            started = time.monotonic()
            usage = run_python(scan_command(Path(folder), [options.technique], None, options.exports))
        peaks.append(usage.ru_maxrss / 1024)
        seconds = time.monotonic() - started
        print(f"{count} files: peak {peaks[-1]:.0f} MB, {peaks[-1] / peaks[0]:.2f} of the first; {seconds:.0f} s")


if __name__ == "__main__":
    main()
