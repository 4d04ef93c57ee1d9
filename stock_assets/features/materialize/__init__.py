"""The steps of the features room: load, compute, store.

Each step makes the rows of the asked sessions and puts them in the place of those that are stored, in one transaction.
It raises MissingSessionsError where rows that it is made from are not there.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from typing import NamedTuple

import polars as pl

from stock_assets.errors import BadBarsError, SettingsError
from stock_assets.features import components, stationary
from stock_assets.features.absent import Absent, absent_inputs
from stock_assets.features.announced import ANNOUNCED, BACK, announced_rows
from stock_assets.features.indicators import INDICATORS, classic_indicators
from stock_assets.features.labels import barrier_labels, late_labels
from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.features.market_context import LOOKBACK as CONTEXT_LOOKBACK
from stock_assets.features.market_context import context_features, context_gaps
from stock_assets.features.materialize import blocks
from stock_assets.features.side_features import (
    GROUPS,
    SIDE_FEATURES,
    SideFrames,
    SideGroup,
    SideRange,
    computed,
    side_columns,
)
from stock_assets.features.tables import LABELS
from stock_assets.frames import KEYS, RowSummary
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.context import read_context
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs.lags import known_lags
from stock_assets.side_inputs.materialize import read_side_input
from stock_assets.side_inputs.registry import chosen_side_inputs, side_input
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.tables import ANNOUNCEMENTS
from stock_assets.storage.ranges import too_long
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES

#: The tables below pca_model and pca_components, in the order they are made.
MADE_BEFORE_PCA = ("raw_ohlcv", "daily_bars", "stationary_features")
#: Sessions whose labels show how frequent each class is: a year.
LABEL_WINDOW = 252
#: Sessions of the sample chart.
CHART_SESSIONS = 90
#: About how many rows the explained variance is computed on: a tenth of a million rows shows it as well as all do.
_SAMPLE_ROWS = 100_000

_BARS = ("raw_ohlcv", "daily_bars")
_NO_KEYS = pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date})


class MadeIndicators(NamedTuple):
    """The rows of `indicators` that were stored."""

    rows: pl.DataFrame | RowSummary


class MadeFeatures(NamedTuple):
    """The rows of `stationary_features` that were stored."""

    rows: pl.DataFrame | RowSummary
    without_context: pl.DataFrame
    """session, columns (str): the columns of the market context that a session lacks though their series has begun"""
    absent: list[Absent]
    """what models lack"""


class MadeSideFeatures(NamedTuple):
    """The rows of `side_features` that were stored."""

    rows: pl.DataFrame | RowSummary
    groups: Sequence[SideGroup]
    """those that were computed; the columns of the others are null"""


class MadeLabels(NamedTuple):
    """The rows of `labels` that were stored."""

    rows: pl.DataFrame | RowSummary
    """those of the asked sessions"""
    late: pl.DataFrame
    """those of other sessions, whose tickers had skipped a session within the horizon"""
    recent: pl.DataFrame
    """label of the LABEL_WINDOW sessions that end at the last of the asked ones"""


class MadeComponents(NamedTuple):
    """The rows of `pca_components` that were stored."""

    rows: pl.DataFrame | RowSummary
    model: components.PcaModel
    explained: float | None
    """the share of the variance of these sessions that the components hold; None where no row has features yet"""


class SampleChart(NamedTuple):
    """The bars of one ticker on one price basis, sorted by session."""

    ticker: str
    bars: pl.DataFrame
    """rows of `daily_bars`, and, where these tables exist, ma_25, bb_upper_25 and bb_lower_25, and label"""


def make_indicators(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeIndicators:
    """Makes `indicators` of `sessions` (ascending)."""
    if too_long(store, "daily_bars", sessions, columns=len(INDICATORS)):
        read_sessions = _read_sessions(store, settings, sessions, needed_by="indicators")
        return MadeIndicators(blocks.indicators_in_blocks(store, sessions, read_sessions))
    bars, read_sessions = _bars_with_lookback(store, settings, sessions, needed_by="indicators", columns=["close"])
    rows = _rows_of(sessions, classic_indicators(bars, sessions[0], read_sessions))
    store.replace_sessions("indicators", sessions, rows)
    return MadeIndicators(rows)


def make_stationary_features(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeFeatures:
    """Makes `stationary_features` of `sessions` (ascending)."""
    context, begins = _market_context(store, settings, sessions)
    if too_long(store, "daily_bars", sessions, columns=len(stationary.STATIONARY)):
        read_sessions = _read_sessions(store, settings, sessions, needed_by="stationary_features")
        summary = blocks.stationary_features_in_blocks(store, sessions, read_sessions, context=context)
        return MadeFeatures(summary, context_gaps(context, begins, sessions), absent_of(store, settings))
    bars, read_sessions = _bars_with_lookback(
        store, settings, sessions, needed_by="stationary_features", columns=stationary.BAR_COLUMNS
    )
    features = stationary.stationary_features(bars, sessions[0], read_sessions)
    rows = _rows_of(sessions, features.join(context, on="session", how="left", maintain_order="left"))
    store.replace_sessions("stationary_features", sessions, rows)
    return MadeFeatures(rows, context_gaps(context, begins, sessions), absent_of(store, settings))


def side_groups(settings: Settings) -> list[SideGroup]:
    """The groups that models read and whose side inputs are all on."""
    table_names = {entry.table.name for entry in chosen_side_inputs(settings)}
    return [group for group in GROUPS.values() if group.in_model and table_names.issuperset(group.reads)]


def side_assets(settings: Settings) -> tuple[str, ...]:
    """The tables of the side inputs that are on, and `side_features` where a model reads one of them."""
    names = (entry.table.name for entry in chosen_side_inputs(settings))
    return (*names, *feature_tables(settings)[1:])


def absent_of(store: Warehouse, settings: Settings) -> list[Absent]:
    """What the models lack of what is known to help, by what `store` holds."""
    rows_of_tables = store.read_each(
        {
            "series": "SELECT DISTINCT series FROM market.context_series",
            "announced": "SELECT subject FROM side_inputs.announcements LIMIT 1",
        }
    )
    series, announcement_rows = rows_of_tables["series"], rows_of_tables["announced"]
    return absent_inputs(
        settings,
        series=() if series is None else series["series"].to_list(),
        announced=announcement_rows is not None and announcement_rows.height > 0,
        no_source=side_input(ANNOUNCEMENTS.name).missing(settings),
    )


def announced_of(store: Warehouse, settings: Settings, session: date) -> pl.DataFrame:
    """`ANNOUNCED` as of the close of `session`; no row without announcements."""
    rows = read_side_input(store, ANNOUNCEMENTS.name, last=session)
    if rows.is_empty():
        return pl.DataFrame(schema=ANNOUNCED)
    moves = store.read_sql(
        "daily_bars",
        """SELECT ticker, session, total_return, total_return - avg(greatest(-0.2, least(0.2, total_return))) FILTER
        (suspect IS NULL) OVER (PARTITION BY session) AS residual_return
        FROM market.daily_bars WHERE session BETWEEN ? AND ?""",
        [session - BACK, session],
    )
    return announced_rows(schedule_of(rows, calendar_of(settings), session - 2 * BACK), moves, session)


def lags_of(store: Warehouse) -> pl.DataFrame:
    """`LAGS` of every version that every side input holds."""
    columns = {
        table.name: f'SELECT event_time, known_at FROM side_inputs."{table.name}"'
        for table in TABLES.values()
        if table.room == "side_inputs"
    }
    return known_lags({name: rows for name, rows in store.read_each(columns).items() if rows is not None})


def feature_tables(settings: Settings) -> list[str]:
    """The tables whose columns models read."""
    return ["stationary_features", *([SIDE_FEATURES] if side_groups(settings) else [])]


def make_side_features(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeSideFeatures:
    """Makes `side_features` of `sessions` (ascending). Raises SettingsError where no side input is on that models
    read."""
    groups, calendar = side_groups(settings), calendar_of(settings)
    if not groups:
        raise SettingsError(f"{PREFIX}SIDE_INPUTS turns on nothing that models read; expected such as announcements")
    lookback = calendar.before(sessions[0], max(group.lookback for group in groups))
    names = sorted({name for group in groups for name in group.reads})
    store.require(_BARS, [*lookback, *sessions], SIDE_FEATURES, why="look-back")
    store.require(names, sessions, SIDE_FEATURES)
    rows = {name: read_side_input(store, name, last=sessions[-1], required=True) for name in names}
    if too_long(store, "daily_bars", sessions, columns=len(side_columns())):
        tickers = store.rows_by("daily_bars", "ticker", (*lookback, sessions[0])[0], last=sessions[-1])
        side_range = SideRange(rows, sessions, calendar, list(tickers), folder=None)
        summary = RowSummary(side_columns(), may_be_null=True)
        side_rows = partial(_side_rows, store, calendar=calendar, rows=rows)
        blocks.side_features_in_blocks(store, groups, side_range, summary=summary, compute=side_rows)
        return MadeSideFeatures(summary, groups)
    side_rows = _side_rows(store, groups, sessions, calendar=calendar, rows=rows)
    missing_columns = [name for name in side_columns() if name not in side_rows.columns]
    side_rows = side_rows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in missing_columns)
    store.replace_sessions(SIDE_FEATURES, sessions, side_rows)
    return MadeSideFeatures(side_rows, groups)


def _side_rows(
    store: Warehouse,
    groups: Sequence[SideGroup],
    sessions: Sequence[date],
    *,
    calendar: TradingCalendar,
    rows: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """The columns of `groups` of the bars of `sessions`, from the `rows` of each side input."""
    lookback = calendar.before(sessions[0], max(group.lookback for group in groups))
    columns = None
    if all(group.bar_columns is not None for group in groups):
        columns = [*KEYS, *sorted({name for group in groups for name in group.bar_columns or ()})]
    bars = store.read("daily_bars", (*lookback, sessions[0])[0], sessions[-1], columns=columns)
    side_rows = _rows_of(sessions, bars).select(KEYS).sort("session", "ticker")
    for group in groups:
        known_rows = {name: rows[name].filter(pl.col("session") <= sessions[-1]) for name in group.reads}
        columns_of_group = computed(group, SideFrames(bars, known_rows, sessions, calendar))
        side_rows = side_rows.join(columns_of_group, on=KEYS, how="left", maintain_order="left")
    return side_rows


def make_labels(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeLabels:
    """Makes `labels` of `sessions` (ascending), and those of earlier ones that the bars of today complete.

    A ticker that skips a session has its label later than the others, when the session is made already. So rows do not
    depend on how many sessions a run makes: after it the store holds every label of the sessions made so far that the
    stored bars allow. Rows that are stored already stay as they are outside `sessions`.
    """
    calendar, rule = calendar_of(settings), settings.label_rule
    ahead = calendar.between(sessions[-1], calendar.shift(sessions[-1], rule.horizon) or calendar.sessions[-1])
    store.require(_BARS, [*sessions, *ahead[1:]], "labels", why=f"a horizon of {rule.horizon} sessions")
    first = _first_open_label(store, rule.horizon, sessions[0])
    due_sessions = pl.DataFrame(
        [(day, calendar.shift(day, rule.horizon)) for day in calendar.between(first, sessions[-1])],
        {"session": pl.Date, "due": pl.Date},
        orient="row",
    )
    window = (*calendar.before(sessions[-1], LABEL_WINDOW - 1), sessions[0])[0]
    if too_long(store, "daily_bars", sessions, columns=len(LABELS.columns)):
        rows, late_rows = blocks.labels_in_blocks(store, rule, sessions, first=first, due_sessions=due_sessions)
        return MadeLabels(rows, late_rows, store.read("labels", window, sessions[-1], columns=["label"]))
    # a ticker with gaps has its last bar of the horizon later than the others: everything after is read
    bars = store.read("daily_bars", first, columns=[*KEYS, "total_return"])
    labels = barrier_labels(bars, rule, first=first, last=sessions[-1])
    rows = _rows_of(sessions, labels)
    late_rows = late_labels(
        labels.filter(~pl.col("session").is_in(list(sessions))),
        store.read_or(_NO_KEYS, "labels", first, last=sessions[-1], columns=KEYS),
        due_sessions,
    )
    store.replace_sessions("labels", sessions, rows, beside={"labels": late_rows} if late_rows.height else None)
    return MadeLabels(rows, late_rows, store.read("labels", window, sessions[-1], columns=["label"]))


def make_pca_model(store: Warehouse, settings: Settings) -> components.PcaModel:
    """Fits `pca_model` on the trusted rows of all sessions before the first model year, and stores it."""
    calendar = calendar_of(settings)
    fit_through = calendar.before(date(settings.model_start_year, 1, 1), 1)[0]
    window = calendar.between(calendar.sessions[stationary.FIRST_BAR - 1], fit_through)
    store.require(MADE_BEFORE_PCA, window, "pca_model", why="the fit window")
    columns = stationary.pca_inputs()
    if too_long(store, "stationary_features", window, columns=len(columns)):
        parts = partial(blocks.blocks_of_features, store, window, columns=columns)
        model = components.fit_pca_in_blocks(
            lambda: (trusted(store, rows) for rows in parts()), columns, fit_through=fit_through
        )
    else:
        features = store.read("stationary_features", window[0], fit_through, columns=[*KEYS, *columns])
        model = components.fit_pca(trusted(store, features), columns, fit_through=fit_through)
    store.replace_table("pca_model", components.to_frame(model))
    return model


def make_pca_components(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeComponents:
    """Makes `pca_components` of `sessions` (ascending) with the stored fit."""
    calendar = calendar_of(settings)
    feature_sessions = [session for session in sessions if calendar.position(session) >= stationary.FIRST_BAR - 1]
    store.require(MADE_BEFORE_PCA, feature_sessions, "pca_components")
    model = components.from_frame(store.read("pca_model"))
    if too_long(store, "stationary_features", sessions, columns=len(model.columns)):
        summary, sample = blocks.components_in_blocks(store, model, sessions, sample_rows=_SAMPLE_ROWS)
        return MadeComponents(summary, model, components.explained_out_of_sample(model, sample))
    stored_features = store.read("stationary_features", sessions[0], sessions[-1], columns=[*KEYS, *model.columns])
    features = _rows_of(sessions, stored_features)
    rows = components.transform(model, features)
    store.replace_sessions("pca_components", sessions, rows)
    sample = features.gather_every(features.height // _SAMPLE_ROWS + 1)
    return MadeComponents(rows, model, components.explained_out_of_sample(model, sample) if sample.height else None)


def trusted(store: Warehouse, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` (ticker, session, …) without those whose bar is suspect. Raises BadBarsError where there is no row."""
    if rows.is_empty():
        raise BadBarsError("no feature row in the window; expected some before the first model year")
    bars = store.read("daily_bars", rows["session"].min(), rows["session"].max(), columns=[*KEYS, "suspect"])  # pyright: ignore[reportArgumentType]
    return rows.join(bars.filter(pl.col("suspect").is_not_null()), on=KEYS, how="anti")


