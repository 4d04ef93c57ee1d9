"""A range of sessions that does not fit into memory, made in blocks (`storage.ranges`). The rows are those that a range
made at once has, to 1e-9."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from functools import partial

import polars as pl

from stock_assets.features import daily, events, peers, stationary
from stock_assets.features.components import PcaModel, component_names, transform
from stock_assets.features.indicators import INDICATORS, classic_indicators
from stock_assets.features.labels import barrier_labels, late_labels
from stock_assets.features.side_features import SideGroup, SideRange, completed, side_columns
from stock_assets.features.tables import LABELS
from stock_assets.frames import KEYS, RowSummary
from stock_assets.setting_values import LabelRule
from stock_assets.storage.changes import Change
from stock_assets.storage.ranges import (
    blocks_of,
    blocks_of_sessions,
    in_the_place_of,
    read_by_ticker,
    rows_of_groups,
    rows_within,
    ticker_groups,
)
from stock_assets.storage.scratch import scratch, scratch_folder
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

BARS = "daily_bars"
#: Columns in memory for each one of a group of side features while what is of a ticker alone is computed.
_OWN = 2
_INDICATOR_COLUMNS = [*KEYS, "total_return", "close"]
_FEATURE_COLUMNS = [*KEYS, "total_return", *stationary.BAR_COLUMNS]


def indicators_in_blocks(store: Warehouse, sessions: Sequence[date], read_sessions: Sequence[date]) -> RowSummary:
    """Makes `indicators` of `sessions` from the bars of `read_sessions` (both ascending)."""
    made_columns, summary = len(INDICATORS) + len(KEYS), RowSummary(list(INDICATORS))
    blocks = blocks_of_sessions(store, BARS, sessions, columns=made_columns)
    first, last = read_sessions[0], read_sessions[-1]
    with scratch(store.path, blocks, hold=store.memory.at_once) as scratch_rows:
        for bars in read_by_ticker(
            store, BARS, first, last=last, columns=_INDICATOR_COLUMNS, made_columns=made_columns
        ):
            scratch_rows.add(_of_sessions(classic_indicators(bars, sessions[0], read_sessions), sessions))
        store.write_in_blocks(
            in_the_place_of("indicators", sessions), summary.of_each(scratch_rows.each("indicators", blocks))
        )
    return summary


def stationary_features_in_blocks(
    store: Warehouse, sessions: Sequence[date], read_sessions: Sequence[date], *, context: pl.DataFrame
) -> RowSummary:
    """Makes `stationary_features` of `sessions` from the bars of `read_sessions` (both ascending) and the `context`
    (session, …) of each session."""
    first, last, table = read_sessions[0], read_sessions[-1], "stationary_features"
    made_columns, summary = len(declared(table).columns), RowSummary(list(stationary.STATIONARY))
    read_blocks, blocks = (
        blocks_of_sessions(store, BARS, days, columns=made_columns) for days in (read_sessions, sessions)
    )
    groups = ticker_groups(store, BARS, first, last=last, columns=made_columns)

    def completed(rows: pl.DataFrame) -> pl.DataFrame:
        features = stationary.with_session_features(rows, returns)
        return features.join(context, on="session", how="left", maintain_order="left")

    with (
        scratch_folder(store.path) as folder,
        scratch(store.path, groups, by="ticker") as wide,
        scratch(store.path, read_blocks) as narrow,
        scratch(store.path, blocks, hold=store.memory.at_once) as own,
    ):
        days = list(store.rows_by(BARS, "session", first, last=last))
        returns = peers.Returns.empty(days, [ticker for group in groups for ticker in group], folder)
        for bars in rows_of_groups(store, BARS, groups, first=first, last=last, columns=_FEATURE_COLUMNS):
            rows = stationary.daily_rows(bars, read_sessions)
            wide.add(rows)
            returns.add(rows)
            narrow.add(rows.select(*KEYS, "suspect", "r", "burst"))
        whole = [(daily.market_returns(rows), events.usual_bursts(rows)) for rows in narrow.each(table, read_blocks)]
        market, usual = (pl.concat(frames) for frames in zip(*whole, strict=True))
        for number in range(len(groups)):
            rows = daily.with_market(wide.block(number), market)
            own.add(_of_sessions(stationary.own_features(rows, sessions[0], usual), sessions))
        rows = (completed(rows) if rows.height else declared(table).empty() for rows in own.each(table, blocks))
        store.write_in_blocks(in_the_place_of(table, sessions), summary.of_each(rows))
    return summary


def side_features_in_blocks(
    store: Warehouse,
    groups: Sequence[SideGroup],
    side_range: SideRange,
    *,
    summary: RowSummary,
    compute: Callable[[Sequence[SideGroup], Sequence[date]], pl.DataFrame],
) -> None:
    """Makes `side_features` of the sessions of `side_range`: `compute` returns the rows of some groups and sessions.
    Groups that are made in two steps read every bar once."""
    table, sessions = "side_features", side_range.sessions
    blocks = blocks_of_sessions(store, BARS, sessions, columns=len(declared(table).columns))
    others = [group for group in groups if group.in_steps is None]
    with ExitStack() as files:
        parts = [_of_group(store, group, side_range, blocks=blocks, files=files) for group in groups if group.in_steps]
        if others:
            parts.append(_at_once(store, partial(compute, others), blocks=blocks, files=files))
        rows = (_side_by_side(frames) for frames in zip(*parts, strict=True))
        store.write_in_blocks(in_the_place_of(table, sessions), summary.of_each(rows))


def _of_group(
    store: Warehouse, group: SideGroup, side_range: SideRange, *, blocks: Sequence[Sequence[date]], files: ExitStack
) -> Iterator[pl.DataFrame]:
    """The columns of `group` of each of `blocks` of sessions, after the bars of all tickers were read."""
    assert group.in_steps
    folder = files.enter_context(scratch_folder(store.path))
    own = files.enter_context(scratch(store.path, blocks, hold=store.memory.at_once))
    steps = group.in_steps(replace(side_range, folder=folder))
    first = (*side_range.calendar.before(side_range.sessions[0], group.lookback), side_range.sessions[0])[0]
    columns = None if group.bar_columns is None else [*KEYS, *group.bar_columns]
    tickers = ticker_groups(store, BARS, first, last=side_range.sessions[-1], columns=_OWN * len(group.columns))
    for bars in rows_of_groups(store, BARS, tickers, first=first, last=side_range.sessions[-1], columns=columns):
        own.add(steps.own(bars))
    return (completed(group, steps, rows) for rows in own.each("side_features", blocks))


def _at_once(
    store: Warehouse,
    compute: Callable[[Sequence[date]], pl.DataFrame],
    *,
    blocks: Sequence[Sequence[date]],
    files: ExitStack,
) -> Iterator[pl.DataFrame]:
    """The rows of `compute` of each of `blocks` of sessions, computed of longer ones: each reads its look-back."""
    counts = store.rows_by(BARS, "session", blocks[0][0], last=blocks[-1][-1])
    sizes = ((block, sum(counts.get(day, 0) for day in block)) for block in blocks)
    scratch_rows = files.enter_context(scratch(store.path, blocks))
    for longer in blocks_of(sizes, rows_within(store.memory.at_once, len(side_columns()))):
        scratch_rows.add(compute([day for block in longer for day in block]))
    return scratch_rows.each("side_features", blocks)


def _side_by_side(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The columns of all `frames` of the same keys and of those that no group has."""
    joint_frame = frames[0]
    for frame in frames[1:]:
        new = [name for name in frame.columns if name not in joint_frame.columns]
        joint_frame = joint_frame.join(frame.select(*KEYS, *new), on=KEYS, how="left", maintain_order="left")
    return joint_frame.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in side_columns() if name not in joint_frame.columns
    )


