"""`genforensic corpus`: fetch the training images that a table of public repositories lists."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forensic_cli.console import note, stdout_console
from forensic_cli.tables import Table
from forensic_train.commands import training_extra

if TYPE_CHECKING:
    from forensic_train.corpus import Corpus

_GITHUB = "https://github.com/{repo}"


def corpus(
    sources: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCES.tsv",
            help="Tab-separated table with the columns label, repo, commit, path_regex, cap, subject, source, such as "
            "train/sources.tsv.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CORPUS", help="The folder to build.")],
    cap: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Greatest number of files from each source; default: the cap of its row, or 60.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TEMPLATE",
            help="URL or path of a repository, with {repo} in place of owner/name, or {owner} and {name}.",
        ),
    ] = _GITHUB,
    only: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Build only this label; can be repeated.")
    ] = None,
) -> None:
    """Build the corpus of training images from public repositories, each at a fixed commit, with git.

    Fetches only the files it needs, and writes them unchanged to CORPUS/LABEL/REPOSITORY@COMMIT/. Unreadable files,
    small files and near-duplicates are left out. CORPUS/manifest.csv, which is written last, lists the images of this
    run; labels that begin with `unknown_` become the generator `unknown`. Run the command again to continue after an
    interruption: clones stay in CORPUS/.repositories, and existing files are not written again.

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
