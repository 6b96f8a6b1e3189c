"""The commands around training: parse, call one function, render.

`genforensic --help` lists them, so nothing heavy (torch, NumPy, OpenCV) is imported before a command runs.
"""

from typing import Literal, TypeAlias

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
"""What --device takes; auto is the GPU where one works."""
