"""Bars from a live exchange of cryptocurrencies through ccxt: public klines of spot markets, without a key."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bars_of_minutes import KLINES, bars_of_klines, traded
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import MarketContext, context_of
from stock_assets.market.intervals import Interval
from stock_assets.market.sources import NOTHING_STORED, Answer, BarAnswer, Failure, bars_since, nothing_to_settle
from stock_assets.market.sources.answers import BARS, check_request, check_values, with_history
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Budget, Exhausted, GivenUp, Pace
from stock_assets.market.sources.ccxt_client import ExchangeClient, polite_pace
from stock_assets.market.sources.registry import Say, register_source
from stock_assets.market.sources.staging import Staging, staging
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import PREFIX, Settings

#: Exchanges that answer with so many of the newest klines whatever is asked for; older ones cannot be had.
#: https://docs.kraken.com/api-reference/market-data/get-ohlc-data
NEWEST_ONLY = {"kraken": 720}
#: A clock that differs from ours by more than this is worth a line.
CLOCKS_APART = timedelta(seconds=30)
_SYMBOL = r"[A-Za-z0-9.$_-]+/[A-Za-z0-9.$_-]+"


class CcxtSource:
    """Bars of chosen spot markets of one exchange, as it states them at the time of the call.

    A ticker is spelled as ccxt spells a spot market: BTC/USDT, base and quote in capitals.
    """

    name: ClassVar[str] = "ccxt"

    def __init__(
        self,
        client: ExchangeClient,
        calendar: TradingCalendar,
        interval: Interval,
        *,
        tickers: tuple[str, ...] | None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
        staged: Path | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """`on_progress` gets the numbers of tickers done and asked for, `say` a line about a clock that is wrong.

        In the folder `staged` pages wait for their rows to be stored; without one, a killed fetch begins anew.
        """
        self.client, self.calendar, self.interval, self.tickers = client, calendar, interval, tickers
        self.on_progress, self.staged, self.say = on_progress, staged, say

    def universe(self) -> pl.DataFrame:
        """The configured tickers from the calendar's first session on, open-ended (`UNIVERSE_SCHEMA`).

        Raises SourceError when no ticker is configured, or one is not spelled as a spot market.
        """
        if not self.tickers:
            raise SourceError(f"{PREFIX}TICKERS is not set; the source ccxt expects the spot markets to ask for")
        for ticker in self.tickers:
            _require_symbol(ticker)
        return (
            pl.DataFrame({"ticker": sorted(self.tickers)})
            .with_columns(
                name="ticker",
                sector=pl.lit(None, pl.String),
                from_session=pl.lit(self.calendar.sessions[0]),
                to_session=pl.lit(None, pl.Date),
            )
            .match_to_schema(UNIVERSE_SCHEMA)
        )

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

        What was unfinished by the exchange's clock when it was asked is unfinished, whatever ours shows. Pages that an
        earlier call for the same range got on the same day (UTC), and that were not settled, are not asked for again.
        """
        klines_of_request = self._ask(tickers, first, last, fetched_at=fetched_at, after=since)
        klines = pl.concat([KLINES.to_frame(), *(klines for klines, _ in klines_of_request.histories.values())])
        bars = bars_of_klines(klines, self.calendar, self.interval, source=self.name, through=klines_of_request.through)
        limits = {
            ticker: next(day for day in self.calendar.between(first, date.max) if self.calendar.closes[day] > oldest)
            for ticker, (_, oldest) in klines_of_request.histories.items()
            if oldest is not None
        }
        requested_bars = bars_since(bars.filter(pl.col("session").is_between(first, last)), since)
        return BarAnswer(requested_bars, klines_of_request.failures, limits, settle=klines_of_request.settle)

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """As `Source.fetch`, of klines of a day: the exchanges' days are those of UTC.

        Raises SourceError where the sessions are not.
        """
        midnight = {(moment.hour, moment.minute) for moment in (self.calendar.opens[day] for day in self._days())}
        if midnight != {(0, 0)}:
            raise SourceError(
                f"the sessions of {self.calendar.name} are not the days of UTC, which the exchanges' daily klines are "
                f"of; expected {PREFIX}EXCHANGE=24/7 without {PREFIX}SESSION_HOURS, or an interval below 1d"
            )
        klines_of_request = self._ask(tickers, first, last, fetched_at=fetched_at)
        klines = pl.concat([KLINES.to_frame(), *(klines for klines, _ in klines_of_request.histories.values())])
        length = self.interval.length
        days = traded(
            klines.filter(pl.col("at") + length <= klines_of_request.through).unique(
                ["ticker", "at"], keep="last", maintain_order=True
            )
        )
        bars = days.select(
            *("ticker", "open", "high", "low", "close", "volume"),
            place=pl.lit(self.client.name),
            session=pl.col("at").dt.date(),
            adj_close="close",
            dividend=pl.lit(None, pl.Float64),
            split_ratio=pl.lit(None, pl.Float64),
        ).match_to_schema(BARS)
        check_values(bars)
        rows = with_history(bars.sort("ticker", "session")).with_columns(
            source=pl.lit(self.name), fetched_at=pl.lit(fetched_at.astimezone(UTC))
        )
        rows = rows.select(RAW_SCHEMA.names()).cast(dict(RAW_SCHEMA))  # pyright: ignore[reportArgumentType]
        spans = {
            ticker: (oldest.date(), klines_of_request.through.date())
            for ticker, (_, oldest) in klines_of_request.histories.items()
            if oldest is not None
        }
        requested_rows = rows.filter(pl.col("session").is_between(first, last))
        return Answer(requested_rows, klines_of_request.failures, spans, settle=klines_of_request.settle)

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        """An exchange of cryptocurrencies has no context series."""
        return context_of(
            BARS.to_frame(), self.calendar, first=first, last=last, source=self.name, fetched_at=fetched_at
        )

    def _days(self) -> tuple[date, ...]:
        return self.calendar.sessions[:1] + self.calendar.sessions[-1:]

    def _ask(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        fetched_at: datetime,
        after: Mapping[str, datetime] = NOTHING_STORED,
    ) -> "_Found":
        """The klines of the sessions from `first` to `last`, of a ticker in `after` those that begin at that moment or
        later; and which tickers failed, and why."""
        check_request(first, last, fetched_at)
        self.client.require_timeframe(self.interval.text)
        sessions = self.calendar.between(first, last)
        staged_pages = None
        if self.staged is not None:
            staged_pages = staging(self.staged, asked_on=fetched_at.astimezone(UTC).date(), first=first, last=last)
        try:
            through = self._finished_through(fetched_at)
            self.client.load_markets(tickers)
        except (Exhausted, GivenUp) as error:
            raise SourceError(f"{self.client.name} does not answer: {error}") from error
        if not sessions or self.calendar.opens[sessions[0]] >= through:
            return _Found({}, {}, through, nothing_to_settle)
        since = self.calendar.opens[sessions[0]]
        until = min(self.calendar.closes[sessions[-1]], through)

        def ask(ticker: str) -> tuple[pl.DataFrame, datetime | None]:
            _require_symbol(ticker)
            begin = max(since, after.get(ticker, since))
            klines, oldest = self._klines(ticker, since=begin, until=until, through=through, staged_pages=staged_pages)
            if begin > since and klines.height and klines["volume"].fill_nan(None).sum() == 0:
                # no trade so far, or a ticker that never has a volume: the whole session shows which (`traded`)
                return self._klines(ticker, since=since, until=until, through=through, staged_pages=staged_pages)
            return klines, oldest

        histories, failures = of_each(tickers, ask, budget=self.client.budget, on_progress=self.on_progress)
        return _Found(histories, failures, through, staged_pages.clear if staged_pages else nothing_to_settle)

    def _finished_through(self, fetched_at: datetime) -> datetime:
        """What ended by then is finished by our clock and by the exchange's, which was read before the klines are."""
        exchange_time = self.client.moment()
        if exchange_time is None:
            return fetched_at.astimezone(UTC)
        if abs(exchange_time - fetched_at) > CLOCKS_APART:
            ahead = "ahead of" if exchange_time > fetched_at else "behind"
            self.say(
                f"the clock of {self.client.name} is {abs(exchange_time - fetched_at).total_seconds():.0f} s {ahead} "
                "ours; bars count as finished by the one that is behind"
            )
        return min(exchange_time, fetched_at.astimezone(UTC))

    def _klines(
        self, ticker: str, *, since: datetime, until: datetime, through: datetime, staged_pages: Staging | None
    ) -> tuple[pl.DataFrame, datetime | None]:
        """The klines of `ticker` that begin from `since` on and before `until` (`KLINES`), and the oldest one there is
        where the exchange has none so old.

        Each page begins where the one before ended, so that neither a gap nor a listing costs more than one request;
        where a page is empty, the newest klines tell whether the market has ended.
        """
        limit, length = self.client.most_klines(), self.interval.length
        pages = [KLINES.to_frame()]
        at = since
        end_of_gap: datetime | None = None
        while at < until:
            page = staged_pages.load(f"{ticker}@{at:%Y%m%dT%H%M}") if staged_pages else None
            if page is None:
                page = self.client.klines(ticker, self.interval.text, since=at, limit=limit)
                newest = page["at"].max() or at + ((limit or 1) - 1) * length
                if staged_pages is not None and newest + length <= through:  # pyright: ignore[reportOperatorIssue]
                    staged_pages.save(f"{ticker}@{at:%Y%m%dT%H%M}", page)
            of_page = page.filter(pl.col("at") >= at)
            if at == since and (oldest := self._oldest(page, since)):
                return page.filter(pl.col("at").is_between(since, until, closed="left")), oldest
            pages.append(of_page.filter(pl.col("at") < until))
            if of_page.height:
                at = cast(datetime, of_page["at"].max()) + length
                continue
            if end_of_gap is None:
                newest = self.client.klines(ticker, self.interval.text, since=None, limit=limit)["at"].max()
                end_of_gap = newest or at  # pyright: ignore
            if at > end_of_gap:  # pyright: ignore[reportOperatorIssue]
                break
            at += (limit or 1) * length
        return pl.concat(pages), None

    def _oldest(self, page: pl.DataFrame, since: datetime) -> datetime | None:
        """When the oldest kline of the exchange begins, where it has the newest alone and `since` is older; else None.

        A market with fewer klines than the exchange keeps was listed later: then there are no older ones.
        """
        page_limit = NEWEST_ONLY.get(self.client.name)
        if page_limit is None or page.height < page_limit:
            return None
        oldest = page["at"].min()
        return oldest if oldest > since else None  # pyright: ignore[reportReturnType, reportOperatorIssue]


class _Found(NamedTuple):
    """What was asked of an exchange."""

    histories: dict[str, tuple[pl.DataFrame, datetime | None]]
    failures: dict[str, Failure]
    through: datetime
    settle: Callable[[], None]


def _require_symbol(ticker: str) -> None:
    if not re.fullmatch(_SYMBOL, ticker):
        raise SourceError(f"ccxt, ticker {ticker!r}: expected a spot market as ccxt spells it, such as BTC/USDT")


def _from_settings(settings: Settings, say: Say) -> CcxtSource:
    name = settings.ccxt_exchange
    requests_per_second = settings.requests_per_second if "requests_per_second" in settings.model_fields_set else None
    budget = Budget(polite_pace(name, requests_per_second), say=say)
    return CcxtSource(
        ExchangeClient(name, budget, markets_file=settings.data_dir / f"markets-{name}.json"),
        calendar_of(settings),
        Interval.parse(settings.interval),
        tickers=settings.tickers,
        on_progress=Pace(name, say),
        staged=settings.staged_answers,
        say=say,
    )


register_source("ccxt", _from_settings, "a live exchange of cryptocurrencies, through ccxt", lists_tickers=False)
