"""Finds the exported models, and picks those that a scan wants."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from forensic_cli.card import ModelCard
from forensic_cli.console import note
from forensic_cli.errors import ModelError, UsageError
from forensic_cli.peek import Export

if TYPE_CHECKING:
    from forensic_cli.model import Model

ENVIRONMENT_VARIABLE = "GENFORENSIC_EXPORTS"
DEFAULT_TECHNIQUES = ("baseline", "discriminant")
"""What a scan uses unless told otherwise: the first of them that is there, by its answers on left-out sources."""
DEFAULT_RECIPE = "native"
ALL = "all"


def export_folders(option: Path | None) -> list[Path]:
    """Return the folders to look in, in order: --exports alone, GENFORENSIC_EXPORTS alone, else what ships.

    What ships: `exports` inside the installed package (a wheel), then `exports` beside it (a checkout).
    """
    if option is not None:
        return [option]
    if variable := os.environ.get(ENVIRONMENT_VARIABLE):
        return [Path(variable)]
    package = Path(__file__).resolve().parent
    return [package / "exports", package.parent / "exports"]


def export_files(option: Path | None) -> list[Path]:
    """Return the .onnx files of the first folder that has any. Raises ModelError when none has."""
    folders = export_folders(option)
    for folder in folders:
        if folder.is_file():
            raise UsageError(f"{folder}: --exports and {ENVIRONMENT_VARIABLE} take a folder of .onnx files, not a file")
        if files := sorted(folder.glob("*.onnx")):
            return files
    raise ModelError(
        f"no exports found in {' or '.join(str(folder) for folder in folders)}; "
        "train some with `genforensic train`, or name a folder of .onnx files with --exports"
    )


class Carded(Protocol):
    """What can be selected: an export, or a model that was made of one."""

    @property
    def card(self) -> ModelCard:
        """What the file says of itself."""

    @property
    def path(self) -> Path:
        """The file."""


T = TypeVar("T", bound=Carded)


def peek_exports(files: Sequence[Path]) -> list[Export]:
    """Read the cards of all files, without starting a session. A file that is no export is left out with a note.

    Raises ModelError where none is left.
    """
    found, errors = [], []
    for path in files:
        try:
            found += Export.peek(path)
        except ModelError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    for problem in errors:
        note(f"left out: {problem}", style="yellow")
    return found


def load_models(exports: Sequence[Export], device: str, threads: int = 1) -> list["Model"]:
    """Start a session for each file, and return the exports' models in their order.

    What does not run on the CPU is compared with it first. Raises ModelError where the two differ.
    """
    from forensic_cli.model import CPU, Model, check_against_cpu

    loaded = {path: Model.load_all(path, device, threads) for path in dict.fromkeys(one.path for one in exports)}
    for path, models in loaded.items():
        if models[0].provider != CPU:
            for model, reference in zip(models, Model.load_all(path, "cpu"), strict=True):
                check_against_cpu(model, reference)
    return [next(model for model in loaded[one.path] if model.card.technique == one.card.technique) for one in exports]


def select(models: Sequence[T], techniques: Sequence[str], recipe: str | None) -> list[T]:
    """Return the exports of the wanted techniques, in the order asked for, all of one recipe.

    No technique given: the default one, or the only one there is; `all` leaves out what was adapted. Raises UsageError
    for a name that no export has and for two exports that answer to one name.
    """
    recipes = sorted({model.card.recipe for model in models})
    if recipe is None:
        recipe = DEFAULT_RECIPE if DEFAULT_RECIPE in recipes else recipes[0]
    here = [model for model in models if model.card.recipe == recipe]
    if not here:
        raise UsageError(f"no export has recipe {recipe!r}; found: {', '.join(recipes)}")
    names = sorted({model.card.technique for model in here})
    if not techniques:
        techniques = [next((name for name in DEFAULT_TECHNIQUES if name in names), names[0])]
    elif ALL in techniques:
        # One that was adapted to a few sources is no equal judge of images from anywhere: it is asked for by its name
        adapted = {model.card.technique for model in here if "adapt" in model.card.training.get("splits", ())}
        techniques = [name for name in names if name not in adapted] or names
    return [_only(here, technique, names) for technique in dict.fromkeys(techniques)]


def _only(models: Sequence[T], technique: str, names: Sequence[str]) -> T:
    fitting = [model for model in models if model.card.technique == technique]
    if not fitting:
        raise UsageError(f"no export has technique {technique!r}; allowed: {', '.join(names)}, {ALL}")
    if len(fitting) > 1:
        files = ", ".join(model.path.name for model in fitting)
        raise UsageError(f"technique {technique!r} is in several exports ({files}); keep them in folders of their own")
    return fitting[0]


def check_labels(models: Sequence[Carded]) -> tuple[str, ...]:
    """Return the labels that all models share, in the first one's order. Raises ModelError with the difference."""
    first = models[0]
    for other in models[1:]:
        if set(other.card.labels) != set(first.card.labels):
            only_first = sorted(set(first.card.labels) - set(other.card.labels))
            only_other = sorted(set(other.card.labels) - set(first.card.labels))
            raise ModelError(
                f"{first.card.name} and {other.card.name} cannot be fused, their labels differ: "
                f"only the first has {', '.join(only_first) or 'none'}, "
                f"only the second has {', '.join(only_other) or 'none'}; scan with one technique at a time"
            )
    return first.card.labels
