"""A side input from outside the package: one table, one source class, its entry and a group of features."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

import stock_assets
from stock_assets.definitions import build_definitions
from stock_assets.errors import SettingsError, TableError
from stock_assets.features.side_features import GROUPS, SideColumn, SideGroup, may_be_null, register_side_group
from stock_assets.features.stationary import STATIONARY
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import StoredInputs
from stock_assets.settings import Settings, read_settings
from stock_assets.side_inputs import registry, tables
from stock_assets.side_inputs.tables import side_table
from stock_assets.tables import TABLES, Column
from stock_assets_tests.features.stores import bars_of
from stock_assets_tests.tables import rows_of

EXTENSION = """
from datetime import datetime, timedelta

import polars as pl

from stock_assets.features.side_features import SideColumn, SideGroup, register_side_group
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.as_of import rows_by
from stock_assets.side_inputs.registry import SideInput, register_side_input
from stock_assets.side_inputs.tables import side_table
from stock_assets.tables import Column, declare

RUMOURS = declare(
    side_table(
        "toy_rumours", "a rumour", subject="the ticker", event="when it was heard",
        values=(Column("heat", pl.Float64(), "how hot it is"),),
    )
)


class Pub:
    name = "pub"

    def fetch(self, subjects, first, last, *, fetched_at):
        days = pl.date_range(first, last, "1w", eager=True)
        rows = pl.DataFrame({"subject": subjects}).join(pl.DataFrame({"day": days}), how="cross")
        at = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + timedelta(hours=15)
        rows = rows.with_columns(event_time=at, known_at=at, heat=pl.col("day").dt.ordinal_day().cast(pl.Float64))
        now = pl.lit(fetched_at).cast(pl.Datetime("us", "UTC"))
        rows = rows.filter(pl.col("known_at") <= now).with_columns(fetched_at=now, source=pl.lit(self.name))
        return SideAnswer(rows.drop("day"))


def heat(frames):
    bars = frames.bars.filter(pl.col("session").is_in(list(frames.sessions))).select("ticker", "session")
    newest = [
        rows_by(frames.rows["toy_rumours"], session).group_by("subject").agg(toy_heat=pl.col("heat").last())
        .with_columns(session=pl.lit(session))
        for session in frames.sessions
    ]
    return bars.join(pl.concat(newest).rename({"subject": "ticker"}), on=["ticker", "session"], how="left")


register_side_input(
    SideInput(
        table=RUMOURS, subjects="tickers", sources=lambda settings, say: [Pub()], text="rumours of the pub",
        missing=lambda settings: None,
    )
)
register_side_group(
    SideGroup(
        name="toy_rumours_group", reads=("toy_rumours",), columns={"toy_heat": SideColumn("heat", 0.0, 100.0)},
        compute=heat, lookback=0, in_model=True,
    )
)
"""


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings with the extension, whose registrations are gone after the test."""
    (tmp_path / "toy_rumours_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    registry.side_input("announcements")  # the default one registers itself once a process
    kept = [(each, each.copy()) for each in (GROUPS, TABLES, registry._SIDE_INPUTS, tables._NAMING, tables._VALUES)]
    folder = tmp_path / "data"
    yield read_settings(
        source="simulated",
        data_dir=folder,
        start=date(2018, 6, 1),
        end=date(2019, 1, 31),
        extensions="toy_rumours_extension",
        side_inputs="toy_rumours",
    )
    sys.modules.pop("toy_rumours_extension", None)
    for each, before in kept:
        each.clear()
        each.update(before)  # pyright: ignore[reportArgumentType, reportCallIssue]: its own copy


def filled(settings: Settings) -> tuple[stock_assets.Platform, tuple[date, ...]]:
    """A market of two tickers whose rumours and side features are made of all sessions in one go."""
    days = calendar_of(settings).sessions[:40]
    p = stock_assets.open(settings.data_dir, **settings.model_dump(include={"source", "start", "end"}),
                          extensions=settings.extensions, side_inputs=settings.side_inputs)  # fmt: skip
    store, keys = p.store, pl.DataFrame({"ticker": "A", "session": days})
    store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": ["A", "B"]})))
    store.append("raw_ohlcv", rows_of("raw_ohlcv", keys))
    store.append("daily_bars", bars_of(days, {"A": [], "B": [3]}))
    now = datetime(2019, 2, 1, tzinfo=UTC)
    p.materialize("toy_rumours", days[0], days[-1], now=now)
    p.materialize("side_features", days[0], days[-1], now=now)
    return p, days


def test_a_toy_is_fetched_made_into_features_and_read_by_models(extended: Settings):
    p, days = filled(extended)
    rows = p.table("side_features").sort("session", "ticker")
    assert rows.columns[-1] == "toy_heat"
    assert rows.height == 79
    # the newest rumour of a Friday afternoon: the day of the year at which it was heard, 100 at most
    assert rows.filter(pl.col("ticker") == "A")["toy_heat"].to_list()[:3] == [100.0] * 3
    of_others = rows.columns[2:-1]
    assert [rows[name].null_count() for name in of_others] == [79] * len(of_others)
    assert "toy_heat" in may_be_null()
    now = datetime(2019, 2, 1, tzinfo=UTC)
    for day in (days[0], days[7], days[-1]):
        p.materialize("side_features", day, day, now=now)
    assert p.table("side_features").sort("session", "ticker").equals(rows)
    for table in ("stationary_features", "pca_components"):
        p.store.append(table, rows_of(table, rows.select("ticker", "session")))
    inputs = StoredInputs(p.store, extended, first=days[0], last=days[-1])
    assert inputs.features.columns[2:] == [*STATIONARY, "toy_heat"]


def test_the_graph_has_its_asset_and_the_evening_makes_it(extended: Settings):
    stock_assets.open(extended.data_dir, extensions=extended.extensions)
    defs = build_definitions(extended)
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents["toy_rumours"] == {"universe"}
    assert parents["side_features"] == {"daily_bars", "toy_rumours"}
    assert "side_features" in parents["predictions"]
    evening = defs.resolve_sensor_def("evening").asset_selection
    assert evening is not None
    assert {"toy_rumours", "side_features"} <= {key.to_user_string() for key in evening.resolve(graph)}


def test_a_name_that_is_taken_is_refused(extended: Settings):
    stock_assets.open(extended.data_dir, extensions=extended.extensions)
    again = SideGroup(
        name="other",
        reads=(),
        columns={"toy_heat": SideColumn("", 0, 1)},
        compute=lambda frames: frames.bars,
        lookback=0,
        in_model=True,
    )
    with pytest.raises(TableError, match="toy_heat is a group or a column of features already"):
        register_side_group(again)
    with pytest.raises(TableError, match="toy: the column heat is a key of one side input and a value of another"):
        side_table("toy", "", subject="", event="", values=(Column("heat", pl.Float64(), ""),), keys=("heat",))
    wrong = read_settings(source="simulated", data_dir=extended.data_dir, side_inputs="nothing")
    with pytest.raises(SettingsError, match="STOCK_ASSETS_SIDE_INPUTS names 'nothing'; expected some of announcements"):
        build_definitions(wrong)