def sample_chart(store: Warehouse, settings: Settings, last: date) -> SampleChart | None:
    """The CHART_SESSIONS up to `last` of the ticker with the most bars, none of them suspect; None without one."""
    first = (*calendar_of(settings).before(last, CHART_SESSIONS - 1), last)[0]
    bars = store.read("daily_bars", first, last)
    # without a split, the bars are on one price basis
    one_basis = pl.col("suspect").is_null() & (pl.col("split_ratio").fill_null(1) == 1)
    candidates = bars.group_by("ticker").agg(usable=one_basis.all(), bars=pl.len()).filter("usable")
    if candidates.is_empty():
        return None
    ticker = candidates.sort("bars", "ticker", descending=[True, False])["ticker"][0]
    chart = bars.filter(pl.col("ticker") == ticker).sort("session")
    for table, columns in (("indicators", ["ma_25", "bb_upper_25", "bb_lower_25"]), ("labels", ["label"])):
        rows = store.read_or(_NO_KEYS, table, first, last=last, columns=[*KEYS, *columns])
        chart = chart.join(rows, on=KEYS, how="left", maintain_order="left")
    return SampleChart(ticker, chart)


def _rows_of(sessions: Sequence[date], rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("session").is_in(list(sessions)))


def _bars_with_lookback(
    store: Warehouse, settings: Settings, sessions: Sequence[date], *, needed_by: str, columns: Sequence[str]
) -> tuple[pl.DataFrame, list[date]]:
    """(keys, total return and `columns` of the bars of `sessions` and their look-back, the sessions of these bars)."""
    read_sessions = _read_sessions(store, settings, sessions, needed_by=needed_by)
    names = [*KEYS, "total_return", *columns]
    return store.read("daily_bars", read_sessions[0], read_sessions[-1], columns=names), read_sessions


