"""A command line as a shell would give it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stock_assets.cli import commands as cli
from stock_assets.cli.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_process(own_process: None) -> None:
    """A command is a process, and here it is that of all tests."""


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(cli.out, "width", 200)
    return tmp_path


@pytest.fixture
def call(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:  # noqa: ARG001
    """(exit code, standard output, standard error) of a command line."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stock-assets", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


def one_line(text: str) -> bool:
    return text.startswith("stock-assets: ") and text.count("\n") == 1
