"""The simulated market at an interval below a day. No price, name or event in it is real.

The laws. Time runs in minutes of the sessions. With independent standard normal ε and the company's own volatility of a
session V_j, the log return of a minute is

    r_t = σ_t · (ε_t - 0.04 · (ε_{t-1} + … + ε_{t-10}))             the planted reversal: 10 minutes are remembered
    σ_t = V_j · √(1 / minutes of the session) · season_t · exp(h)     season: a U over the session, mean square near 1
    h'  = 0.95 · h + 0.15 · η                                        every 60 minutes: volatility that clusters

The shocks of tickers have a correlation of 0.3. A bar of more minutes is made of its minutes. As in real data, minutes
are missing: of a ticker now and then, and of all in an outage; SIM20 is listed at noon of the fourth session.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import ClassVar

import numpy as np
import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.bar_tables import SOURCE_BAR_SCHEMA
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.intervals import Interval, bar_ends, stretches
from stock_assets.market.sources import NOTHING_STORED, BarAnswer, bars_since
from stock_assets.market.sources.answers import check_request
from stock_assets.market.sources.simulated_companies import (
    FIRST_PRICE,
    OWN_VOLATILITY,
    SECTOR,
    SECTORS,
    TICKERS,
    TURNOVER,
)
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.settings import Settings
from stock_assets.tables import UTC_TIME

#: The tickers of this market: the first of the daily one.
COMPANIES = 20
#: SIM20 has its first bar at noon of this session of the calendar.
LATE, LATE_SESSION = 19, 3
#: Minutes that a shock is reversed over, and by what share of it each.
MEMORY, REVERSAL = 10, 0.04
_COMMON, _PERSISTENCE, _INNOVATION, _BLOCK = 0.3, 0.95, 0.15, 60
#: Minutes of a session in which one ticker, and in which all of them, have no bar: chances by minute and by session.
_HOLES, _OUTAGES = 0.0005, 0.1
_STREAM = 1_001


@dataclass(frozen=True)
class SimulatedBars:
    """The simulated market as a vendor of bars below a day (the `IntradaySource` protocol). Its prices are not real.

    The market begins at `calendar.sessions[0]`. The same `seed` gives the same market whatever is asked, in whatever
    order and process: rows depend on nothing after them.
    """

    name: ClassVar[str] = "simulated"

    calendar: TradingCalendar
    interval: Interval
    seed: int = 0
    tickers: tuple[str, ...] | None = None

    @classmethod
    def of(cls, settings: Settings) -> "SimulatedBars":
        """The market that the settings name."""
        return cls(calendar_of(settings), Interval.parse(settings.interval), settings.seed, settings.tickers)

    def universe(self) -> pl.DataFrame:
        """`UNIVERSE_SCHEMA`, sorted by ticker. Raises SourceError where `tickers` names an unknown one."""
        sessions = self.calendar.sessions
        rows = [
            (
                TICKERS[j],
                f"Simulated {SECTORS[SECTOR[j]]} Company {j + 1:02d} (not a real company)",
                SECTORS[SECTOR[j]],
                sessions[LATE_SESSION if j == LATE else 0],
                None,
            )
            for j in self._companies(self.tickers or TICKERS[:COMPANIES])
            if j != LATE or len(sessions) > LATE_SESSION
        ]
        return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row")

    def fetch_bars(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        fetched_at: datetime,
        since: Mapping[str, datetime] = NOTHING_STORED,
    ) -> BarAnswer:
        """As `IntradaySource.fetch_bars`. Raises SourceError for an unknown ticker."""
        check_request(first, last, fetched_at)
        companies = self._companies(tickers)
        sessions = [day for day in self.calendar.between(first, last) if self.calendar.opens[day] < fetched_at]
        parts = [self._session(day, companies) for day in sessions]
        rows = pl.concat([SOURCE_BAR_SCHEMA.to_frame(), *parts])
        finished_bars = rows.filter(pl.col("bar_end") <= fetched_at)
        return BarAnswer(bars_since(finished_bars, since).sort("ticker", "bar_end"))

    def expected_returns(self, sessions: Sequence[date], horizon: int) -> pl.DataFrame:
        """ticker, session, bar_end, expected_return: the true mean of the log return of the next `horizon` minutes of
        the same session, given all shocks so far. At the interval 1m alone."""
        parts = []
        for day in sessions:
            path = _path(self.calendar, self.seed, self.calendar.position(day))
            ahead = np.zeros_like(path.shocks)
            count = len(path.shocks)
            shocks_with_memory = np.concatenate([path.before, path.shocks])  # [MEMORY + minutes, companies]
            for k in range(1, horizon + 1):  # the k-th minute ahead remembers what lies MEMORY - k + 1 back
                sigma = np.concatenate([path.sigma, np.zeros((k, COMPANIES))])[k : k + count]
                weights = range(MEMORY - k + 1)
                past_shocks = sum(
                    (shocks_with_memory[MEMORY - lag : MEMORY - lag + count] for lag in weights), np.zeros_like(ahead)
                )
                ahead += -REVERSAL * sigma * past_shocks
            ends = bar_ends(self.calendar, day, Interval.parse("1m"))
            parts.append(_frame(day, ends, list(range(COMPANIES)), columns={"expected_return": ahead}))
        return pl.concat(parts).sort("ticker", "bar_end")

    def _session(self, day: date, companies: list[int]) -> pl.DataFrame:
        """The bars of a whole session (`SOURCE_BAR_SCHEMA`), unsorted."""
        path = _path(self.calendar, self.seed, self.calendar.position(day))
        minutes = _frame(day, bar_ends(self.calendar, day, Interval.parse("1m")), companies, columns=path.figures)
        rows = minutes.filter(pl.col("there")).drop("there")
        if self.interval.minutes > 1:
            ends = pl.DataFrame({"end": bar_ends(self.calendar, day, self.interval)})
            rows = rows.sort("bar_end").join_asof(ends, left_on="bar_end", right_on="end", strategy="forward")
            rows = rows.group_by("ticker", "session", "end").agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.col("volume").sum(),
            )
            rows = rows.rename({"end": "bar_end"})
        return rows.with_columns(source=pl.lit(self.name)).match_to_schema(SOURCE_BAR_SCHEMA)

    def _companies(self, tickers: Sequence[str]) -> list[int]:
        offered_tickers = TICKERS[:COMPANIES]
        if unknown := sorted(set(tickers) - set(offered_tickers)):
            raise SourceError(
                f"the simulated market has no ticker {', '.join(unknown[:5])} at {self.interval.text}; it has "
                f"{offered_tickers[0]} to {offered_tickers[-1]}"
            )
        return sorted(TICKERS.index(ticker) for ticker in set(tickers))


@dataclass(frozen=True)
class _Path:
    """A session of all companies, [minutes, companies] each."""

    shocks: np.ndarray
    before: np.ndarray
    """the last MEMORY shocks of the session before"""
    sigma: np.ndarray
    figures: dict[str, np.ndarray]
    last: np.ndarray
    """the log price at its end, [companies]"""
    level: np.ndarray
    """h at its end, [companies]"""


@lru_cache(maxsize=8)
def _path(calendar: TradingCalendar, seed: int, position: int) -> _Path:
    """The session at `position`, made of the one before it."""
    start = position
    states = _KNOWN.setdefault((calendar.name, calendar.sessions[0], seed), {})
    while start > 0 and start - 1 not in states:
        start -= 1
    for earlier_position in range(start, position):
        path = _next(calendar, seed, earlier_position, states=states)
        states[earlier_position] = (path.last, path.level, path.shocks[-MEMORY:])
    return _next(calendar, seed, position, states=states)


#: By market, the end of every session that was made: log price, level and last shocks.
_KNOWN: dict[tuple[str, date, int], dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}


def _next(calendar: TradingCalendar, seed: int, position: int, *, states: dict[int, tuple[np.ndarray, ...]]) -> _Path:
    day = calendar.sessions[position]
    count = int(sum((stop - start for start, stop in stretches(calendar, day)), timedelta()) / timedelta(minutes=1))
    rng = np.random.default_rng([seed, _STREAM, position])
    zeros = np.zeros((MEMORY, COMPANIES))
    price, level, before = states[position - 1] if position else (np.log(FIRST_PRICE[:COMPANIES]), zeros[0], zeros)
    shocks = np.sqrt(_COMMON) * rng.standard_normal((count, 1)) + np.sqrt(1 - _COMMON) * rng.standard_normal(
        (count, COMPANIES)
    )
    blocks = -(-count // _BLOCK)
    steps = _INNOVATION * rng.standard_normal((blocks, COMPANIES))
    levels = np.empty((blocks, COMPANIES))
    for block in range(blocks):
        level = _PERSISTENCE * level + steps[block]
        levels[block] = level
    along = (np.arange(count) + 0.5) / count
    season = (0.75 + 1.0 * (2 * along - 1) ** 2)[:, None]
    usual = OWN_VOLATILITY[:COMPANIES] / np.sqrt(count)
    sigma = usual * season * np.exp(np.repeat(levels, _BLOCK, axis=0)[:count])
    sums = np.cumsum(np.concatenate([zeros[:1], before, shocks]), axis=0)
    memory_sums = sums[MEMORY : MEMORY + count] - sums[:count]
    returns = sigma * (shocks - REVERSAL * memory_sums)
    closes = price + np.cumsum(returns, axis=0)
    opens = np.concatenate([price[None], closes[:-1]])
    reach = sigma * np.abs(rng.standard_normal((2, count, COMPANIES)))
    busy = np.exp(0.5 * rng.standard_normal((count, COMPANIES))) * season * np.abs(1 + np.abs(shocks))
    has_trade = rng.random((count, COMPANIES)) >= _HOLES
    if rng.random() < _OUTAGES:
        begins = int(rng.integers(count))
        has_trade[begins : begins + int(rng.integers(2, 15))] = False
    if position <= LATE_SESSION:
        has_trade[: count if position < LATE_SESSION else count // 2, LATE] = False
    figures = {
        "open": np.exp(opens),
        "high": np.exp(np.maximum(opens, closes) + reach[0]),
        "low": np.exp(np.minimum(opens, closes) - reach[1]),
        "close": np.exp(closes),
        "volume": TURNOVER[:COMPANIES] / np.exp(closes) / count * busy,
        "there": has_trade,
    }
    return _Path(shocks, before, sigma, figures, closes[-1], level)


def _frame(day: date, ends: pl.Series, companies: list[int], *, columns: dict[str, np.ndarray]) -> pl.DataFrame:
    """Arrays of [minutes, companies] as rows of ticker, session, bar_end, … of `companies`."""
    count = len(ends)
    keys = {
        "ticker": pl.Series(np.repeat([TICKERS[j] for j in companies], count), dtype=pl.String),
        "session": pl.repeat(day, count * len(companies), dtype=pl.Date, eager=True),
        "bar_end": pl.concat([ends] * len(companies)).cast(UTC_TIME) if companies else pl.Series([], dtype=UTC_TIME),
    }
    return pl.DataFrame(keys | {name: values[:, companies].T.ravel() for name, values in columns.items()})
