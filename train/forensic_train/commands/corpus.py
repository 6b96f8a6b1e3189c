"""`genforensic corpus`: the training images that a table of public repositories names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forensic_cli.commands import training_extra
from forensic_cli.console import note, stdout_console
from forensic_cli.table import Table

if TYPE_CHECKING:
    from forensic_train.corpus import Corpus

_GITHUB = "https://github.com/{repo}"


def corpus(
    sources: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCES.tsv",
            help="Tab separated, with the columns label, repo, commit, path_regex, cap, subject, source: "
            "train/sources.tsv.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CORPUS", help="The folder to build.")],
    cap: Annotated[
        int | None,
        typer.Option(min=1, help="Most files of each source; else its row's cap, or 60.", show_default=False),
    ] = None,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TEMPLATE",
            help="URL or path of a repository, with {repo} for owner/name, or {owner} and {name}.",
        ),
    ] = _GITHUB,
    only: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Build this label alone; repeat it for several.")
    ] = None,
) -> None:
    """Build the corpus of training images from public repositories, each at one commit, with git.

    Only the files that are taken are fetched, and written as they are to CORPUS/LABEL/REPOSITORY@COMMIT/. Unreadable
    and small files and near-duplicates are left out. CORPUS/manifest.csv, written last, names the images of this
    run; a label that begins with `unknown_` becomes the generator `unknown`. Give the command again to go on where
    it stopped: clones stay in CORPUS/.repositories, and no file is written that is there already.

    Examples:

        genforensic corpus train/sources.tsv --output corpus

        genforensic corpus train/sources.tsv --output corpus --only flux --only real --cap 20
    """
    with training_extra("corpus"):
        from forensic_train.corpus import CorpusOptions, build_corpus

        built = build_corpus(CorpusOptions(sources, output, origin, cap, tuple(only or ())))
    _print(built)


def _print(built: "Corpus") -> None:
    from forensic_train.corpus import counted

    rows: list[tuple[str, int, int]] = [(label, built.sources[label], count) for label, count in built.images.items()]
    rows.append(("total", sum(built.sources.values()), sum(built.images.values())))
    table = Table(str(built.manifest), ("label", "sources", "images"), rows, styles={len(rows) - 1: "bold"})
    stdout_console().print(table.rich())
    if built.left_out:
        note(f"Left out: {counted(built.left_out)}.")
    for line in built.missing:
        note(f"Missing: {line}", "yellow")
