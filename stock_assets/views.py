"""The tables of a market as polars frames: as they are, or as they were known at some moment."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Literal

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.time_travel import tables_as_of
from stock_assets.settings import Settings
from stock_assets.side_inputs.materialize import side_inputs_as_of
from stock_assets.storage.queries import DEFAULT_LIMITS, Answer, Limits, answer_of_frames, spill_beside
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import Table, declared

#: A day as a person writes it: a date, or "2019-01-02".
Day = date | str


class Market(ABC):
    """The tables of a market: as they are (`Platform`), or as they were known at some moment (`AsOf`)."""

    settings: Settings

    @property
    def calendar(self) -> TradingCalendar:
        """The trading sessions of the market's exchange.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.calendar.between(p.calendar.sessions[0], p.calendar.sessions[2])
        (datetime.date(2018, 1, 2), datetime.date(2018, 1, 3), datetime.date(2018, 1, 4))
        """
        return calendar_of(self.settings)

    def query(self, statement: str) -> pl.DataFrame:
        """The answer to a SELECT over the tables, which can neither write nor read another file.

        Raises QueryError for a statement that is wrong or wants more than to read.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.query("select count(distinct ticker) as tickers from daily_bars").item()
        4
        """
        with self.answer(statement) as answer:
            return answer.frame()

    @abstractmethod
    def answer(self, statement: str, limits: Limits = DEFAULT_LIMITS) -> AbstractContextManager[Answer]:
        """As `query`, within `limits`, and for who does not want all rows at once; inside a `with`.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> with p.answer("select ticker from universe order by ticker") as answer:
        ...     answer.texts(limit=1).item()
        'SIM01'
        """

    @abstractmethod
    def _read(
        self, table: Table, first: date | None, last: date | None, *, tickers: Sequence[str] | None
    ) -> pl.DataFrame:
        """The rows of `table`, unsorted. Raises MissingTableError where there is none."""

    def table(
        self,
        name: str,
        tickers: str | Iterable[str] | None = None,
        *,
        start: Day | None = None,
        end: Day | None = None,
        columns: Iterable[str] | None = None,
    ) -> pl.DataFrame:
        """The rows of any table: of all `tickers` or some, from session `start` to `end`, both included.

        Raises MissingTableError before anything was written to the table, and StockAssetsError for a ticker, a column
        or a day that is none.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.table("universe", columns=["ticker", "sector"]).columns
        ['ticker', 'sector']
        """
        declaration = declared(name)
        ticker_list = [tickers] if isinstance(tickers, str) else None if tickers is None else list(tickers)
        for key, value in (("session", start), ("session", end), ("ticker", tickers)):
            if value is not None and key not in declaration.names:
                raise StockAssetsError(f"{name} has no column {key} to choose rows by; expected none")
        rows = self._read(declaration, day_of(start), day_of(end), tickers=ticker_list)
        if ticker_list is not None and (missing := sorted(set(ticker_list) - set(rows["ticker"]))):
            self._require_tickers(missing)
        rows = rows.sort([key for key in declaration.keys if key in rows.columns])
        if columns is None:
            return rows
        chosen_columns = list(columns)
        if unknown := [column for column in chosen_columns if column not in rows.columns]:
            raise StockAssetsError(f"{name} has no column {unknown[0]}; expected some of {', '.join(rows.columns)}")
        return rows.select(chosen_columns)

    def _require_tickers(self, tickers: Sequence[str]) -> None:
        all_tickers = set(self._read(declared("universe"), None, None, tickers=None)["ticker"])
        if unknown := [ticker for ticker in tickers if ticker not in all_tickers]:
            first_tickers = ", ".join(sorted(all_tickers)[:10]) + (", …" if len(all_tickers) > 10 else "")
            raise StockAssetsError(
                f"{unknown[0]} is no ticker of this market; expected some of {len(all_tickers)}: {first_tickers}"
            )

    def bars(
        self, tickers: str | Iterable[str] | None = None, *, start: Day | None = None, end: Day | None = None
    ) -> pl.DataFrame:
        """The clean daily bars as traded, with their total returns (`daily_bars`).

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> bars = p.bars("SIM01", start="2018-01-02", end="2018-01-05")
        >>> bars.select("ticker", "session").row(0)
        ('SIM01', datetime.date(2018, 1, 2))
        >>> bars.to_pandas().shape[0]
        4
        """
        return self.table("daily_bars", tickers, start=start, end=end)

    def features(
        self,
        tickers: str | Iterable[str] | None = None,
        *,
        start: Day | None = None,
        end: Day | None = None,
        columns: Iterable[str] | None = None,
    ) -> pl.DataFrame:
        """The inputs of the models (`stationary_features`), or some `columns` of them, after ticker and session.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.features("SIM01", columns=["rank_vol_22"]).columns
        ['ticker', 'session', 'rank_vol_22']
        """
        all_columns = None if columns is None else ["ticker", "session", *columns]
        return self.table("stationary_features", tickers, start=start, end=end, columns=all_columns)

    def labels(
        self, tickers: str | Iterable[str] | None = None, *, start: Day | None = None, end: Day | None = None
    ) -> pl.DataFrame:
        """What came true: sell (-1), hold (0) or buy (1) of every ticker and session (`labels`).

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> set(p.labels("SIM01")["label"]) <= {-1, 0, 1}
        True
        """
        return self.table("labels", tickers, start=start, end=end)

    def predictions(
        self,
        first: Day | Literal["latest"] = "latest",
        last: Day | None = None,
        *,
        tickers: str | Iterable[str] | None = None,
        model: str | None = None,
    ) -> pl.DataFrame:
        """The probabilities of every model for the latest session, for the session `first`, or for all up to `last`.

        Raises StockAssetsError for a `model` that predicted none of them.

        >>> import stock_assets
        >>> p = stock_assets.open()
        >>> p.predictions("latest", model="rnn")["p_buy"].sum()
        2.0
        """
        start = self._last_session("predictions") if first == "latest" else day_of(first)
        rows = self.table("predictions", tickers, start=start, end=start if last is None else last)
        if model is None:
            return rows
        of_model = rows.filter(pl.col("model") == model)
        if of_model.is_empty() and rows.height:
            models = ", ".join(rows["model"].unique().sort())
            raise StockAssetsError(f"there is no prediction of a model {model}; expected one of {models}")
        return of_model

    @abstractmethod
    def _last_session(self, table: str) -> date:
        """The newest session of `table`. Raises MissingTableError where there is none."""


@dataclass(frozen=True)
class AsOf(Market):
    """The tables of the market and of the side inputs as they were known at `moment`, with the interface of `Platform`;
    the universe is today's.

    >>> import stock_assets
    >>> p = stock_assets.open()
    >>> p.as_of("2100-01-01T00:00Z").labels()
    Traceback (most recent call last):
    ...
    stock_assets.errors.StockAssetsError: labels is not kept by version, so it is not known as it was at ...
    """

    settings: Settings
    moment: datetime

    @cached_property
    def frames(self) -> Mapping[str, pl.DataFrame]:
        """The tables, by name. Raises StockAssetsError when nothing had been fetched by `moment`."""
        store = Warehouse.of(self.settings)
        return {**tables_as_of(store, self.settings, self.moment), **side_inputs_as_of(store, self.moment)}

    def answer(self, statement: str, limits: Limits = DEFAULT_LIMITS) -> AbstractContextManager[Answer]:
        return answer_of_frames(self.frames, statement, limits, spill=spill_beside(self.settings.database))

    def _read(
        self, table: Table, first: date | None, last: date | None, *, tickers: Sequence[str] | None
    ) -> pl.DataFrame:
        if table.name not in self.frames:
            raise StockAssetsError(
                f"{table.name} is not kept by version, so it is not known as it was at "
                f"{self.moment:%Y-%m-%d %H:%M %Z}; expected one of {', '.join(self.frames)}"
            )
        rows = self.frames[table.name]
        if first is not None:
            rows = rows.filter(pl.col("session") >= first)
        if last is not None:
            rows = rows.filter(pl.col("session") <= last)
        return rows if tickers is None else rows.filter(pl.col("ticker").is_in(list(tickers)))

    def _last_session(self, table: str) -> date:
        return self._read(declared(table), None, None, tickers=None)["session"].max()  # pyright: ignore[reportReturnType]: dates


def moment_of(moment: datetime | str) -> datetime:
    """`moment` in UTC, which is meant where it names no time zone. Raises StockAssetsError for a text that is not ISO
    8601, and for a moment before the year 1 or after 9999.

    >>> moment_of("2026-11-01T22:00Z").hour
    22
    """
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise StockAssetsError(f"{moment!r} is no moment; expected one such as 2026-11-01T22:00Z") from error


def day_of(day: Day | None) -> date | None:
    """The date that `day` writes. Raises StockAssetsError for a text that is no date."""
    if isinstance(day, datetime):
        return day.date()
    if day is None or isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise StockAssetsError(f"{day!r} is no day; expected one such as 2019-01-02") from error
