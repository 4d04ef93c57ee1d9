"""What models read from the store: their inputs, and the labels that may train and score."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from datetime import date, timedelta
from functools import cached_property, partial

import polars as pl

from stock_assets.errors import ArtifactError, MissingTableError
from stock_assets.features.labels import barrier_labels
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.features.market_context import MARKET_CONTEXT, context_inputs
from stock_assets.features.materialize import MADE_BEFORE_PCA, side_groups
from stock_assets.features.side_features import SIDE_FEATURES, side_columns
from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.frames import KEYS, beside_tickers, by_tickers, in_order
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.baselines.naive import known_labels
from stock_assets.model.market_rows import HoldsMarket
from stock_assets.model.registry import longest_lookback
from stock_assets.model.splits import NO_MEMBER, training_rows, usable_labels
from stock_assets.settings import Settings
from stock_assets.storage.panels import mapped, mapped_by_ticker
from stock_assets.storage.partitions import first_made
from stock_assets.storage.ranges import blocks_of_sessions, ticker_groups, too_long
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: The tables below every model, in the order they are made.
MADE_BEFORE_MODELS = (*MADE_BEFORE_PCA, "pca_components")

#: About the bytes of memory that a row takes while its newest known label, or whether it is usable, is searched for.
_LABEL_BYTES = 256
#: Features are read and joined so many days at a time: in double precision, of which single precision remains.
_DAYS_AT_ONCE = 182
_NO_KEYS = pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date})


class StoredInputs(HoldsMarket):
    """The `lesson.Inputs` and usable labels of the sessions from `first` to `last`, read once for several cutoffs.

    Raises ArtifactError where the components of these sessions are of several fits.
    """

    def __init__(
        self, store: Warehouse, settings: Settings, *, first: date, last: date, bars_first: date | None = None
    ) -> None:
        """`bars_first` is where the bars begin whose labels are known at `first`, where rows are to be predicted."""
        self._predicts = bars_first is not None
        self.scratch = store.path.parent
        self._store, self._settings, self._first, self._last = store, settings, first, last
        sessions = calendar_of(settings).between(first, last)
        width = (len(STATIONARY) + len(MARKET_CONTEXT) + len(side_columns())) // 2  # of single precision
        self._mapped = too_long(store, "stationary_features", sessions, columns=width)
        versions = list(store.rows_by("pca_components", "pca_version", first, last=last))
        if len(versions) != 1:
            raise ArtifactError(
                f"pca_components mixes the fits {', '.join(versions)}; expected one: materialize "
                "pca_components again for every session"
            )
        self.pca_version: str = versions[0]
        bars = ["ticker", "session", "suspect", "total_return", "is_member"]
        self._bars = self._rows("daily_bars", partial(store.read, "daily_bars", columns=bars), bars_first)
        self._flagged = self._bars.filter(pl.col("suspect").is_not_null()).select("ticker", "session", "suspect")
        self._outsiders = _outsiders(self._bars, settings.members_only)
        trusted_outsiders = self._outsiders.join(self._flagged, on=KEYS, how="anti")
        self.suspects = pl.concat([self._flagged, trusted_outsiders.with_columns(suspect=pl.lit(NO_MEMBER))])
        """ticker, session, suspect of the rows that neither train nor score"""

    @cached_property
    def components(self) -> pl.DataFrame:
        return in_order(self._rows("pca_components", partial(self._store.read, "pca_components")).drop("pca_version"))

    @cached_property
    def features(self) -> pl.DataFrame:
        """The stationary inputs, and those of the market context and of side inputs: to train on, the ones that most
        sessions have; to predict, all, of which a model reads those that it was trained on."""
        names = (*MARKET_CONTEXT, *side_columns())
        if self._mapped:
            return self._mapped_features(names)
        parts = [self._features_between(first, last) for first, last in _stretches(self._first, self._last)]
        rows = pl.concat(parts)
        context = names if self._predicts else context_inputs(rows, names)
        keys = rows.select(KEYS).with_row_index("row").sort(KEYS)
        del rows
        # column by column, each taken from the parts, so that the rows are in memory once and not three times
        columns = {
            name: pl.concat([part.drop_in_place(name) for part in parts], rechunk=True).gather(keys["row"])
            for name in (*STATIONARY, *context)
        }
        return keys.select(KEYS).with_columns(**columns)

    def _mapped_features(self, names: Sequence[str]) -> pl.DataFrame:
        """`features` in a file: of the optional columns `names` those that most sessions have, or all to predict."""
        context_by_session = list[pl.DataFrame]()

        def read(first: date, last: date) -> pl.DataFrame:
            rows = self._features_between(first, last)
            optional = [name for name in names if name in rows.columns]
            context_by_session.append(rows.group_by("session").agg(pl.col(optional).drop_nulls().first()))
            return rows

        rows = self._rows("stationary_features", read)
        context = names if self._predicts else context_inputs(pl.concat(context_by_session), names)
        return rows.select(*KEYS, *STATIONARY, *context)

    def _rows(
        self, table: str, read_block: Callable[[date, date], pl.DataFrame], first: date | None = None
    ) -> pl.DataFrame:
        """What `read_block` returns, rows of the tickers and sessions of `table`, of the sessions from `first`, or that
        of these inputs, to the last one: of a long range in a file, sorted by ticker and session."""
        begin, store = first or self._first, self._store
        if not self._mapped:
            return read_block(begin, self._last)
        columns = len(declared(table).columns)
        groups = ticker_groups(store, table, begin, last=self._last, columns=columns)
        days = calendar_of(self._settings).between(begin, self._last)
        blocks = blocks_of_sessions(store, table, days, columns=columns)
        return mapped_by_ticker(store.path, groups, (read_block(block[0], block[-1]) for block in blocks))

    def _features_between(self, first: date, last: date) -> pl.DataFrame:
        """The same with every column that is there."""
        rows = self._store.read("stationary_features", first, last)
        rows = rows.join(self._side_features(first, last), on=KEYS, how="left", maintain_order="left")
        optional = [name for name in (*MARKET_CONTEXT, *side_columns()) if name in rows.columns]
        # single precision is what the network computes in, and half the memory
        return rows.select(*KEYS, *STATIONARY, *optional).cast({pl.Float64: pl.Float32})

    def _side_features(self, first: date, last: date) -> pl.DataFrame:
        """ticker, session and the columns of `side_features`, null where the settings turn off what they are made of;
        no row of a session that was never made."""
        of_groups = [name for group in side_groups(self._settings) for name in group.columns]
        try:
            rows = self._store.read(SIDE_FEATURES, first, last) if of_groups else _NO_KEYS
        except MissingTableError:
            rows = _NO_KEYS
        rows = rows.select(*KEYS, *(name for name in of_groups if name in rows.columns))
        missing_columns = (pl.lit(None, pl.Float64).alias(name) for name in side_columns() if name not in rows.columns)
        return rows.with_columns(missing_columns)

    @cached_property
    def known_labels(self) -> pl.DataFrame:
        """Of the bars themselves: the labels of the last sessions may not be materialized yet, though known."""
        rule = self._settings.label_rule
        parts = (
            known_labels(barrier_labels(bars, rule), bars.select(KEYS))
            for bars in by_tickers(self._bars, self._store.memory.block // _LABEL_BYTES if self._mapped else None)
        )
        return mapped(self._store.path, parts) if self._mapped else next(parts)

    @cached_property
    def _labels(self) -> pl.DataFrame:
        return self._rows("labels", partial(self._store.read, "labels"))

    def labels_at(self, cutoff: date) -> tuple[pl.DataFrame, dict[str, int]]:
        """(usable labels known by `cutoff`, rows left out by reason): of a long range in a file."""
        if not self._mapped:
            return usable_labels(training_rows(self._labels, cutoff), self._flagged, self._outsiders)
        left_out = Counter[str]()

        def usable() -> Iterator[pl.DataFrame]:
            size = self._store.memory.block // _LABEL_BYTES
            for labels, outsiders in beside_tickers(self._labels, self._outsiders, size):
                rows, reasons = usable_labels(training_rows(labels, cutoff), self._flagged, outsiders)
                left_out.update(reasons)
                yield rows

        labels = mapped(self._store.path, usable())
        return labels, dict(sorted(left_out.items(), key=lambda reason: (-reason[1], reason[0])))

    def read_now(self, frames: Iterable[str] = ("features", "components", "known_labels")) -> None:
        """Reads what is read when it is first asked for: threads that start later would each read it."""
        for frame in frames:
            getattr(self, frame)

    def of(self, sessions: Sequence[date]) -> "StoredInputs":
        """What `inputs_for` returns of neighbouring ones of its sessions, so that the models of a year do not look at
        every row of a long range."""
        first, bars_first = _lookback(calendar_of(self._settings), self._settings, sessions[0])
        if (first, sessions[-1]) == (self._first, self._last):
            return self
        part = copy(self)
        part._first, part._last = first, sessions[-1]
        part._bars = self._bars.filter(pl.col("session").is_between(bars_first, sessions[-1]))
        for read_before in ("features", "components", "known_labels", "_markets"):
            part.__dict__.pop(read_before, None)
        part.components = self.components.filter(pl.col("session").is_between(first, sessions[-1]))
        return part


def inputs_for(store: Warehouse, settings: Settings, sessions: Sequence[date], *, needed_by: str) -> StoredInputs:
    """What the models read to predict `sessions`, ascending: the rows of these sessions and the lookback rows.

    Raises MissingSessionsError for sessions that a table lacks; its text names `needed_by`, the table to be made.
    """
    calendar = calendar_of(settings)
    first, bars_first = _lookback(calendar, settings, sessions[0])
    of_range = calendar.between(first, sessions[-1])
    store.require(MADE_BEFORE_MODELS, of_range, needed_by, why="features of the day and its context")
    _require_side_features(store, settings, of_range, needed_by=needed_by)
    return StoredInputs(store, settings, first=first, last=sessions[-1], bars_first=bars_first)


def _lookback(calendar: TradingCalendar, settings: Settings, session: date) -> tuple[date, date]:
    """The first session whose rows, and the first whose bars, models read to predict `session`."""
    # every ticker that has features missed at most MAX_MISSED sessions, so this holds all its lookback rows
    reach = longest_lookback() - 1 + MAX_MISSED
    lookback = [day for day in calendar.before(session, reach) if calendar.position(day) >= FIRST_BAR - 1]
    first = (*lookback, session)[0]
    # the labels known at the first of them are those of a horizon earlier
    bars = calendar.before(first, settings.horizon + MAX_MISSED)
    return first, (*bars, first)[0]


def inputs_through(store: Warehouse, settings: Settings, cutoff: date, *, needed_by: str) -> StoredInputs:
    """Everything there is to learn from for cutoffs up to `cutoff`. Raises as `inputs_for`."""
    calendar = calendar_of(settings)
    sessions = calendar.between(calendar.sessions[0], cutoff)
    purpose = f"every session up to the cutoff {cutoff}"
    store.require(MADE_BEFORE_MODELS, sessions[FIRST_BAR - 1 :], needed_by, why=purpose)
    store.require(["labels"], sessions[: -settings.horizon], needed_by, why=purpose)
    _require_side_features(store, settings, sessions[FIRST_BAR - 1 :], needed_by=needed_by)
    return StoredInputs(store, settings, first=sessions[0], last=cutoff)


def _require_side_features(store: Warehouse, settings: Settings, sessions: Sequence[date], *, needed_by: str) -> None:
    """Raises MissingSessionsError for those of `sessions` that `side_features` lacks, from the first on that was ever
    made: a store from before there were side inputs goes on without those of earlier sessions."""
    first = first_made(store.read_sql, SIDE_FEATURES) if side_groups(settings) else None
    if first is not None:
        since = [session for session in sessions if str(session) >= first]
        store.require([SIDE_FEATURES], since, needed_by, why="what is known beside prices")


def usable_between(
    store: Warehouse, settings: Settings, first: date, *, last: date | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The labels from `first` to `last` that may train and score, and the number of those left out, by reason.

    Those of tickers that were no members on their session are left out where the settings ask for members alone. Every
    score, gate and weight comes from here, so that all of them count the same labels.
    """
    bars = store.read("daily_bars", first, columns=["ticker", "session", "suspect", "is_member"])
    outsiders = _outsiders(bars, settings.members_only)
    return usable_labels(store.read("labels", first, last), bars.drop("is_member"), outsiders)


def _outsiders(bars: pl.DataFrame, members_only: bool) -> pl.DataFrame:
    """ticker, session of the `bars` of tickers that were no members then; none where they count too."""
    return (bars.filter(~pl.col("is_member")) if members_only else bars.clear()).select(KEYS)


def _stretches(first: date, last: date) -> Iterator[tuple[date, date]]:
    """(first, last) of stretches of _DAYS_AT_ONCE days, the last one shorter."""
    while first <= last:
        yield first, min(last, first + timedelta(days=_DAYS_AT_ONCE - 1))
        first += timedelta(days=_DAYS_AT_ONCE)
