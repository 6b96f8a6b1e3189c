"""Fixtures that any test may ask for: toy exports, toy images, and the command line in this process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toys import NOWHERE, make_images, write_toy_exports

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker a core: more threads would only wait for each other. Set before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a developer or a CI runner has set must not change what the tests see
_UNSET = ("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS")

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def toy_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four valid exports: native-baseline, -weighted, -finetune, -adversarial."""
    return write_toy_exports(tmp_path_factory.mktemp("toy") / "exports")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a fresh folder of five readable images; see toys.make_images."""
    return make_images(tmp_path / "images")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command line and returns exit_code, stdout and stderr."""
    from typer.testing import CliRunner

    from forensic_cli.main import app

    for name in (*_UNSET, *(name for name in os.environ if name.startswith("GENFORENSIC_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", NOWHERE)
    runner = CliRunner()

    def invoke(*arguments: Any, env: dict[str, str] | None = None) -> Any:
        environment = {
            "COLUMNS": "400",
            "TERMINAL_WIDTH": "400",
            "NO_COLOR": "1",
            "TERM": "dumb",
            **(env or {}),
        }
        result = runner.invoke(app, [str(argument) for argument in arguments], env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.stdout + result.stderr
        return result

    return invoke
