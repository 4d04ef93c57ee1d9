"""What the dates of earnings announcements say of a ticker: whether one comes within the horizon of a label, how much
past ones moved it, how volatile it is without them, and what its peers and the market report.

A reaction session is the first session whose close can show an announcement. Row t reads the schedule as it stood at
the close of t (`known_from` <= t < `known_until`); whether a bar counts as a reaction in the volatilities without
reactions is decided by what was known at that bar's own close. All columns of a session are null while no date of any
ticker stands, so that a market without announcements has none of them as an input.

v = gap² + ½ Garman-Klass + ½ Parkinson + 1e-6 of a bar (`features.daily`); V and g are the means of v and of ½ ln v
over the last 66 bars that are no reaction.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl

from stock_assets.features.daily import with_variances
from stock_assets.features.formulas import volatility
from stock_assets.features.lookback import histories
from stock_assets.features.peers import PEERS, Comovement
from stock_assets.features.reactions import (
    REACH,
    RECENT,
    Events,
    Panels,
    days_ahead,
    past_reactions,
    peer_means,
    quarters_of,
    residual_returns,
    with_dates,
)
from stock_assets.features.side_features import SideColumn, SideFrames, SideGroup, SideRange, register_side_group
from stock_assets.frames import KEYS
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.tables import ANNOUNCEMENTS

#: Sessions ahead in which a reaction counts: the default horizon of a label.
HORIZON = 7
#: Sessions of bars that a row looks at: REACH to the oldest reaction, the bars before it, those that may be missed.
LOOKBACK = 700
#: What is read of a bar, besides its keys and total return.
BAR_COLUMNS = ("open", "high", "low", "close", "suspect")

#: Windows in bars of the volatilities without reactions; half-lives in bars, whose means end after _CUT bars.
_WINDOWS, _GEOMETRIC, _HALF_LIVES = (2, 5, 10, 22, 66, 250), (66, 250), (4, 25)
_CUT = 250
#: A window of more bars begins with so many.
_ENOUGH = 50
#: Reactions of the market's mean size that the mean of a ticker's own is shrunk with.
_IMAGINARY = 3
#: Sessions over which the market's mean size is taken.
_MARKET = 250
#: ½ ln V of a usual ticker.
_USUAL = -4.2
_FLOOR = 1e-6

_IN = "1 with a reaction session among the next 7"

#: The columns in order.
COLUMNS: dict[str, SideColumn] = {
    "reaction_ahead": SideColumn(f"{_IN}, else 0", 0.0, 1.0),
    "reaction_nearness": SideColumn("(8 - k) / 7 with k sessions until the next reaction, 0 beyond 7", 0.0, 1.0),
    "reaction_in_1": SideColumn("1 where the next session is a reaction", 0.0, 1.0),
    "reaction_in_7": SideColumn("1 where the next reaction is the 7th session ahead", 0.0, 1.0),
    "reaction_size": SideColumn(
        f"Mean of ½ ln v - g over the last {RECENT} reactions within {REACH} sessions, and {_IMAGINARY} more of the "
        f"market's mean over {_MARKET} sessions",
        -2.0,
        4.0,
    ),
    "reaction_ahead_size": SideColumn("reaction_size with a reaction among the next 7 sessions, else 0", -2.0, 4.0),
    "reaction_mixture": SideColumn(
        "½ ln((6 V + exp(2 (g + reaction_size))) / (7 V)) with a reaction among the next 7 sessions, else 0",
        -0.5,
        3.0,
    ),
    "reaction_mixture_squares": SideColumn(
        f"The same with the mean r² of the last {RECENT} reactions and {_IMAGINARY} of exp(2 (g + the market's size))",
        -0.5,
        3.0,
    ),
    "reaction_ahead_level": SideColumn("½ ln V + 4.2 with a reaction among the next 7 sessions, else 0", -2.0, 3.0),
    **{
        f"quiet_vol_{k}": SideColumn(f"½ ln(1e-5 + mean of v over the last {k} bars that are no reaction)", -6.0, 1.0)
        for k in _WINDOWS
    },
    **{
        f"quiet_vol_half_life_{k}": SideColumn(
            f"The same as an exponential mean of half-life {k} bars, cut off after {_CUT}", -6.0, 1.0
        )
        for k in _HALF_LIVES
    },
    **{
        f"quiet_vol_log_{k}": SideColumn(f"Mean of ½ ln(1e-5 + v) over the last {k} bars that are no reaction", -6.0, 1)
        for k in _GEOMETRIC
    },
    "since_reaction_3": SideColumn("exp(-s / 3), s sessions since the last reaction; 0 without one", 0.0, 1.0),
    "since_reaction_10": SideColumn("exp(-s / 10); 0 without one", 0.0, 1.0),
    "since_reaction": SideColumn("s / 70; 3 without one", 0.0, 3.0),
    "reaction_today": SideColumn("1 where s is 0", 0.0, 1.0),
    "reaction_yesterday": SideColumn("1 where s is 1", 0.0, 1.0),
    "reaction_echo": SideColumn("½ ln v - g of the last reaction, times exp(-s / 4)", -2.0, 4.0),
    "reaction_dates": SideColumn("1 with a reaction within 130 sessions before or one expected within as many", 0.0, 1),
    **{
        f"reaction_residual_{k}": SideColumn(
            f"Residual return (features.peers) of the last reaction where s <= {k}, else 0", -0.5, 0.5
        )
        for k in (3, 20, 60)
    },
    "reaction_ahead_residual_5": SideColumn(
        "Residual return of 5 sessions where reaction_ahead is 1, else 0", -0.5, 0.5
    ),
    "peers_ahead": SideColumn(f"Share of the {PEERS} peers (features.peers) with reaction_ahead", 0.0, 1.0),
    "peers_reacted": SideColumn("Share of the peers with s <= 2", 0.0, 1.0),
    "peers_residual": SideColumn("Mean residual return of the last reaction of those peers; 0 without one", -0.5, 0.5),
    "market_ahead": SideColumn("Share of the session's tickers with dates that have reaction_ahead", 0.0, 1.0),
}


def _mean(values: pl.Expr, k: int) -> pl.Expr:
    return values.rolling_mean(k, min_samples=min(k, _ENOUGH)).over("history")


def _fading(k: int) -> pl.Expr:
    """The exponential mean of half-life `k` over the last _CUT bars."""
    # the sum of the whole mean minus what lies before the cut-off: no bar before the look-back counts
    decay, number = 0.5 ** (1 / k), pl.col("number")
    first = number - pl.int_range(pl.len()).over("history")  # bars before the first one may be left out
    total = pl.col("total").ewm_mean(half_life=k).over("history") * (1 - decay ** (number - first + 1))
    tail = total.shift(_CUT, fill_value=0.0).over("history") * decay**_CUT
    return (total - tail) / (1 - decay ** pl.min_horizontal(number, _CUT))


_TOTAL = pl.col("total")
#: The volatilities without reactions, of bars that are none.
_QUIET: dict[str, pl.Expr] = {
    **{f"quiet_vol_{k}": volatility(_mean(_TOTAL, k)) for k in _WINDOWS},
    **{f"quiet_vol_half_life_{k}": volatility(_fading(k)) for k in _HALF_LIVES},
    **{f"quiet_vol_log_{k}": _mean(volatility(_TOTAL), k) for k in _GEOMETRIC},
}


def announcement_columns(
    bars: pl.DataFrame, schedule: pl.DataFrame, sessions: Sequence[date], *, calendar: Sequence[date]
) -> pl.DataFrame:
    """ticker, session and the COLUMNS (f64, null where unknown) of every bar of `sessions`, sorted by ticker.

    `bars` are rows of `daily_bars` of all tickers with LOOKBACK sessions before the first of `sessions` (ascending) or
    all there are; `schedule` as of `side_inputs.schedule`: ticker, reaction_session, known_from and known_until (null
    while the row stands); `calendar` all sessions of the exchange, which reach HORIZON beyond the last one.

    Raises BadBarsError as `histories` does.
    """
    tickers = bars["ticker"].unique().sort()
    steps = AnnouncementRange(schedule, sessions, tickers.to_list(), calendar=calendar)
    return steps.completed(steps.own(bars))


class AnnouncementRange:
    """`announcement_columns` of a range in two steps: `own` of the bars of some tickers at a time, then `completed` of
    some sessions at a time, ascending. The panels of all bars lie in files of `folder` where it is one."""

    def __init__(
        self,
        schedule: pl.DataFrame,
        sessions: Sequence[date],
        tickers: Sequence[str],
        *,
        calendar: Sequence[date],
        folder: Path | None = None,
    ) -> None:
        days = np.array(calendar, dtype="datetime64[D]")
        newest = int(np.searchsorted(days, np.datetime64(sessions[-1])))
        oldest = max(0, int(np.searchsorted(days, np.datetime64(sessions[0]))) - LOOKBACK + 1)
        self._days, self._sessions = calendar[oldest : newest + 1], list(sessions)
        self._panels = Panels.empty(self._days, tickers, folder)
        self._events = Events.of(schedule, self._panels.tickers, days, origin=oldest)
        self._reacted = self._events.at_own_close(len(self._days), len(tickers))
        self._quarters: dict[date, Comovement] = {}

    def own(self, bars: pl.DataFrame) -> pl.DataFrame:
        """ticker, session, enough, V, g and the volatilities without reactions of every bar of the sessions, sorted by
        ticker and session, from all `bars` of some tickers, which are remembered for `completed`."""
        bars_in_range = bars.filter(pl.col("session").is_between(self._days[0], self._days[-1]))
        rows = with_variances(histories(bars_in_range, BAR_COLUMNS, self._days, lookback=LOOKBACK))
        cell, in_sessions = self._panels.cell(rows), rows["session"].is_in(self._sessions).to_numpy()
        quiet = _Quiet.of(rows, self._reacted[cell])
        self._panels.add(rows, cell, quiet.jumps(rows))
        return rows.filter(pl.Series(in_sessions)).select(*KEYS, "enough").with_columns(**quiet.columns(in_sessions))

    def completed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`rows` of `own` of all tickers with ticker, session and the COLUMNS."""
        if rows.is_empty():  # a day on which the exchange was closed after all has no bar
            return pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date, **dict.fromkeys(COLUMNS, pl.Float64)})
        day, ticker = self._panels.cell(rows)
        first, last = max(0, int(day.min()) - LOOKBACK + 1), int(day.max())
        in_range, days = slice(first, last + 1), np.unique(day - first)
        panels, events = self._panels.between(first, last + 1), self._events.of_days(first, last)
        states = _of_reactions(panels, events, self._reacted[in_range], days=days, quarters=self._quarters)
        self._quarters = dict(list(self._quarters.items())[-2:])  # the next sessions look at no earlier ones
        place = states.place(day - first)
        quiet = {name: rows[name].to_numpy() for name in ("V", "g", *_QUIET)}
        columns = _columns(states, quiet, (place, ticker))
        enough = rows["enough"].to_numpy() & states.anyone[place]
        with_gaps = {name: np.where(enough, columns[name], np.nan) for name in COLUMNS}
        return rows.select(KEYS).with_columns(pl.DataFrame(with_gaps).fill_nan(None))


