"""Inputs of a long range lie in files that are mapped into memory, and are those of a range that fits."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.memory import Memory
from stock_assets.model import market_rows, targets
from stock_assets.model.history import History
from stock_assets.model.lesson import Lesson
from stock_assets.model.materialize.inputs import StoredInputs, inputs_for, inputs_through
from stock_assets.model.targets import volatility_ahead
from stock_assets.storage import ranges
from stock_assets.storage.panels import mapped
from stock_assets_tests.model.store import small_settings, small_store

CUTOFF = date(2018, 12, 31)
FRAMES = ("features", "components", "known_labels", "suspects")


def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every range is long: blocks hold the rows of about two tickers, or of a quarter; joins those of one."""
    monkeypatch.setattr(ranges, "AT_ONCE", 0)
    monkeypatch.setattr(Memory, "at_once", 0)
    monkeypatch.setattr(Memory, "block", 1 << 18)
    monkeypatch.setattr(market_rows, "IN_MEMORY", 0)
    monkeypatch.setattr(market_rows, "JOINED_ROWS", 1)
    monkeypatch.setattr(targets, "_ROWS", 1)


def frames(inputs: StoredInputs) -> dict[str, pl.DataFrame]:
    labels, left_out = inputs.labels_at(CUTOFF)
    assert left_out or labels.height
    found = {name: getattr(inputs, name).sort(KEYS) for name in FRAMES}
    lesson = Lesson(inputs, labels, CUTOFF, 0, 7)  # pyright: ignore[reportArgumentType]: its properties are cached
    history = History.of(lesson, tuple(inputs.features.columns[2:]))
    market = history.market
    of_market = {"values": market.values, "trusted": market.trusted, "targets": history.targets, "is": history.labels}
    found |= {name: pl.DataFrame(np.array(values)) for name, values in of_market.items()}
    return found | {"labels": labels, "market": market.keys}


@pytest.mark.parametrize("members", [True, False])
def test_inputs_in_files_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: bool):
    config = small_settings(tmp_path, members_only=members)
    store, sessions = small_store(config), calendar_of(config).between(date(2018, 3, 1), date(2018, 5, 31))

    def both() -> tuple[StoredInputs, StoredInputs, StoredInputs]:
        evening = inputs_for(store, config, sessions, needed_by="predictions")
        return inputs_through(store, config, CUTOFF, needed_by="trained_rnn"), evening, evening.of(sessions[-9:])

    in_memory = [frames(inputs) for inputs in both()]
    in_files(monkeypatch)
    of_files = both()
    for inputs, expected in zip(of_files, in_memory, strict=True):
        for name, rows in frames(inputs).items():
            assert_frame_equal(rows, expected[name])
    assert of_files[0].features.n_chunks() > 1
    assert list(tmp_path.rglob("*.arrow")) == []
    assert list((tmp_path / ".tmp-blocks").iterdir()) == []


def test_a_mapped_frame_leaves_no_file_where_its_rows_fail(tmp_path: Path):
    def parts():
        yield pl.DataFrame({"a": [1.0]})
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        mapped(tmp_path / "store.duckdb", parts())
    assert list(tmp_path.rglob("*.arrow")) == []


def test_volatility_ahead_of_many_rows_is_that_of_each_ticker(monkeypatch: pytest.MonkeyPatch):
    days = pl.date_range(date(2020, 1, 1), date(2020, 1, 20), eager=True)
    rows = pl.concat(
        pl.DataFrame({"ticker": ticker, "session": days}).with_columns(
            vol_total_1=-3 + pl.int_range(pl.len()) / (10 + place),
            log_return_1=(pl.int_range(pl.len()) * (7 + place) % 5 - 2) / 100,
        )
        for place, ticker in enumerate("ABC")
    )
    at_once = volatility_ahead(rows, 4)
    monkeypatch.setattr("stock_assets.model.targets._ROWS", 1)
    assert_frame_equal(volatility_ahead(rows, 4), at_once)
