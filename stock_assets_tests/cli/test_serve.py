"""What `stock-assets run` makes, and in which order."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from stock_assets.cli import backfill, runs, serve
from stock_assets.definitions import comparison
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.evening import Work
from stock_assets.settings import read_settings
from stock_assets_tests.cli.test_backfill import WITH_REFERENCES


class Client:
    """A server without an open backfill."""

    url = "http://127.0.0.1:3000"

    def open_backfill(self) -> None:
        return None


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What happens in turn: why and what is made, and the summary."""
    steps: list[object] = []

    @contextmanager
    def nothing_made() -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance

    monkeypatch.setattr(dg.DagsterInstance, "get", nothing_made)
    monkeypatch.setattr(serve, "load_definitions", dg.Definitions)
    monkeypatch.setattr(comparison, "upstream_of", lambda _: {})
    monkeypatch.setattr(serve, "summarise", lambda *_: steps.append("summary"))
    monkeypatch.setattr(backfill, "partition_keys", lambda *_: WITH_REFERENCES)

    def make(_: Client, works: Sequence[Work], targets: Mapping[str, object], *__: object, **___: object) -> None:
        assert sorted(asset for work in works for asset in work.assets) == sorted(targets)
        steps.extend((works[0].reason, list(targets)))

    monkeypatch.setattr(runs, "make_in_turn", make)
    return steps


def session(folder: Path, said: io.StringIO) -> serve.Session:
    console = Console(file=said, width=200)
    return serve.Session(read_settings(data_dir=folder), Client(), console, console, "http://127.0.0.1:8000")  # pyright: ignore[reportArgumentType]


def test_the_score_is_shown_before_the_references_are_made(tmp_path: Path, steps: list[object]):
    serve.make_and_show(session(tmp_path, io.StringIO()), 0.0)
    later = [
        "trained_references",
        "reference_predictions",
        "leakage_audit",
        "evaluation_report",
        "backtest",
        "tear_sheet",
    ]
    first = [asset for asset in WITH_REFERENCES if asset == "evaluation_report" or asset not in later]
    assert steps == [backfill.FIRST.reason, first, "summary", backfill.LATER.reason, later]


def test_a_session_that_closes_while_the_first_stage_works_is_in_neither(
    tmp_path: Path, steps: list[object], monkeypatch: pytest.MonkeyPatch
):
    """Its bars come with its evening, which waits for the first stage: the references of it would miss them."""
    asked: list[datetime] = []
    monkeypatch.setattr(backfill, "partition_keys", lambda _, now: asked.append(now) or WITH_REFERENCES)
    serve.make_and_show(session(tmp_path, io.StringIO()), 0.0)
    assert len(steps) == 5
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_where_the_first_stage_fails_the_references_wait(tmp_path: Path, steps: list[object], monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise StockAssetsError("raw_ohlcv: no bar")

    monkeypatch.setattr(runs, "make_in_turn", fails)
    said = io.StringIO()
    serve.make_and_show(session(tmp_path, said), 0.0)
    assert steps == ["summary"]
    assert "not complete: raw_ohlcv: no bar" in said.getvalue()


def test_a_data_folder_that_others_can_read_is_one_line_with_the_way_out(tmp_path: Path):
    said = io.StringIO()
    console = Console(file=said, width=200)
    tmp_path.chmod(0o700)
    serve.warn_of_open_folder(tmp_path, console)
    assert not said.getvalue()
    tmp_path.chmod(0o755)
    serve.warn_of_open_folder(tmp_path, console)
    assert f"can look into {tmp_path} (mode 755); chmod -R go= {tmp_path} ends that" in said.getvalue()
    assert said.getvalue().count("\n") == 1