class _Quiet(NamedTuple):
    """The bars that are no reaction."""

    bars: pl.DataFrame
    """history, total, and number: which of its history's it is"""
    last: np.ndarray
    """of each row of all bars, the place of the last one here up to it; -1 where its history has none"""
    g: np.ndarray
    """of each row of all bars"""

    @classmethod
    def of(cls, rows: pl.DataFrame, reaction: np.ndarray) -> Self:
        is_quiet = rows["total"].is_not_null().to_numpy() & ~reaction
        bars = rows.select("history", "total").filter(pl.Series(is_quiet))
        bars = bars.with_columns(pl.int_range(1, pl.len() + 1).over("history").alias("number"))
        last, history = np.cumsum(is_quiet) - 1, rows["history"].to_numpy()
        if not len(bars):
            return cls(bars, np.full(len(last), -1), np.full(len(last), np.nan))
        last = np.where((last >= 0) & (bars["history"].to_numpy()[np.maximum(last, 0)] == history), last, -1)
        g = bars.select(_mean(0.5 * (pl.col("total") + _FLOOR).log(), 66)).to_series().to_numpy()
        return cls(bars, last, np.where(last >= 0, g[last], np.nan))

    def jumps(self, rows: pl.DataFrame) -> np.ndarray:
        """½ ln v of each row minus g of the bar before."""
        history = rows["history"].to_numpy()
        before = np.where(np.roll(history, 1) == history, np.roll(self.g, 1), np.nan)
        before[:1] = np.nan
        return rows.select(0.5 * (pl.col("total") + _FLOOR).log()).to_series().to_numpy() - before

    def columns(self, rows_to_fill: np.ndarray) -> dict[str, np.ndarray]:
        """V, g and the volatilities without reactions of the rows `rows_to_fill`."""
        place = self.last[rows_to_fill]
        has_place = place >= 0
        if not has_place.any():
            return dict.fromkeys(("V", "g", *_QUIET), np.full(len(place), np.nan))
        # bars that no window of an asked row reaches are left out: a single session reads a third
        needed_changes = np.zeros(len(self.bars) + 1, int)
        np.add.at(needed_changes, np.maximum(place[has_place] - _CUT, 0), 1)
        np.add.at(needed_changes, place[has_place] + 1, -1)
        is_needed = np.cumsum(needed_changes[:-1]) > 0
        new_places = (np.cumsum(is_needed) - 1)[place[has_place]]
        means = self.bars.filter(pl.Series(is_needed)).select(**_QUIET, V=_mean(pl.col("total") + _FLOOR, 66))
        columns = {"g": self.g[rows_to_fill]}
        for name in means.columns:
            columns[name] = np.full(len(place), np.nan)
            columns[name][has_place] = means[name].to_numpy()[new_places]
        return columns


