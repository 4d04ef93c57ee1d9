"""A simulated market: the embedded default source. No price, name or event in it is real.

Its laws are in `simulated_laws`. As they are written down, the best score that a forecast could reach is known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import ClassVar

import numpy as np
import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import SERIES, VOLATILITY, MarketContext
from stock_assets.market.sources import Answer
from stock_assets.market.sources.registry import register_source
from stock_assets.market.sources.simulated_companies import COMPANIES, DELISTED, LISTED, SECTOR, SECTORS, TICKERS
from stock_assets.market.sources.simulated_context import context_bars
from stock_assets.market.sources.simulated_filter import beliefs
from stock_assets.market.sources.simulated_laws import (
    FILTER_STREAM,
    ORACLE_STREAM,
    History,
    State,
    as_quoted,
    draw_shocks,
    expected_return,
    history_to,
    step,
)
from stock_assets.market.sources.simulated_schedule import ORACLE_SCHEDULE, Dates, draw_reactions
from stock_assets.market.tables import CONTEXT_SCHEMA, RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import Settings
from stock_assets.tables import UTC_TIME


@dataclass(frozen=True)
class SimulatedSource:
    """The simulated market as a vendor of daily bars (the `Source` protocol). Its prices are not real.

    The market begins at `calendar.sessions[0]`. The same `seed` gives the same market whatever is asked, in
    whatever order and process: rows depend on nothing after them. `tickers` narrows what is offered, never
    what happens.
    """

    name: ClassVar[str] = "simulated"

    calendar: TradingCalendar
    seed: int = 0
    tickers: tuple[str, ...] | None = None
    series: tuple[str, ...] = SERIES

    def universe(self) -> pl.DataFrame:
        """`UNIVERSE_SCHEMA`, sorted by ticker; from a company's first to its last bar, null while it trades.

        A listing beyond the end of the calendar is left out. Raises SourceError where `tickers` names an
        unknown one.
        """
        sessions = self.calendar.sessions
        rows = [
            (
                TICKERS[j],
                f"Simulated {SECTORS[SECTOR[j]]} Company {j + 1:02d} (not a real company)",
                SECTORS[SECTOR[j]],
                sessions[LISTED[j]],
                sessions[DELISTED[j] - 1] if DELISTED[j] <= len(sessions) else None,
            )
            for j in self._company_numbers()
            if LISTED[j] < len(sessions)
        ]
        return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row")

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """The bars of `tickers` from `first` to `last` as a vendor shows them at `fetched_at` (`RAW_SCHEMA`).

        Only sessions closed by `fetched_at` exist. Prices, dividends and volumes are adjusted for the splits
        known by then: times `later_splits` (a volume divided by it) they are as traded, the same in every
        answer. `adj_close` is adjusted for the dividends too. `previous_adj_close` is null on a ticker's very
        first bar only, and otherwise known even for the bar at `first`.

        Raises SourceError for an unknown ticker, EmptySourceError when no ticker has a bar.
        """
        companies = _companies(tickers, [TICKERS[j] for j in self._company_numbers()])
        last_closed = self.calendar.last_closed(fetched_at)
        requested_sessions = self.calendar.between(first, min(last, last_closed)) if last_closed else ()
        frame = pl.DataFrame()
        if last_closed and requested_sessions:
            count, positions = self.calendar.position(last_closed) + 1, self._positions(requested_sessions)
            bars = self._history_to(count - 1).bars
            quoted_bars = as_quoted({name: array[:count] for name, array in bars.items()})
            frame = self._table(companies, positions, {name: array[positions] for name, array in quoted_bars.items()})
        if frame.is_empty():
            range_text = (
                f"sessions from {self.calendar.sessions[0]} to {last_closed}" if last_closed else "no closed session"
            )
            raise EmptySourceError(
                f"the simulated market has no bar of {_first_tickers(tickers) or 'no ticker'} from {first} to {last}; "
                f"at {fetched_at} it has {range_text}"
            )
        bars = frame.with_columns(
            pl.col("previous_adj_close").fill_nan(None),
            source=pl.lit(self.name),
            fetched_at=pl.lit(fetched_at.astimezone(UTC)),
        )
        return Answer(bars.match_to_schema(RAW_SCHEMA))

    @property
    def made_by(self) -> str:
        """As `InventsBars.made_by`."""
        return f"this version's simulated market of seed {self.seed} that begins on {self.calendar.sessions[0]}"

    def invented(self, sessions: Sequence[date]) -> pl.DataFrame:
        """As `InventsBars.invented`."""
        calendar_sessions = set(self.calendar.sessions)
        positions = self._positions([session for session in sessions if session in calendar_sessions])
        closes = self._history_to(positions.max(initial=0)).bars["close"]
        return self._table(self._company_numbers(), positions, {"close": closes[positions]})

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        """As `Source.context`, by the laws of `simulated_context`."""
        last_closed = self.calendar.last_closed(fetched_at)
        requested_sessions = self.calendar.between(first, min(last, last_closed)) if last_closed else ()
        if not requested_sessions or not self.series:
            return MarketContext(CONTEXT_SCHEMA.to_frame(), {})
        positions = self._positions(requested_sessions)
        days = pl.DataFrame(
            {"position": positions, "session": requested_sessions}, schema_overrides={"session": pl.Date}
        )
        bars = context_bars(self.series, positions, self._history_to(positions[-1]), seed=self.seed)
        rows = bars.join(days, on="position", maintain_order="left").rename({"ticker": "series"})
        rows = rows.with_columns(source=pl.lit(self.name), fetched_at=pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME))
        return MarketContext(rows.select(CONTEXT_SCHEMA.names()), {})

    def oracle_probabilities(
        self,
        sessions: Sequence[date],
        *,
        horizon: int,
        buy_threshold: float,
        sell_threshold: float,
        paths: int = 2000,
        dates: Dates = "published",
    ) -> pl.DataFrame:
        """The true probabilities of each listed ticker's three labels, given the true state at each close.

        Monte Carlo over `paths` continuations by `step`. Thresholds are positive fractions: the first return
        since the close above `buy_threshold` or below -`sell_threshold` within `horizon` sessions decides,
        else hold. The dates of announcements are drawn given what is published at the close, moves and
        announcements without notice included: no forecast can expect a lower log-loss. With `dates` "past" they
        are drawn given the past announcements alone, with "none" given only how frequent they are: what a
        forecast without a calendar, or without any date, can reach at best. Each count starts at 1/3 so that no
        probability is 0; their standard error is at most 0.5 / sqrt(paths).

        Returns ticker, session, p_sell, p_hold, p_buy, sorted by ticker and session.
        """
        positions, states = self._states(sessions)
        thresholds = buy_threshold, sell_threshold
        counts = np.zeros((3, len(positions), COMPANIES))
        for row, position in enumerate(positions.tolist()):
            state = State(*(field[row] for field in states))
            counts[:, row] = self._labels(state, position, horizon, thresholds=thresholds, paths=paths, dates=dates)
        return self._probabilities(positions, counts, paths)

    def filtered_probabilities(
        self,
        sessions: Sequence[date],
        *,
        horizon: int,
        buy_threshold: float,
        sell_threshold: float,
        paths: int = 2000,
    ) -> pl.DataFrame:
        """The same of a forecaster that knows the laws but not the state: it has seen prices, ^VIX and the published
        dates up to each close (`simulated_filter`). What a forecast can reach with what there is to see."""
        positions = self._positions(sessions)
        thresholds = buy_threshold, sell_threshold
        counts = np.zeros((3, len(positions), COMPANIES))
        if not len(positions):
            return self._probabilities(positions, counts, paths)
        count = int(positions.max()) + 1
        bars = context_bars((VOLATILITY,), np.arange(count), self._history_to(count - 1), seed=self.seed)
        belief = beliefs(self.seed, count, tuple(bars["close"].to_list()))
        for row, position in enumerate(positions.tolist()):
            state = belief.draw(np.random.default_rng([self.seed, FILTER_STREAM, position]), position, paths)
            counts[:, row] = self._labels(
                state, position, horizon, thresholds=thresholds, paths=paths, dates="published"
            )
        return self._probabilities(positions, counts, paths)

    def _labels(
        self,
        state: State,
        position: int,
        horizon: int,
        *,
        thresholds: tuple[float, float],
        paths: int,
        dates: Dates,
    ) -> np.ndarray:
        """How many of `paths` continuations from `state` at the close at `position` end as sell, hold, buy, [3, 60]."""
        rng = np.random.default_rng([self.seed, ORACLE_STREAM, position])
        schedule = np.random.default_rng([self.seed, ORACLE_SCHEDULE, position])
        wealth, label = np.ones((paths, COMPANIES)), np.zeros((paths, COMPANIES), np.int8)
        for reacts in draw_reactions(schedule, position, seed=self.seed, horizon=horizon, paths=paths, dates=dates):
            returns, state = step(state, draw_shocks(rng, (paths,)), reacts)
            wealth *= 1 + returns
            touch = (wealth > 1 + thresholds[0]).astype(np.int8) - (wealth < 1 - thresholds[1])
            label = np.where(label == 0, touch, label)
        return np.stack([(label == value).sum(axis=0) for value in (-1, 0, 1)])

    def _probabilities(self, positions: np.ndarray, counts: np.ndarray, paths: int) -> pl.DataFrame:
        p_sell, p_hold, p_buy = (counts + 1 / 3) / (paths + 1)
        return self._table(self._company_numbers(), positions, {"p_sell": p_sell, "p_hold": p_hold, "p_buy": p_buy})

    def expected_next_return(self, sessions: Sequence[date]) -> pl.DataFrame:
        """The true mean of the next session's total return, a fraction, given the true state at each close.

        Announcements move volatility alone: the mean is the same whatever is known of them.
        Returns ticker, session, expected_return, sorted by ticker and session, of each ticker listed then.
        """
        positions, states = self._states(sessions)
        return self._table(self._company_numbers(), positions, {"expected_return": expected_return(states)})

    def _company_numbers(self) -> list[int]:
        return _companies(self.tickers or TICKERS, TICKERS)

    def _positions(self, sessions: Sequence[date]) -> np.ndarray:
        return np.array(sorted({self.calendar.position(session) for session in sessions}), int)

    def _history_to(self, position: int) -> History:
        return history_to(self.seed, position)

    def _states(self, sessions: Sequence[date]) -> tuple[np.ndarray, State]:
        positions = self._positions(sessions)
        states = self._history_to(positions.max(initial=0)).states
        return positions, State(*(field[positions] for field in states))

    def _table(self, companies: list[int], positions: np.ndarray, columns: dict[str, np.ndarray]) -> pl.DataFrame:
        """Arrays of (positions, all companies) as rows of ticker, session, … for `companies` when listed."""
        company = np.repeat(np.array(companies, int), len(positions))
        position = np.tile(positions, len(companies))
        days = [self.calendar.sessions[i] for i in positions]
        keys = {
            "ticker": pl.Series([TICKERS[j] for j in company], dtype=pl.String),
            "session": pl.Series(days * len(companies), dtype=pl.Date),
        }
        frame = pl.DataFrame(keys | {name: array[:, companies].T.ravel() for name, array in columns.items()})
        return frame.filter((position >= LISTED[company]) & (position < DELISTED[company]))


def _companies(tickers: Iterable[str], offered_tickers: Sequence[str]) -> list[int]:
    """The indices of `tickers`, ascending. Raises SourceError where one is not on offer."""
    requested_tickers = set(tickers)
    if unknown := requested_tickers - set(offered_tickers):
        raise SourceError(
            f"the simulated market has no ticker {_first_tickers(unknown)}; it has {_first_tickers(offered_tickers)}"
        )
    return sorted(TICKERS.index(ticker) for ticker in requested_tickers)


def _first_tickers(tickers: Iterable[str]) -> str:
    names = sorted(set(tickers))
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:3])}, … {names[-1]} ({len(names)} tickers)"


def _made_for(settings: Settings) -> SimulatedSource:
    """The market of the settings; below 1d that of `simulated_bars`, which is a source of universe and bars alone."""
    if settings.interval != "1d":
        from stock_assets.market.sources.simulated_bars import SimulatedBars

        return SimulatedBars.of(settings)  # pyright: ignore[reportReturnType]: see above
    return SimulatedSource(calendar_of(settings), settings.seed, settings.tickers, settings.context_series)


register_source(
    "simulated",
    lambda settings, _: _made_for(settings),
    "an invented market with known laws; no price is real",
)
