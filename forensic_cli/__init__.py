"""genforensic: names the image generator behind a synthetic image.

From Python, `scan_files` judges images, `Scanner` keeps the models loaded between scans, and `read_results` reads what
`genforensic scan` wrote. Other names in this package may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forensic_cli.api import Scanner, scan_files
    from forensic_cli.discover import Search
    from forensic_cli.errors import GenforensicError
    from forensic_cli.record import FileResult, RunHeader, Verdict
    from forensic_cli.results_file import Results
    from forensic_cli.results_file import open_results as read_results

__version__ = "0.1.0"
__all__ = [
    "FileResult",
    "GenforensicError",
    "Results",
    "RunHeader",
    "Scanner",
    "Search",
    "Verdict",
    "read_results",
    "scan_files",
]

_PLACES = {
    **dict.fromkeys(("Scanner", "scan_files"), ("api", None)),
    "Search": ("discover", None),
    "GenforensicError": ("errors", None),
    **dict.fromkeys(("FileResult", "RunHeader", "Verdict"), ("record", None)),
    "Results": ("results_file", None),
    "read_results": ("results_file", "open_results"),
}
"""{public name: (module, its name there if it is another)}."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is used, so that `genforensic --help` loads nothing heavy."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _PLACES[name]
    return getattr(import_module(f"{__name__}.{module}"), original or name)