def _read_sessions(store: Warehouse, settings: Settings, sessions: Sequence[date], *, needed_by: str) -> list[date]:
    """`sessions` and their look-back, which have bars."""
    calendar = calendar_of(settings)
    lookback = calendar.before(sessions[0], LOOKBACK_SESSIONS - 1)
    store.require(_BARS, [*lookback, *sessions], needed_by, why=f"{LOOKBACK_SESSIONS} sessions of look-back")
    return list(calendar.between((*lookback, sessions[0])[0], sessions[-1]))


def _market_context(
    store: Warehouse, settings: Settings, sessions: Sequence[date]
) -> tuple[pl.DataFrame, dict[str, date]]:
    """(`context_features` of `sessions` and of what they look back at, the first session of each stored series).

    The one place of the room that reads `context_series`.
    """
    calendar = calendar_of(settings)
    first = (*calendar.before(sessions[0], CONTEXT_LOOKBACK), sessions[0])[0]
    closes = read_context(store, first, sessions[-1])
    begins = store.read_each(
        {"begins": "SELECT series, min(session) AS session FROM market.context_series GROUP BY series"}
    )["begins"]
    context = context_features(closes, calendar.between(first, sessions[-1]))
    return context, {} if begins is None else dict(begins.iter_rows())


def _first_open_label(store: Warehouse, horizon: int, session: date) -> date:
    """The first session whose label may have become complete with `session` or a later bar; `session` at the latest.

    A label ends `horizon` bars later, so those of a ticker that are `horizon` bars or more before its first bar from
    `session` on were complete before. Mostly this is one horizon back, and longer ago where a ticker comes back.
    """
    earliest = store.read_sql(
        "daily_bars",
        f"""SELECT min(earliest) AS session FROM (
            SELECT list_min(max(session, {horizon}) FILTER (session < ?)) AS earliest FROM market.daily_bars
            GROUP BY ticker HAVING max(session) >= ?)""",
        [session, session],
    )["session"].item()
    return min(earliest or session, session)
