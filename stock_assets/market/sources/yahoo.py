"""Prices from Yahoo Finance through yfinance, one history per ticker, at a pace that Yahoo bears."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from stock_assets.errors import EmptyRangeError, QuietTickerError, SourceError, UnknownTickerError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import SERIES, MarketContext, context_of
from stock_assets.market.download import json_within
from stock_assets.market.sources import Answer, nothing_to_settle
from stock_assets.market.sources.answers import BARS, check_request, check_sessions, check_values, with_history
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Budget, Exhausted, GivenUp, Pace, Politeness, Transient
from stock_assets.market.sources.registry import Say, register_source
from stock_assets.market.sources.replies import beginning, require_service
from stock_assets.market.sources.staging import staging
from stock_assets.market.sources.yahoo_session import polite_session
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

#: The preceding bar of a ticker is looked for this long before the first session.
_LOOK_BACK = timedelta(days=30)

_EMPTY = "an empty answer"
#: Yahoo's words for a range before the first trade or after the last one, and for one that it has no longer.
_NOTHING_THERE, _TOO_OLD = "Data doesn't exist for startDate", ("must be within the last", "allowed to be fetched")

#: Yahoo shows trades of some exchanges so late at most: https://help.yahoo.com/kb/SLN2310.html
DELAY = timedelta(minutes=30)

#: yfinance's column for each of ours.
_COLUMNS = {
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "adj_close": "Adj Close",
    "volume": "Volume",
    "dividend": "Dividends",
    "split_ratio": "Stock Splits",
}


class YahooSource:
    """Daily bars of chosen tickers, as Yahoo states them at the time of the call."""

    name: ClassVar[str] = "yahoo"

    def __init__(
        self,
        calendar: TradingCalendar,
        tickers: tuple[str, ...] | None,
        base_url: str | None = None,
        *,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
        series: tuple[str, ...] = SERIES,
        staged: Path | None = None,
        budget: Budget | None = None,
    ) -> None:
        """`base_url` gets every request in place of Yahoo, `on_progress` the numbers of tickers done and asked for.

        In the folder `staged` answers wait for their rows to be stored; without one, a killed fetch begins anew.
        """
        self.calendar, self.tickers, self.series = calendar, tickers, series
        self.on_progress, self.staged = on_progress, staged
        self.budget = budget or Budget(Politeness())
        self._session = polite_session(self.budget, base_url, place="/v8/finance/chart/", judge=judge_chart)

    def universe(self) -> pl.DataFrame:
        """The configured tickers from the calendar's first session on, open-ended (`UNIVERSE_SCHEMA`).

        Raises SourceError when no ticker is configured: Yahoo has no list of all.
        """
        return configured_universe(self.tickers, self.calendar)

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """The bars of `tickers` from `first` to `last`, split-adjusted as of `fetched_at`, and which failed, and why.

        `fetched_at` is the time of the call: each history is asked for up to its day, because the splits
        after `last` are needed too. One request per ticker, whatever the range; what an earlier call for the same
        range got on the same day (UTC), and was not settled, is not asked for again and keeps its own `fetched_at`.

        A ticker fails with its answer: one that cannot be had, that Yahoo does not know, or whose bars are none. One
        of which Yahoo says that it has not traded since has no bars, and its days in `Answer.spans`.
        """
        check_request(first, last, fetched_at)
        requested_tickers = sorted(set(tickers))
        asked_on = fetched_at.astimezone(UTC).date()
        staged_answers = staging(self.staged, asked_on=asked_on, first=first, last=last) if self.staged else None
        if staged_answers is not None:
            staged_answers.expect(len(requested_tickers))
        spans: dict[str, tuple[date, date]] = {}

        def work(ticker: str) -> pl.DataFrame | None:
            if staged_answers is not None and (staged_history := staged_answers.load(ticker)) is not None:
                return staged_history
            try:
                history = self._history(ticker, first=first, last=last, fetched_at=fetched_at)
            except QuietTickerError as quiet:
                spans[ticker] = quiet.span
                return None
            if staged_answers is not None:
                staged_answers.save(ticker, history)
            return history

        answers, failures = of_each(requested_tickers, work, budget=self.budget, on_progress=self.on_progress)
        histories = [history for history in answers.values() if history is not None]
        spans |= {str(bars["ticker"][0]): (bars["session"][0], bars["session"][-1]) for bars in histories}
        asked_bars = [
            bars.filter(pl.col("session").is_between(first, last)).select(RAW_SCHEMA.names()) for bars in histories
        ]
        bars = pl.concat([RAW_SCHEMA.to_frame(), *asked_bars]).sort("ticker", "session")
        return Answer(bars, failures, spans, settle=staged_answers.clear if staged_answers else nothing_to_settle)

    def _history(self, ticker: str, *, first: date, last: date, fetched_at: datetime) -> pl.DataFrame:
        """`_all_bars` of `ticker` in `RAW_SCHEMA`; raises as it, and SourceError for an impossible bar."""
        bars = self._all_bars(ticker, first, fetched_at)
        asked_bars = bars.filter(pl.col("session").is_between(first, last))
        check_values(asked_bars)
        check_sessions(asked_bars, self.calendar)
        return with_history(bars).select(
            pl.lit(self.name).alias(column)
            if column == "source"
            else pl.lit(fetched_at.astimezone(UTC)).cast(kind).alias(column)
            if column == "fetched_at"
            else column
            for column, kind in RAW_SCHEMA.items()
        )

    def _all_bars(self, ticker: str, first: date, fetched_at: datetime) -> pl.DataFrame:
        """All bars that Yahoo has of `ticker` from shortly before `first` to the day of `fetched_at` (`BARS`), at least
        one row. Raises Exhausted, GivenUp, or SourceError naming the ticker."""
        require_address(ticker)
        from_, to = first - _LOOK_BACK, fetched_at.astimezone(UTC).date()
        return self.budget.patiently(ticker, lambda: _ask(self._session, ticker, first=from_, last=to))

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        """As `Source.context`: one request per series, of which one may fail alone."""
        check_request(first, last, fetched_at)
        histories, failures = [BARS.to_frame()], {}
        for name in self.series:
            try:
                histories.append(self._all_bars(name, first, fetched_at))
            except (Exhausted, GivenUp, SourceError) as error:
                failures[name] = str(error)
        answer = context_of(
            pl.concat(histories), self.calendar, first=first, last=last, source=self.name, fetched_at=fetched_at
        )
        return answer._replace(failures=failures)


def configured_universe(tickers: tuple[str, ...] | None, calendar: TradingCalendar) -> pl.DataFrame:
    """As `YahooSource.universe`."""
    if not tickers:
        raise SourceError("STOCK_ASSETS_TICKERS is not set; the source yahoo expects the tickers to ask for")
    return (
        pl.DataFrame({"ticker": sorted(tickers)})
        .with_columns(
            name="ticker",
            sector=pl.lit(None, pl.String),
            from_session=pl.lit(calendar.sessions[0]),
            to_session=pl.lit(None, pl.Date),
        )
        .match_to_schema(UNIVERSE_SCHEMA)
    )


def require_address(ticker: str) -> None:
    """Raises SourceError for a ticker that may not become part of an address."""
    if not re.fullmatch(r"[A-Za-z0-9^][A-Za-z0-9.^=&-]*", ticker):
        raise SourceError(f"Yahoo, ticker {ticker!r}: expected letters and digits, with . ^ = & - between")


def _ask(session: Any, ticker: str, *, first: date, last: date) -> pl.DataFrame:
    """Yahoo's history of `ticker` from `first` to `last` as `BARS`, at least one row.

    Raises UnknownTickerError where Yahoo says that there is nothing, QuietTickerError where the last trade was earlier,
    and Transient where it is no answer: an empty chart is also what a vendor in trouble sends. An error of our own is
    raised as it is.
    """
    from curl_cffi.requests.exceptions import RequestException

    from stock_assets.private.yfinance import UnreadableAnswerError, daily_history

    session.renewed.crumb = False
    try:
        history = daily_history(session, ticker, first=first, last=last)
    except UnreadableAnswerError as error:
        raise Transient(str(error)) from error
    except RequestException as error:
        raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
    if history.empty:
        raise Transient(_EMPTY)
    return _bars(history, ticker)


def _bars(history: "pd.DataFrame", ticker: str) -> pl.DataFrame:
    """An answer of yfinance, whose index holds the midnights of the exchange's own time zone, as `BARS`.

    Raises Transient where it lacks a column.
    """
    if missing := sorted({*_COLUMNS.values()} - {*history.columns}):
        raise Transient(f"an answer without {', '.join(missing)}")
    columns = {column: history[vendor_column].to_numpy(dtype=float) for column, vendor_column in _COLUMNS.items()}
    sessions = pl.Series([moment.date() for moment in history.index], dtype=pl.Date)
    bars = pl.DataFrame({"session": sessions, **columns}).with_columns(
        pl.col(*columns).fill_nan(None), place=pl.lit("Yahoo"), ticker=pl.lit(ticker)
    )
    return bars.with_columns(pl.col("split_ratio").replace(0.0, 1.0)).match_to_schema(BARS)


def judge_chart(response: Any, options: Mapping[str, Any]) -> None:
    """As `judge`, of an answer to the request with these options."""
    since = datetime.fromtimestamp(int(options["params"]["period1"]), UTC)
    wait = response.headers.get("Retry-After")
    judge(response.status_code, response.text, since=since, retry_after=wait, now=datetime.now(UTC))


def judge(status: int, text: str, *, since: datetime, retry_after: str | None, now: datetime) -> None:
    """Nothing where an answer of the chart endpoint, asked for bars since `since`, holds a chart.

    Raises UnknownTickerError where Yahoo says that there is nothing to be had (EmptyRangeError: in the range asked
    for), QuietTickerError where it has no bar and says that the last trade was before `since`, SourceError for a range
    that it has no longer, and Transient for the rest. `retry_after` is the header: seconds, or a date.
    """
    require_service(status, text, retry_after=retry_after, now=now)
    try:
        chart = json_within(text)["chart"]
        error, result = chart["error"], chart["result"]
    except (ValueError, KeyError, TypeError):
        raise Transient(f"no chart but {beginning(text)}") from None
    if error:
        reason = f"{error.get('code')}: {error.get('description')}"
        if any(words in reason for words in _TOO_OLD):
            raise SourceError(f"Yahoo says {reason} Expected a clock of this machine that is right")
        if _NOTHING_THERE in reason:
            raise EmptyRangeError(f"Yahoo says {reason}")
        if status in (400, 404, 422) or error.get("code") == "Not Found":
            raise UnknownTickerError(f"Yahoo says {reason}")
        raise Transient(reason)
    if not result:
        raise Transient(_EMPTY)
    if not result[0].get("timestamp") and (trading_days := _traded(result[0].get("meta") or {}, since)):
        raise QuietTickerError(f"Yahoo knows of no trade since {trading_days[1]}", trading_days)


def _traded(meta: Mapping[str, Any], since: datetime) -> tuple[date, date] | None:
    """The days of the first and the last trade of a ticker that has not traded since; None for any other.

    Yahoo states both of every ticker, in seconds since 1970. A ticker that traded lately and has no bar was not
    answered.
    """
    last = meta.get("regularMarketTime")
    if last is None or last >= since.timestamp():
        return None
    zone = timezone(timedelta(seconds=meta.get("gmtoffset", 0)))
    first = meta.get("firstTradeDate")
    first_day, last_day = (
        datetime.fromtimestamp(stamp, zone).date() for stamp in (last if first is None else first, last)
    )
    return first_day, last_day


def _from_settings(settings: Settings, say: Say) -> YahooSource:
    calendar, budget = calendar_of(settings), Budget(Politeness(per_second=settings.requests_per_second), say=say)
    if settings.interval != "1d":
        from stock_assets.market.intervals import Interval
        from stock_assets.market.sources.yahoo_bars import YahooBars

        return YahooBars(  # pyright: ignore[reportReturnType]: a source of universe and bars alone
            calendar,
            Interval.parse(settings.interval),
            tickers=settings.tickers,
            staged=settings.staged_answers,
            budget=budget,
            say=say,
        )
    return YahooSource(
        calendar,
        settings.tickers,
        on_progress=Pace("Yahoo", say),
        series=settings.context_series,
        staged=settings.staged_answers,
        budget=budget,
    )


register_source(
    "yahoo", _from_settings, "Yahoo Finance, through yfinance", lists_tickers=False, settle=DELAY + timedelta(minutes=5)
)