class _Known(NamedTuple):
    """Of the asked days [S, N], as known at their closes."""

    days: np.ndarray
    until: np.ndarray
    """sessions until the next reaction; 0 for none within HORIZON"""
    since: np.ndarray
    """sessions since the last one; NaN without one"""
    size: np.ndarray
    squares: np.ndarray
    """sum of r² over the recent reactions"""
    number: np.ndarray
    market: np.ndarray
    """[S, 1] mean size of the market"""
    jump: np.ndarray
    residual: np.ndarray
    """of the last reaction"""
    residual_5: np.ndarray
    peers: np.ndarray
    """[3, S, N]"""
    dated: np.ndarray
    anyone: np.ndarray
    """[S] whether any ticker has dates"""
    share: np.ndarray
    """[S]"""

    def place(self, day: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.days, day)


def _of_reactions(
    grid: Panels, events: Events, reacted: np.ndarray, *, days: np.ndarray, quarters: dict[date, Comovement]
) -> _Known:
    jump = grid.jump
    comoving = quarters_of(grid, days[0] - 66, quarters)
    residual = residual_returns(grid, comoving)
    own = reacted & np.isfinite(jump) & grid.trusted
    sums = np.cumsum([np.where(own, jump, 0.0).sum(axis=1), own.sum(axis=1)], axis=1)
    sums = sums[:, days] - np.where(days >= _MARKET, sums[:, np.maximum(days - _MARKET, 0)], 0.0)
    market = np.divide(sums[0], sums[1], out=np.full(len(days), np.nan), where=sums[1] > 0)[:, None]

    past = past_reactions(events, (jump, grid.r**2, residual), days)
    until = days_ahead(events, days, len(grid.tickers), horizon=HORIZON)
    dated = with_dates(events, days, len(grid.tickers))
    present = np.isfinite(grid.r[days]) | grid.present[days]
    is_counted = dated & present
    ahead = (until > 0) & is_counted
    recently = past.since <= 2
    recent_residual = np.where(recently, past.residual, np.nan)
    five = np.cumsum(np.nan_to_num(residual), axis=0)
    return _Known(
        days,
        until,
        past.since,
        (past.jumps + _IMAGINARY * market) / (past.number + _IMAGINARY),
        past.squares,
        past.number,
        market,
        past.jump,
        past.residual,
        five[days] - np.where((days >= 5)[:, None], five[np.maximum(days - 5, 0)], 0.0),
        peer_means(comoving, days, present=present, panels=(until > 0, recently, recent_residual)),
        dated,
        is_counted.sum(axis=1) > 0,
        ahead.sum(axis=1) / np.maximum(is_counted.sum(axis=1), 1),
    )


