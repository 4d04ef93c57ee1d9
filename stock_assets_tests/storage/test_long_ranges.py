"""A long range that is killed in any of its phases leaves the rows before, and the next one removes its files; what
does not fit into memory is one clear error."""

import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import MemoryBudgetError, SettingsError
from stock_assets.features.materialize import make_indicators
from stock_assets.market.calendar import calendar_of
from stock_assets.memory import SMALLEST, Memory
from stock_assets.settings import read_settings
from stock_assets.storage import changes, ranges, warehouse
from stock_assets.storage.changes import ROW_GROUP, whole_row_groups
from stock_assets.storage.scratch import scratch
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.features.stores import bars_of, small_settings, store_of
from stock_assets_tests.tables import rows_of
from stock_assets_tests.waiting import HANG_SECONDS

#: The calls after which a range is killed: its table is split by ticker, the indicators of a group are kept, a block of
#: sessions was inserted, and all were.
PHASES = {
    "split": ("scratch.Scratch.add", 2),
    "computed": ("scratch.Scratch.block", 3),
    "inserted": ("warehouse.change_table", 2),
    "recorded": ("warehouse.record_partitions", 1),
}
#: Makes a range of a copy of the store in a process each, which is killed after a call of its phase.
KILLER = """
import os, signal, sys
from pathlib import Path
from stock_assets.features.materialize import make_indicators
from stock_assets.market.calendar import calendar_of
from stock_assets.memory import Memory
from stock_assets.storage import ranges, scratch, warehouse
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.features.stores import small_settings
from stock_assets_tests.storage.test_long_ranges import PHASES, in_blocks

def kill_after(place, count):
    module, *owner, name = place.split(".")
    owner = getattr(globals()[module], owner[0]) if owner else globals()[module]
    function, calls = getattr(owner, name), []
    def counted(*arguments, **named):
        answer = function(*arguments, **named)
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(owner, name, counted)

for phase, (place, count) in PHASES.items():
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(phase, child, os.WIFSIGNALED(status))
        continue
    config = small_settings(Path(sys.argv[1], phase))
    in_blocks(setattr)
    kill_after(place, count)
    make_indicators(Warehouse(config.database), config, calendar_of(config).sessions[60:])
    os._exit(0)
"""


def in_blocks(set_attribute) -> None:
    """Every range is long; a block holds the rows of about half a quarter, and an insert those of some days."""
    set_attribute(ranges, "AT_ONCE", 0)
    set_attribute(Memory, "at_once", 0)
    set_attribute(Memory, "block", 100 * 8 * 29)
    set_attribute(sys.modules["stock_assets.storage.changes"], "ROW_GROUP", 40)


def test_a_kill_leaves_the_rows_before_and_no_file_for_longer_than_the_next_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small_settings(tmp_path / "first")
    days = calendar_of(config).sessions
    store = store_of(config, bars_of(days, {"A": [], "B": [100, 101, 120], "C": range(60)}))
    make_indicators(store, config, days)
    rows = store.read("indicators").sort("session", "ticker")
    changed = store.read("daily_bars").with_columns(pl.col("close") * 2)
    store.replace_table("daily_bars", changed)
    for phase in PHASES:
        shutil.copytree(tmp_path / "first", tmp_path / phase)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, tmp_path], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    in_blocks(monkeypatch.setattr)
    for line in done.stdout.splitlines():
        phase, process, killed = line.split()
        assert killed == "True", phase
        own = small_settings(tmp_path / phase)
        folder, kept = own.data_dir / ".tmp-blocks", Warehouse(own.database)
        assert {path.name.partition("-")[0] for path in folder.iterdir()} == {process}
        assert_frame_equal(kept.read("indicators").sort("session", "ticker"), rows)
        make_indicators(kept, own, days[60:])
        assert list(folder.iterdir()) == []
        again = kept.read("indicators").filter(pl.col("session") >= days[60])
        assert again["ma_5"].sum() == pytest.approx(2 * rows.filter(pl.col("session") >= days[60])["ma_5"].sum())
    assert len(done.stdout.splitlines()) == len(PHASES)


