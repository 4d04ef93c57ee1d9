"""Finding what the vendor changed since the last look, and what of it has to be made again."""

from collections.abc import Iterable
from datetime import UTC, date, datetime

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.features.materialize import side_assets, side_groups
from stock_assets.frames import KEYS
from stock_assets.lifecycle.evening import State
from stock_assets.lifecycle.restatements import (
    Step,
    Watch,
    affected,
    affected_by_context,
    affected_by_side_rows,
    stale_bars,
    steps_of,
    steps_of_context,
    steps_of_side_rows,
)
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.context import changed_context_since, last_context_fetch
from stock_assets.market.renames import continued
from stock_assets.settings import Settings
from stock_assets.side_inputs.materialize import last_side_fetch, late_side_rows
from stock_assets.storage.warehouse import Warehouse

#: Bars and sessions that a message names before it counts the rest.
NAMED = 5


def watch_restatements(
    store: Warehouse,
    settings: Settings,
    state: State,
    *,
    watch: Watch | None,
) -> tuple[Watch | None, str]:
    """(the next watch, what was found): compares what was fetched since `watch` with what is stored.

    A watch whose steps are not done yet is returned as it is. The first look begins to watch and finds nothing. Without
    a bar, a prediction or a label there is nothing to watch.
    """
    groups = sorted(side_groups(settings), key=lambda group: group.lookback)  # of two that read one, the longer counts
    look_back = {name: group.lookback for group in groups for name in group.reads}
    last_predicted, last_labelled, newest = (
        state.predicted_through,
        state.labelled_through,
        last_fetch(store, look_back),
    )
    if newest is None or last_predicted is None or last_labelled is None:
        return None, "nothing is predicted or labelled yet, so nothing can be restated"
    if watch is None:
        return Watch(newest), f"what is fetched after {newest:%Y-%m-%d %H:%M} UTC is watched"
    if watch.steps:
        return watch, f"{len(watch.steps)} run(s) make again what was restated"
    calendar = calendar_of(settings)
    first_served = calendar.between(date(settings.model_start_year, 1, 1), date.max)[0]
    steps: list[Step] = []
    messages = []
    bars = changed_bars(store, watch.through, last_predicted)
    if not bars.is_empty():
        named_bars = ", ".join(f"{ticker} {session}" for ticker, session in bars.head(NAMED).rows())
        messages.append(f"{bars.height} bar(s) were restated: {named_bars}{', …' if bars.height > NAMED else ''}")
        affected_ranges = affected(
            calendar, bars, labels_around(store, bars), predicted_through=last_predicted, labelled_through=last_labelled
        )
        steps += steps_of(affected_ranges, first_served, side_assets(settings))
    sessions = sorted(changed_context_since(store, watch.through, last_predicted)["session"].unique())
    if span := affected_by_context(calendar, sessions, last_predicted):
        messages.append(f"the market context of {len(sessions)} session(s) from {sessions[0]} changed")
        steps += steps_of_context(span, first_served)
    for name, sessions_back in look_back.items():
        late_rows = late_side_rows(store, name, watch.through, last=last_predicted)
        if span := affected_by_side_rows(calendar, late_rows, last_predicted, look_back=sessions_back):
            messages.append(f"{late_rows.height} row(s) of {name} came late, the first of {span[0]}")
            steps += steps_of_side_rows(span, first_served)
    no_change = f"no stored bar was changed by what was fetched up to {newest:%Y-%m-%d %H:%M} UTC"
    return Watch(newest, tuple(steps)), "; ".join(messages) or no_change


def last_fetch(store: Warehouse, side_inputs: Iterable[str] = ()) -> datetime | None:
    """When the newest bar, market context or row of `side_inputs` was fetched; None before the first bar."""
    try:
        newest = store.read_sql("raw_ohlcv", "SELECT max(fetched_at) AS newest FROM raw_ohlcv")["newest"][0]
    except MissingTableError:
        return None
    others = (last_context_fetch(store), *(last_side_fetch(store, name) for name in side_inputs))
    return max(moment.astimezone(UTC) for moment in (newest, *others) if moment) if newest else None


def changed_bars(store: Warehouse, moment: datetime, last: date) -> pl.DataFrame:
    """ticker, session of the bars up to session `last` that what was fetched after `moment` contradicts."""
    raw = store.read_sql("raw_ohlcv", "SELECT * FROM raw_ohlcv WHERE fetched_at > ? AND session <= ?", [moment, last])
    if raw.is_empty():
        return raw.select(KEYS)
    bars = store.read("daily_bars", raw["session"].min(), raw["session"].max())  # pyright: ignore[reportArgumentType]
    return stale_bars(continued(raw, store.read("universe")), bars)


def labels_around(store: Warehouse, bars: pl.DataFrame) -> pl.DataFrame:
    """The labels of the tickers of `bars` whose horizon reaches its first session, and of all sessions after it."""
    rows = store.read_sql(
        "labels",
        "SELECT ticker, session, horizon_end FROM labels WHERE horizon_end >= ? AND session <= ?",
        [bars["session"].min(), bars["session"].max()],
    )
    return rows.join(bars.select("ticker").unique(), on="ticker", how="semi")