def labels_in_blocks(
    store: Warehouse, rule: LabelRule, sessions: Sequence[date], *, first: date, due_sessions: pl.DataFrame
) -> tuple[RowSummary, pl.DataFrame]:
    """Makes `labels` of `sessions` (ascending), and the late ones of others from session `first` on, which it returns;
    `due_sessions` as `late_labels` takes it."""
    columns, summary = len(LABELS.columns) + len(KEYS), RowSummary()
    blocks = blocks_of_sessions(store, BARS, sessions, columns=columns)
    with scratch(store.path, blocks) as scratch_rows:
        others = [LABELS.empty()]
        # a ticker with gaps has its last bar of the horizon later than the others: everything after is read
        for bars in read_by_ticker(
            store, BARS, first, last=date.max, columns=[*KEYS, "total_return"], made_columns=columns
        ):
            rows = barrier_labels(bars, rule, first=first, last=sessions[-1])
            scratch_rows.add(_of_sessions(rows, sessions))
            others.append(rows.filter(~pl.col("session").is_in(list(sessions))))
        stored_keys = store.read_or(LABELS.empty(), "labels", first, last=sessions[-1], columns=KEYS).select(KEYS)
        late_rows = late_labels(pl.concat(others), stored_keys, due_sessions)
        rows = summary.of_each(scratch_rows.each("labels", blocks))
        further_changes = [Change("labels", late_rows, makes=())] if late_rows.height else []
        store.write_in_blocks(in_the_place_of("labels", sessions), rows, beside=further_changes)
    return summary, late_rows


def blocks_of_features(
    store: Warehouse,
    sessions: Sequence[date],
    *,
    columns: Sequence[str],
) -> Iterator[pl.DataFrame]:
    """ticker, session and `columns` of `stationary_features` in blocks of `sessions`, without the empty ones."""
    for block in blocks_of_sessions(store, "stationary_features", sessions, columns=2 * len(columns)):
        rows = store.read("stationary_features", block[0], block[-1], columns=[*KEYS, *columns])
        if rows.height:
            yield rows


def components_in_blocks(
    store: Warehouse, model: PcaModel, sessions: Sequence[date], *, sample_rows: int
) -> tuple[RowSummary, pl.DataFrame]:
    """Makes `pca_components` of `sessions` (ascending), and returns with them every k-th row of features, so that they
    are about `sample_rows`."""
    features, columns = "stationary_features", [*KEYS, *model.columns]
    blocks = blocks_of_sessions(store, features, sessions, columns=2 * len(columns))
    total = sum(store.rows_by(features, "session", sessions[0], last=sessions[-1]).values())
    stride, sample, rows_done = total // sample_rows + 1, list[pl.DataFrame](), 0
    summary = RowSummary(list(component_names(model)))

    def transformed() -> Iterator[pl.DataFrame]:
        nonlocal rows_done
        for block in blocks:
            rows = _of_sessions(store.read(features, block[0], block[-1], columns=columns), block)
            sample.append(rows.gather_every(stride, -rows_done % stride))
            rows_done += rows.height
            yield transform(model, rows)

    store.write_in_blocks(in_the_place_of("pca_components", sessions), summary.of_each(transformed()))
    return summary, pl.concat(sample)


def _of_sessions(rows: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    return rows.filter(pl.col("session").is_in(list(sessions)))
