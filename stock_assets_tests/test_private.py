"""What we borrow from inside Dagster is there, named in one file, and missed loudly."""

import ast
import runpy
import sys
import types
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import pytest
from dagster._core import events as dagster_events
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from stock_assets.errors import PrivateApiError
from stock_assets.private import dagster as borrowed

FILE = Path(borrowed.__file__)
PACKAGE = FILE.parent.parent


@pytest.mark.parametrize("name", sorted(borrowed.BORROWED))
def test_every_borrowed_symbol_is_there(name: str):
    assert getattr(borrowed, name) is getattr(import_module(borrowed.BORROWED[name].module), name)


def test_the_symbols_were_tried_with_the_pinned_version():
    assert version("dagster") == borrowed.TRIED_WITH
    assert f"dagster=={borrowed.TRIED_WITH}" in (PACKAGE.parent / "constraints.txt").read_text().splitlines()


def test_a_type_checker_sees_each_symbol_where_it_is_looked_up():
    seen = {
        alias.name: node.module
        for node in ast.walk(ast.parse(FILE.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dagster._")
        for alias in node.names
    }
    assert seen == {name: symbol.module for name, symbol in borrowed.BORROWED.items()}
    assert set(borrowed.__all__) > set(seen)


@pytest.mark.parametrize("path", sorted(set(PACKAGE.rglob("*.py")) - {FILE}), ids=lambda path: path.stem)
def test_no_other_file_reaches_into_dagster(path: Path):
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not [name for name in imported if name.startswith("dagster._")]


def fresh() -> types.SimpleNamespace:
    """The file as a new process reads it, without what was looked up before."""
    return types.SimpleNamespace(**runpy.run_path(str(FILE), run_name=borrowed.__name__))


def test_a_renamed_symbol_is_one_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(dagster_events, "BATCH_WRITABLE_EVENTS")
    with pytest.raises(PrivateApiError, match=r"has no dagster\._core\.events\.BATCH_WRITABLE_EVENTS") as caught:
        fresh().__getattr__("BATCH_WRITABLE_EVENTS")
    assert f"pip install 'dagster=={borrowed.TRIED_WITH}'" in str(caught.value)
    assert "out of dagster.yaml" in str(caught.value)


def test_a_storage_without_a_member_that_we_override_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(SqliteEventLogStorage, "_initdb")
    with pytest.raises(PrivateApiError, match=r"sqlite_event_log\.SqliteEventLogStorage\._initdb"):
        fresh().__getattr__("SqliteEventLogStorage")


def test_the_import_of_a_file_that_needs_it_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(dagster_events, "BATCH_WRITABLE_EVENTS")
    monkeypatch.delitem(vars(borrowed), "BATCH_WRITABLE_EVENTS", raising=False)
    with pytest.raises(PrivateApiError, match="BATCH_WRITABLE_EVENTS"):
        runpy.run_path(str(PACKAGE / "storage" / "event_log.py"), run_name="event_log")


def test_a_daemon_without_the_constant_is_an_error_and_no_daemon_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, borrowed.CONTROLLER, raising=False)
    borrowed.set_backfill_interval(5)
    monkeypatch.setitem(sys.modules, borrowed.CONTROLLER, types.ModuleType("controller"))
    with pytest.raises(PrivateApiError, match="DEFAULT_DAEMON_INTERVAL_SECONDS"):
        borrowed.set_backfill_interval(5)


@pytest.fixture
def stock_days(monkeypatch: pytest.MonkeyPatch) -> type[dg.TimeWindowPartitionsDefinition]:
    """Dagster's sets of days as it makes them, and so again after the test, in which a method may be put there."""
    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, borrowed.FILTER_KEYS, None, raising=False)
    monkeypatch.delattr(dg.TimeWindowPartitionsDefinition, borrowed.FILTER_KEYS)
    return dg.TimeWindowPartitionsDefinition


@pytest.mark.parametrize("end_offset", [-3, 0, 2])
def test_many_keys_are_filtered_without_asking_for_each(
    end_offset: int, stock_days: type[dg.TimeWindowPartitionsDefinition], monkeypatch: pytest.MonkeyPatch
):
    days = dg.DailyPartitionsDefinition(
        datetime(2024, 1, 2), exclusions=["0 0 * * 0,6", datetime(2024, 7, 4)], end_offset=end_offset
    )
    asked = {f"2024-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 32)} | {"", "2024-1-3", "x"}
    with dg.partition_loading_context(datetime(2024, 10, 1, tzinfo=UTC)):
        expected = {key for key in asked if days.has_partition_key(key)}
        borrowed.filter_partitions_at_once()
        monkeypatch.setattr(stock_days, "has_partition_key", lambda *_: pytest.fail("a key was asked for alone"))
        assert days.filter_valid_partition_keys(asked) == expected
    assert len(expected) > 190
    assert "2024-07-04" not in expected


def test_where_dagster_filters_days_itself_its_way_stays(
    stock_days: type[dg.TimeWindowPartitionsDefinition], monkeypatch: pytest.MonkeyPatch
):
    own = dg.StaticPartitionsDefinition.filter_valid_partition_keys
    monkeypatch.setattr(stock_days, borrowed.FILTER_KEYS, own, raising=False)
    borrowed.filter_partitions_at_once()
    assert stock_days.filter_valid_partition_keys is own


@pytest.mark.usefixtures("stock_days")
def test_a_dagster_that_filters_no_keys_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(dg.PartitionsDefinition, borrowed.FILTER_KEYS)
    with pytest.raises(PrivateApiError, match=r"TimeWindowPartitionsDefinition\.filter_valid_partition_keys"):
        borrowed.filter_partitions_at_once()


def test_the_calendars_were_repaired_in_the_pinned_version():
    from stock_assets.private import exchange_calendars as repaired

    assert version("exchange_calendars") == repaired.TRIED_WITH
    assert f"exchange_calendars=={repaired.TRIED_WITH}" in (PACKAGE.parent / "constraints.txt").read_text().splitlines()


def test_a_calendar_library_without_what_is_repaired_is_an_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    from exchange_calendars.pandas_extensions import offsets

    from stock_assets.private import exchange_calendars as repaired

    monkeypatch.delattr(offsets, "OrthodoxEaster")
    with pytest.raises(PrivateApiError, match=r"pip install 'exchange_calendars==4\.13\.2'"):
        runpy.run_path(str(repaired.__file__))