def _columns(state: _Known, quiet: dict[str, np.ndarray], cell: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    k, s, size = state.until[cell], state.since[cell], state.size[cell]
    v, g, market = quiet["V"], quiet["g"], state.market[cell[0], 0]
    squares = state.squares[cell] + _IMAGINARY * np.exp(2 * (g + market))
    squares /= state.number[cell] + _IMAGINARY
    residual, last = np.nan_to_num(state.residual[cell]), np.nan_to_num(state.jump[cell])
    sessions_since = np.where(np.isfinite(s), s, np.inf)
    peers = state.peers[:, *cell]

    def ahead(values: np.ndarray | float) -> np.ndarray:
        return np.where(k > 0, values, 0.0)

    def mixture(square: np.ndarray) -> np.ndarray:
        return ahead(0.5 * np.log(((HORIZON - 1) * v + square) / (HORIZON * v)))

    return {
        **quiet,
        "reaction_ahead": ahead(1.0),
        "reaction_nearness": ahead((HORIZON + 1 - k) / HORIZON),
        "reaction_in_1": (k == 1).astype(float),
        "reaction_in_7": (k == HORIZON).astype(float),
        "reaction_size": size,
        "reaction_ahead_size": ahead(size),
        "reaction_mixture": mixture(np.exp(2 * (g + size))),
        "reaction_mixture_squares": mixture(squares),
        "reaction_ahead_level": ahead(0.5 * np.log(v) - _USUAL),
        "since_reaction_3": np.exp(-sessions_since / 3),
        "since_reaction_10": np.exp(-sessions_since / 10),
        "since_reaction": np.minimum(sessions_since / 70, 3.0),
        "reaction_today": (s == 0).astype(float),
        "reaction_yesterday": (s == 1).astype(float),
        "reaction_echo": last * np.exp(-sessions_since / 4),
        "reaction_dates": state.dated[cell].astype(float),
        **{f"reaction_residual_{k}": np.where(sessions_since <= k, residual, 0.0) for k in (3, 20, 60)},
        "reaction_ahead_residual_5": ahead(state.residual_5[cell]),
        "peers_ahead": peers[0],
        "peers_reacted": peers[1],
        "peers_residual": peers[2],
        "market_ahead": state.share[cell[0]],
    }


def _of_frames(frames: SideFrames) -> pl.DataFrame:
    tickers = frames.bars["ticker"].unique().sort().to_list()
    steps = _range_of(SideRange(frames.rows, frames.sessions, frames.calendar, tickers, folder=None))
    return steps.completed(steps.own(frames.bars))


def _range_of(side_range: SideRange) -> AnnouncementRange:
    # a reaction before the bars has no size, and is forgotten by the first of the sessions
    begin = (*side_range.calendar.before(side_range.sessions[0], LOOKBACK), side_range.sessions[0])[0]
    schedule = schedule_of(side_range.rows[ANNOUNCEMENTS.name], side_range.calendar, begin - timedelta(days=7))
    calendar = side_range.calendar.sessions
    return AnnouncementRange(
        schedule, side_range.sessions, side_range.tickers, calendar=calendar, folder=side_range.folder
    )


GROUP = register_side_group(
    SideGroup(
        name="announcements",
        reads=(ANNOUNCEMENTS.name,),
        columns=COLUMNS,
        compute=_of_frames,
        lookback=LOOKBACK - 1,
        in_model=True,
        bar_columns=(*BAR_COLUMNS, "total_return"),
        in_steps=_range_of,
    )
)