def test_a_short_range_of_a_wide_market_is_long_where_it_exceeds_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions[:5]
    store = store_of(config, bars_of(days, {ticker: [] for ticker in "ABCD"}))
    for size, long in ((20 * 8 * 25, False), (20 * 8 * 25 - 1, True)):
        monkeypatch.setattr(Memory, "at_once", size)
        assert ranges.too_long(store, "daily_bars", days, columns=25) is long
        assert not ranges.too_long(store, "daily_bars", days[-1:], columns=25 * 5)


def test_rows_of_a_block_are_freed_before_the_last_one_is_inserted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    in_blocks(monkeypatch.setattr)
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions
    store = store_of(config, bars_of(days[:1], {"A": []}))
    inserted, alive = list[weakref.ref](), list[int]()

    def noted(*arguments, **named) -> None:
        inserted.append(weakref.ref(arguments[-1]))
        changes.change_table(*arguments, **named)

    def blocks() -> Iterator[pl.DataFrame]:
        for number in range(4):
            alive.append(sum(reference() is not None for reference in inserted))
            yield bars_of(days[40 * number :][:40], {"A": []})

    monkeypatch.setattr(warehouse, "change_table", noted)
    store.write_in_blocks(ranges.in_the_place_of("daily_bars", days), blocks())
    assert store.read("daily_bars").height == 160
    assert len(inserted) == 5
    assert max(alive) <= 1


def test_files_of_a_process_that_runs_stay(tmp_path: Path):
    store = tmp_path / "store.duckdb"
    with scratch(store, [["A"]], by="ticker") as first, scratch(store, [["A"]], by="ticker") as second:
        rows = pl.DataFrame({"ticker": ["A"], "session": [date(2024, 1, 2)]})
        first.add(rows)
        second.add(rows.with_columns(session=date(2024, 1, 3)))
        assert first.block(0)["session"].item() == date(2024, 1, 2)
        assert second.block(0)["session"].item() == date(2024, 1, 3)
    assert list((tmp_path / ".tmp-blocks").iterdir()) == []


def test_rows_of_blocks_come_back_in_order_whichever_order_they_were_added_in(tmp_path: Path):
    days = pl.date_range(date(2024, 1, 1), date(2024, 1, 9), eager=True)
    rows = pl.DataFrame({"session": days}).join(pl.DataFrame({"ticker": ["B", "A", "Ä", "C"]}), how="cross")
    blocks = [days[:4].to_list(), days[4:5].to_list(), days[5:].to_list()]
    with scratch(tmp_path / "store.duckdb", blocks) as kept:
        for ticker in ("C", "A", "Ä", "B"):
            kept.add(rows.filter(pl.col("ticker") == ticker).sample(fraction=1.0, shuffle=True, seed=3))
        found = pl.concat([kept.read(days[0], days[5], keep=True), kept.read(days[6], days[-1])])
    assert_frame_equal(found, rows.select("session", "ticker").sort("session", "ticker"))


def test_inserts_end_with_a_row_group():
    blocks = [pl.DataFrame({"a": range(size)}) for size in (5, 0, ROW_GROUP, 2 * ROW_GROUP + 1, 1)]
    frames = list(whole_row_groups(blocks))
    assert [frame.height % ROW_GROUP for frame in frames[:-1]] == [0] * (len(frames) - 1)
    assert_frame_equal(pl.concat(frames), pl.concat(blocks))
    assert list(whole_row_groups([])) == []


def test_what_duckdb_cannot_do_in_its_part_of_the_memory_is_one_error_that_names_the_setting(tmp_path: Path):
    store = Warehouse(tmp_path / "store.duckdb", memory=Memory(128 << 20))
    store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": ["A"]})))
    expected = r"store.duckdb needs more than the 32 MiB .* a quarter of STOCK_ASSETS_MEMORY=128MiB .*expected a larger"
    with pytest.raises(MemoryBudgetError, match=expected):
        store.read_sql("universe", "SELECT list(range) FROM range(20000000)")
    assert Warehouse(store.path).read("universe")["ticker"].to_list() == ["A"]


def test_the_memory_is_a_setting_that_is_checked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_MEMORY", "16GiB")
    assert read_settings().memory_budget == Memory(16 << 30)
    for wrong in ("100MB", str(SMALLEST - 1), "much"):
        monkeypatch.setenv("STOCK_ASSETS_MEMORY", wrong)
        with pytest.raises(SettingsError, match=rf"STOCK_ASSETS_MEMORY.*{wrong}.*expected how much memory"):
            read_settings()
