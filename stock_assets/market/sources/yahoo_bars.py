"""Bars below a day from Yahoo Finance through yfinance, as far back as Yahoo has them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import polars as pl

from stock_assets.errors import EmptyRangeError, QuietTickerError, SourceError
from stock_assets.market.bar_tables import SOURCE_BAR_SCHEMA
from stock_assets.market.bars_of_minutes import FIGURES, KLINES, as_source_bars, in_bars, require_whole
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval
from stock_assets.market.sources import NOTHING_STORED, BarAnswer, bars_since, nothing_to_settle
from stock_assets.market.sources.answers import check_request
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Budget, Pace, Politeness, Transient
from stock_assets.market.sources.registry import Say
from stock_assets.market.sources.staging import Staging, staging
from stock_assets.market.sources.yahoo import DELAY, configured_universe, judge_chart, require_address
from stock_assets.market.sources.yahoo_session import polite_session

if TYPE_CHECKING:
    import pandas as pd


class Reach(NamedTuple):
    """Which bars of an interval Yahoo has."""

    back: timedelta
    """how old they are at most"""
    at_once: timedelta
    """how long the range of one request is at most"""


#: What Yahoo refuses to go beyond, in its own words "the requested range must be within the last 30 days" and "only 8
#: days worth of 1m granularity data are allowed to be fetched per request".
REACH = {
    "1m": Reach(timedelta(days=30), timedelta(days=7)),
    "5m": Reach(timedelta(days=60), timedelta(days=60)),
    "15m": Reach(timedelta(days=60), timedelta(days=60)),
    "1h": Reach(timedelta(days=730), timedelta(days=730)),
}
#: The last request of a fetch is later than its first, and Yahoo counts from its own clock.
MARGIN = timedelta(hours=6)
#: Kinds of tickers that have no volume, or none of their own: a bar of theirs without one is a bar.
WITHOUT_VOLUME = ("INDEX", "CURRENCY")

Page = tuple[pl.DataFrame, datetime]


class YahooBars:
    """Bars of chosen tickers, as Yahoo states them at the time of the call: adjusted for splits, not for dividends."""

    name: ClassVar[str] = "yahoo"

    def __init__(
        self,
        calendar: TradingCalendar,
        interval: Interval,
        base_url: str | None = None,
        *,
        tickers: tuple[str, ...] | None,
        staged: Path | None = None,
        budget: Budget | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """`base_url` gets every request in place of Yahoo, `say` a line about each split and about how far a long fetch
        is.

        In the folder `staged` answers wait for their rows to be stored; without one, a killed fetch begins anew.
        """
        self.calendar, self.interval, self.tickers = calendar, interval, tickers
        self.staged, self.say = staged, say
        self.budget = budget or Budget(Politeness())
        self._session = polite_session(self.budget, base_url, place="/v8/finance/chart/", judge=judge_chart)

    def universe(self) -> pl.DataFrame:
        """As `YahooSource.universe`."""
        return configured_universe(self.tickers, self.calendar)

    def fetch_bars(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        fetched_at: datetime,
        since: Mapping[str, datetime] = NOTHING_STORED,
    ) -> BarAnswer:
        """As `IntradaySource.fetch_bars`. `fetched_at` is the time of the call.

        One request has whole sessions, with `since` as well.

        A session that began before what Yahoo still has is not asked for, and is in `limits`. A bar is finished when it
        ended before the last trade that Yahoo states, or `DELAY` before the call. What an earlier call for the same
        range got on the same day (UTC), and was not settled, is not asked for again.

        A ticker fails with its answer: one that cannot be had, that Yahoo does not know, or whose bars do not fit the
        sessions. One of which Yahoo says that it has not traded since has no bars and is no failure.
        """
        check_request(first, last, fetched_at)
        now = fetched_at.astimezone(UTC)
        begun_sessions = [day for day in self.calendar.between(first, last) if self.calendar.opens[day] < now]
        oldest = now - REACH[self.interval.text].back + MARGIN
        ranges = self._ranges([day for day in begun_sessions if self.calendar.opens[day] >= oldest], now)
        limits = {}
        if begun_sessions and self.calendar.opens[begun_sessions[0]] < oldest:
            limits = dict.fromkeys(sorted(set(tickers)), self._first_session(oldest))
        if not ranges:
            return BarAnswer(SOURCE_BAR_SCHEMA.to_frame(), {}, limits)
        staged_answers = None
        if self.staged is not None:
            staged_answers = staging(self.staged, asked_on=now.date(), first=first, last=last)
            staged_answers.expect(len(set(tickers)))
        splits: dict[tuple[str, date], float] = {}
        answers, failures = of_each(
            tickers,
            lambda ticker: self._bars(ticker, ranges, now, staged_answers=staged_answers, splits=splits),
            budget=self.budget,
            on_progress=Pace("Yahoo", self.say),
        )
        bars = pl.concat([SOURCE_BAR_SCHEMA.to_frame(), *answers.values()])
        requested_bars = bars_since(bars.filter(pl.col("session").is_between(first, last)), since)
        return BarAnswer(
            requested_bars.sort("ticker", "bar_end"),
            failures,
            limits,
            settle=staged_answers.clear if staged_answers else nothing_to_settle,
            splits=splits,
        )

    def _first_session(self, oldest: datetime) -> date:
        """The first session that begins at `oldest` or later; the day after `oldest` where the calendar has none."""
        days = self.calendar.between(oldest.date() - timedelta(days=1), date.max)
        return next((day for day in days if self.calendar.opens[day] >= oldest), oldest.date() + timedelta(days=1))

    def _ranges(self, sessions: Sequence[date], now: datetime) -> list[tuple[datetime, datetime]]:
        """From when to when each request for `sessions` (ascending) goes: as many of them as one may hold."""
        ranges: list[tuple[datetime, datetime]] = []
        for day in sessions:
            opening, closing = self.calendar.opens[day], min(self.calendar.closes[day], now)
            if ranges and closing - ranges[-1][0] <= REACH[self.interval.text].at_once:
                ranges[-1] = (ranges[-1][0], closing)
            else:
                ranges.append((opening, closing))
        return ranges

    def _bars(
        self,
        ticker: str,
        ranges: Sequence[tuple[datetime, datetime]],
        now: datetime,
        *,
        staged_answers: Staging | None,
        splits: dict[tuple[str, date], float],
    ) -> pl.DataFrame:
        """The finished bars of `ticker` that begin within `ranges` (`SOURCE_BAR_SCHEMA`, sorted); the splits that its
        answers state are added to `splits`.

        Raises Exhausted, GivenUp, or SourceError naming the ticker.
        """
        require_address(ticker)
        pages, no_bars_error = [SOURCE_BAR_SCHEMA.to_frame()], None
        for begin, end in ranges:
            name = f"{ticker}@{begin:%Y%m%dT%H%M}-{end:%Y%m%dT%H%M}"
            if staged_answers is not None and (staged_page := staged_answers.load(name)) is not None:
                pages.append(staged_page)
                continue
            try:
                ask = partial(self._page, ticker, begin=begin, end=end, now=now, splits=splits)
                page, through = self.budget.patiently(ticker, ask)
            except QuietTickerError:
                break  # it has not traded in later ranges either
            except EmptyRangeError as error:
                no_bars_error = error
                continue
            if staged_answers is not None and end <= through:
                staged_answers.save(name, page)
            pages.append(page)
        if no_bars_error is not None and len(pages) == 1 and ranges[-1][1] < now - DELAY:
            raise no_bars_error
        return pl.concat(pages)

    def _page(
        self, ticker: str, *, begin: datetime, end: datetime, now: datetime, splits: dict[tuple[str, date], float]
    ) -> Page:
        """The finished bars of one request, and the moment up to which bars are final in it.

        Raises as `Budget.patiently` wants it.
        """
        from curl_cffi.requests.exceptions import RequestException

        from stock_assets.private.yfinance import UnreadableAnswerError, bar_history

        self._session.renewed.crumb = False
        try:
            history, meta = bar_history(self._session, ticker, first=begin, last=end, interval=self.interval.text)
        except UnreadableAnswerError as error:
            raise Transient(str(error)) from error
        except RequestException as error:
            raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
        through = min(now, max(_last_trade(meta), now - DELAY))
        if history.empty:  # rows without a figure, or what is traded while it answers: no chart at all raises
            return SOURCE_BAR_SCHEMA.to_frame(), through
        splits |= self._splits(history, ticker)
        klines = _klines(history, ticker)
        rows = in_bars(klines, self.calendar, self.interval)
        if rows.is_empty():
            raise SourceError(
                f"Yahoo, ticker {ticker}: found bars from {klines['at'].min()} to {klines['at'].max()}, none of which "
                f"begins in a session of {self.calendar.name}; expected a ticker of that exchange"
            )
        # the newest row may be the last trade alone, at its own moment
        rows = rows.filter((pl.col("at") == pl.col("bar_begin")) | (pl.col("at") != klines["at"].max()))
        require_whole(rows, self.calendar, self.interval, source=self.name)
        priced = ~pl.all_horizontal(pl.col(FIGURES[:4]).is_null())
        has_trade = pl.lit(meta.get("instrumentType") in WITHOUT_VOLUME) | (pl.col("volume") > 0)
        return as_source_bars(rows.filter(pl.col("bar_end") <= through, priced, has_trade), self.name), through

    def _splits(self, history: "pd.DataFrame", ticker: str) -> dict[tuple[str, date], float]:
        """The ratio of each split of an answer by ticker and session, with a line about it: what was stored before it
        is at another basis."""
        splits = {}
        for moment, ratio in zip(history.index, history["Stock Splits"], strict=True):
            if not ratio:
                continue
            splits[ticker, moment.date()] = float(ratio)
            self.say(
                f"{ticker} split {ratio:g}:1 on {moment:%Y-%m-%d}: Yahoo's bars before it are adjusted now, and those "
                "that were stored earlier are not; materialize raw_bars of the sessions before it again"
            )
        return splits


def _last_trade(meta: Mapping[str, Any]) -> datetime:
    """The moment of the last trade that Yahoo states; long ago where it states none."""
    moment = meta.get("regularMarketTime")
    return datetime.min.replace(tzinfo=UTC) if moment is None else moment.to_pydatetime().astimezone(UTC)


def _klines(history: "pd.DataFrame", ticker: str) -> pl.DataFrame:
    """An answer of yfinance, whose index holds moments in the exchange's time zone, as `KLINES`.

    Raises Transient where it lacks a column.
    """
    if missing := sorted({figure.title() for figure in FIGURES} - {*history.columns}):
        raise Transient(f"an answer without {', '.join(missing)}")
    figures = {figure: history[figure.title()].to_numpy(dtype=float) for figure in FIGURES}
    at = pl.Series("at", history.index.tz_convert("UTC").tz_localize(None).to_numpy(), dtype=pl.Datetime("us"))  # pyright: ignore[reportAttributeAccessIssue]
    rows = pl.DataFrame({"at": at.dt.replace_time_zone("UTC"), **figures}).with_columns(ticker=pl.lit(ticker))
    return rows.with_columns(pl.col(*FIGURES).fill_nan(None)).match_to_schema(KLINES)
