"""The front door: the tables of one market as polars frames, and its steps without Dagster.

    import stock_assets

    p = stock_assets.open()

A frame has the columns that docs/tables.md lists, sorted by ticker and session (by the keys of its table where it has
others). `.to_pandas()` makes a pandas frame of it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from stock_assets import evaluation, features, lifecycle, market, model, publication, trading
from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.extensions import load_extensions
from stock_assets.market.sources.registry import make_source, require_source
from stock_assets.settings import Settings, read_settings
from stock_assets.steps import call_step, steps
from stock_assets.storage.queries import DEFAULT_LIMITS, Answer, Limits
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES, Table, declared
from stock_assets.views import AsOf, Day, Market, day_of, moment_of

if TYPE_CHECKING:
    from stock_assets.trading.replay import Replay

assert all((market, features, model, evaluation, lifecycle, trading, publication))  # importing declares tables


def open(data_dir: str | Path | None = None, **settings: object) -> "Platform":
    """The market of the settings file and the environment, with `data_dir` and any setting of README in their place.

    A relative `data_dir` begins at the current folder. Raises SettingsError for a setting that is unknown or wrong.

    >>> import stock_assets
    >>> stock_assets.open(horizon=5).settings.horizon
    5
    """
    overrides = settings if data_dir is None else {"data_dir": data_dir, **settings}
    config = read_settings(**overrides)
    load_extensions(config)
    require_source(config.source)
    return Platform(config)


@dataclass(frozen=True)
class Materialization:
    """What `Platform.materialize` made: rows of `table` of the sessions `first` to `last`, None where it has none."""

    table: str
    first: date | None
    last: date | None
    rows: int
    made_at: datetime


@dataclass(frozen=True)
class Platform(Market):
    """One market: its tables, its models and its steps. `stock_assets.open()` makes it.

    >>> import stock_assets
    >>> p = stock_assets.open()
    >>> p.tables().columns
    ['table', 'room', 'rows', 'text']
    """

    settings: Settings

    @property
    def store(self) -> Warehouse:
        """The DuckDB file of the market."""
        return Warehouse.of(self.settings)

    def tables(self) -> pl.DataFrame:
        """Every table that has rows: its name, its room, its number of rows, and what a row is.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> "daily_bars" in p.tables()["table"]
        True
        """
        counts = self.store.row_counts()
        rows = [(name, TABLES[name].room, count, TABLES[name].text) for name, count in counts.items()]
        schema = {"table": pl.String, "room": pl.String, "rows": pl.Int64, "text": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def answer(self, statement: str, limits: Limits = DEFAULT_LIMITS) -> AbstractContextManager[Answer]:
        """As `Market.answer`.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> with p.answer("select 1 as a, 2 as a") as answer:
        ...     answer.columns
        ['a', 'a_2']
        """
        return self.store.answer(statement, limits)

    def as_of(self, moment: datetime | str) -> "AsOf":
        """The market as it was known at `moment`: a datetime, or a text such as "2026-11-01T22:00Z". UTC is meant where
        it names no time zone.

        Raises StockAssetsError for a text that is no moment, and when nothing had been fetched by then.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.as_of("2100-01-01T00:00Z").bars("SIM01").height == p.bars("SIM01").height
        True
        """
        return AsOf(self.settings, moment_of(moment))

    def published(self, session: Day | None = None, *, as_of: datetime | str | None = None) -> pl.DataFrame:
        """What was said of `session`, by default the newest published one: the columns of `tables.PREDICTIONS_FILE`.

        As it is published now, or as it was at the moment `as_of`. Raises StockAssetsError where nothing was published,
        of the session or at all.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.published("2018-05-31")
        Traceback (most recent call last):
        ...
        stock_assets.errors.StockAssetsError: nothing is published in ...; materialize publication
        """
        from stock_assets.publication import read

        folder = self.settings.published
        publication = read.open_publication(folder)
        if publication is not None and as_of is not None:
            publication = read.as_of(publication, read.read_ledger(folder), moment_of(as_of))
        if publication is None:
            then = "is" if as_of is None else f"was, at {as_of},"
            raise StockAssetsError(f"nothing {then} published in {folder}; materialize publication")
        sessions = publication.pointer.sessions
        day = day_of(session) or sessions[-1]
        if day not in sessions:
            raise StockAssetsError(
                f"{day} is not published; {len(sessions)} sessions from {sessions[0]} to {sessions[-1]} are"
            )
        return publication.predictions(day)

    def replay(self, book: str, first: Day | None = None, last: Day | None = None) -> "Replay":
        """The book called `book` as it was said each evening from `first` to `last`, and with the hindsight of today.

        Raises StockAssetsError for another name, and with fewer than two sessions that were published in time.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.replay("nameless")
        Traceback (most recent call last):
        ...
        stock_assets.errors.StockAssetsError: there is no book nameless; expected one of long_only, long_short
        """
        from stock_assets.publication.materialize.said import said_each_evening
        from stock_assets.trading.book_files import books_of
        from stock_assets.trading.materialize.replay import replay_book

        books = {book_settings.name: book_settings for book_settings in books_of(self.settings)}
        if book not in books:
            raise StockAssetsError(f"there is no book {book}; expected one of {', '.join(books)}")
        published_predictions, moments = said_each_evening(
            self.settings.published, self.calendar, first=day_of(first), last=day_of(last)
        )
        return replay_book(
            self.store, self.settings, books[book], published_predictions=published_predictions, moments=moments
        )

    def models(self) -> pl.DataFrame:
        """Which version of every model serves, since when and why, and the versions that have another alias.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.models().columns
        ['model', 'alias', 'version', 'trained_through', 'model_year', 'serves_from', 'reason']
        """
        from stock_assets.lifecycle.materialize.champions import models_in_service
        from stock_assets.lifecycle.materialize.kept import kept_of
        from stock_assets.storage.registry import open_registry

        registry = open_registry(self.settings.mlflow_uri, self.settings.mlflow_artifacts)
        return models_in_service(self.store, registry, self.calendar, model_tables=kept_of(self.settings))

    def materialize(
        self,
        table: str,
        first: Day | None = None,
        last: Day | None = None,
        *,
        now: datetime | None = None,
        made_by: str = "stock_assets.open()",
    ) -> Materialization:
        """Makes the rows of `table` from session `first` to `last` with the same step as the asset, without Dagster.

        It is recorded in the table `manual_materializations`, and in the asset's history in Dagster where the market
        has one. Checks do not run. `now` is the time that the step sees and the record holds; the present when unset.
        Raises StockAssetsError for a table without a step or a range without a session, and what the step raises, such
        as MissingSessionsError where rows before the range are missing.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.materialize("no_such_table")
        Traceback (most recent call last):
        ...
        stock_assets.errors.StockAssetsError: there is no step that makes no_such_table; expected one of ...
        """
        if table not in (all_steps := steps()):
            raise StockAssetsError(f"there is no step that makes {table}; expected one of {', '.join(all_steps)}")
        moment = now or datetime.now(UTC)
        sessions = self._sessions(table, first, last)
        call_step(all_steps[table], self._step_arguments(sessions, moment))
        start, end = (sessions[0], sessions[-1]) if sessions else (None, None)
        by_session = "session" in declared(table).names
        rows = self.table(table, start=start, end=end) if by_session else self.table(table)
        materialization = Materialization(table, start, end, rows.height, moment)
        self._record(materialization, sessions, made_by)
        return materialization

    def _step_arguments(self, sessions: Sequence[date], now: datetime) -> dict[str, Callable[[], object]]:
        """What a step may ask for, by the name of its parameter."""
        from stock_assets.storage.registry import open_registry

        return {
            "store": lambda: self.store,
            "settings": lambda: self.settings,
            "sessions": lambda: list(sessions),
            "years": lambda: sorted({session.year for session in sessions}),
            "now": lambda: now,
            "source": lambda: make_source(self.settings),
            "registry": lambda: open_registry(self.settings.mlflow_uri, self.settings.mlflow_artifacts),
        }

    def _sessions(self, table: str, first: Day | None, last: Day | None) -> tuple[date, ...]:
        """The sessions that `first` and `last` choose; none for a table that is made as a whole."""
        if declared(table).partitions is None:
            if first is not None or last is not None:
                raise StockAssetsError(f"{table} is made as a whole; expected no first and no last session")
            return ()
        start = day_of(first)
        end = start if last is None else day_of(last)
        if start is None or end is None:
            raise StockAssetsError(f"{table} is made per session; expected a first and a last session")
        if not (sessions := self.calendar.between(start, end)):
            raise StockAssetsError(f"{self.calendar.name} has no session from {start} to {end}")
        return sessions

    def _record(self, materialization: Materialization, sessions: Sequence[date], made_by: str) -> None:
        row = {
            "table_name": materialization.table,
            "first": materialization.first,
            "last": materialization.last,
            "rows": materialization.rows,
            "made_at": materialization.made_at,
            "made_by": made_by,
        }
        history = declared("manual_materializations")
        self.store.append(history.name, pl.DataFrame([row], schema=history.schema))
        if (self.settings.dagster_home / "dagster.yaml").exists():
            from stock_assets.defs.manual import report_materialization

            report_materialization(
                self.settings.dagster_home, materialization.table, sessions, rows=materialization.rows, made_by=made_by
            )

    def _read(
        self, table: Table, first: date | None, last: date | None, *, tickers: Sequence[str] | None
    ) -> pl.DataFrame:
        if tickers is None:
            return self.store.read(table.name, first, last)
        bounds = {"session >= ?": first, "session <= ?": last}
        conditions = {condition: day for condition, day in bounds.items() if day is not None}
        clause = " AND ".join([*conditions, "list_contains(?, ticker)"])
        statement = f"SELECT * FROM {table.room}.{table.name} WHERE {clause}"
        return self.store.read_sql(table.name, statement, [*conditions.values(), list(tickers)])

    def _last_session(self, table: str) -> date:
        session = self.store.last_session(table)
        if session is None:
            raise MissingTableError(table)
        return session
