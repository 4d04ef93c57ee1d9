"""The bars of a market as the ledger reads them: one `Bars` per session, arrays over the tickers of a `Panel`.

A panel holds what was traded and what was known at each close, and nothing that costs depend on: a book's costs are
applied where it is read. A figure of a session is the same bit for bit, whichever sessions and tickers a panel holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl

from stock_assets.errors import BadBarsError, TradingError
from stock_assets.market.context import FUND, INDEX
from stock_assets.trading.books import Limits
from stock_assets.trading.measures import (
    BETA_SESSIONS,
    BarTimes,
    adv_of,
    betas,
    fifths,
    mean_of_members,
    volatilities,
)

#: What became of an order; the rest of an order that is not filled expires.
REASONS = ("filled", "no bar", "no open", "no volume", "open outside high and low", "suspect", "ended", "capped")
FILLED, NO_BAR, NO_OPEN, NO_VOLUME, OUTSIDE, SUSPECT, ENDED, CAPPED = range(len(REASONS))
#: `Bars.ending` of a listing whose return is unknown: `Costs.ending` stands for it.
UNKNOWN_ENDING = np.inf

#: Sessions before the first one of a panel that `panel_of` reads; with fewer, its first figures are NaN.
LOOKBACK_SESSIONS = BETA_SESSIONS + 1
_ROUNDING = 1e-5
"""of the price: what two adjusted closes of a vendor are apart without a dividend"""


@dataclass(frozen=True)
class Bars:
    """One session of the N tickers of a panel: float64 [N] in the listing's currency as traded, unless named otherwise.

    Those called `…_before` were known at the close before the session.
    """

    session: date
    nights: int
    """calendar days since the session before"""
    open: np.ndarray
    """NaN without one"""
    close: np.ndarray
    """NaN without a bar"""
    dividend: np.ndarray
    """per share of after the split; 0 on ordinary days"""
    split_ratio: np.ndarray
    """new shares per old one; 1 on ordinary days"""
    refusal: np.ndarray
    """int8 [N]: why no order is filled at the open, an index into `REASONS`; 0 where it is"""
    trusted: np.ndarray
    """bool [N]: there is a bar, and it is not suspect"""
    ending: np.ndarray
    """the return of a listing that ended, booked on this session; NaN where none did, and `UNKNOWN_ENDING` where it is
    unknown"""
    adv_before: np.ndarray
    """the mean value traded in the last 20 sessions"""
    volatility_before: np.ndarray
    """standard deviation of the daily total return over the last 60 sessions, as a fraction"""
    fifth_before: np.ndarray
    """int8 [N]: the fifth of the members by `adv_before` that the ticker is in, 0 the least traded"""
    opening: bool = True
    """whether the exchange opens with it, where the spread is wider: not of a bar within a session"""

    def of(self, tickers: np.ndarray) -> "Bars":
        """The same session of the tickers at the positions `tickers`."""
        figures = (getattr(self, name)[tickers] for name in _OF_TICKERS)
        return Bars(self.session, self.nights, *figures, opening=self.opening)


_OF_TICKERS = tuple(field.name for field in fields(Bars))[2:-1]


@dataclass(frozen=True)
class Events:
    """What happens to few tickers: the values of session t are `values[starts[t] : starts[t + 1]]`."""

    starts: np.ndarray
    """int64 [T + 1]"""
    tickers: np.ndarray
    """int32: columns of the panel"""
    values: np.ndarray
    """float64"""

    @classmethod
    def of(cls, grid: np.ndarray, usual: float) -> "Events":
        """The values of `grid` [T, N] that are not `usual`, which may be NaN."""
        is_event = ~np.isnan(grid) if np.isnan(usual) else grid != usual
        rows, columns = np.nonzero(is_event)
        starts = np.searchsorted(rows, np.arange(len(grid) + 1))
        return cls(starts, columns.astype(np.int32), grid[rows, columns])

    def day(self, t: int, tickers: int, *, usual: float) -> np.ndarray:
        """float64 [tickers]: those of session t, `usual` elsewhere."""
        row = np.full(tickers, usual)
        span = slice(self.starts[t], self.starts[t + 1])
        row[self.tickers[span]] = self.values[span]
        return row


@dataclass(frozen=True)
class Panel:
    """T sessions of N tickers: arrays [T, N], as traded and as known at the close of each session.

    The first session is one at whose close an account stands: nothing is known of the close before it.
    """

    sessions: tuple[date, ...]
    """ascending"""
    tickers: tuple[str, ...]
    """ascending"""
    nights: np.ndarray
    """int64 [T]: calendar days since the session before"""
    open: np.ndarray
    """float64, NaN without one"""
    close: np.ndarray
    """float64, NaN without a bar: the price"""
    dividends: Events
    splits: Events
    endings: Events
    refusal: np.ndarray
    """int8: index into `REASONS`"""
    suspect: np.ndarray
    """int8: index into `suspect_reasons`, 0 for a bar that is not suspect or not there"""
    suspect_reasons: tuple[str, ...]
    member: np.ndarray
    """bool: a bar of a member of the universe"""
    adv: np.ndarray
    """float32: mean value traded in the last 20 sessions, one without a bar counting 0"""
    volatility: np.ndarray
    """float32: standard deviation of the daily total return over the last 60 sessions; NaN below 20 returns"""
    beta: np.ndarray
    """float32: to `market` over the last 250 sessions, to `equal_weight` without one; NaN below 60 returns"""
    fifth: np.ndarray
    """int8: the fifth of the members by `adv` that a ticker is in, 0 the least traded"""
    sector: np.ndarray
    """int16 [N]: index into `sectors`"""
    sectors: tuple[str, ...]
    """the first one is "": the source knows none"""
    market: np.ndarray
    """float64 [T]: total return of the market's fund; NaN without one"""
    equal_weight: np.ndarray
    """float64 [T]: mean total return of the members of the session before"""
    opening: np.ndarray
    """bool [T]: `Bars.opening`"""

    @property
    def trusted(self) -> np.ndarray:
        """bool [T, N]: there is a bar, and it is not suspect."""
        return (self.suspect == 0) & ~np.isnan(self.close)

    def position(self, session: date) -> int:
        """Where `session` stands. Raises TradingError where the panel has it not."""
        if session not in self.sessions:
            raise TradingError(
                f"the session {session} is not among those of the bars, {self.sessions[0]} to {self.sessions[-1]}"
            )
        return self.sessions.index(session)

    def day(self, t: int) -> Bars:
        """The bars of the session at position `t` (0 to T - 1), with what was known at the close before it."""
        number = len(self.tickers)
        unknown = np.full(number, np.nan)
        before = unknown, unknown, np.zeros(number, np.int8)
        if t > 0:
            before = *(column[t - 1].astype(np.float64) for column in (self.adv, self.volatility)), self.fifth[t - 1]
        return Bars(
            session=self.sessions[t],
            nights=int(self.nights[t]),
            open=self.open[t],
            close=self.close[t],
            dividend=self.dividends.day(t, number, usual=0.0),
            split_ratio=self.splits.day(t, number, usual=1.0),
            refusal=self.refusal[t],
            trusted=(self.suspect[t] == 0) & ~np.isnan(self.close[t]),
            ending=self.endings.day(t, number, usual=np.nan),
            adv_before=before[0],
            volatility_before=before[1],
            fifth_before=before[2],
            opening=bool(self.opening[t]),
        )


def panel_of(
    bars: pl.DataFrame,
    universe: pl.DataFrame,
    context: pl.DataFrame,
    *,
    sessions: Sequence[date],
    limits: Limits,
    endings: pl.DataFrame | None = None,
    times: BarTimes | None = None,
) -> Panel:
    """The panel of `sessions`, from bars of them and of the `LOOKBACK_SESSIONS` before the first one.

    `bars` are rows of daily_bars, of which provisional and fetched_at are not read; `universe` has ticker and sector.
    Below a day `times` says what the bars are, and `session` is the end of a bar wherever it stands. `context` has
    series, session and total_return, one row each. `endings` has ticker, session and return (null where it is unknown):
    listings that ended, booked on that session. Any other ticker without a bar for `limits.ended_sessions` sessions has
    ended on the last of them. Without corporate actions (null split_ratio) a dividend is what a total return has beyond
    the price.

    Raises BadBarsError for a second bar of a session or an impossible figure, TradingError for sessions out of order or
    an ending that cannot be.
    """
    _check(bars, sessions)
    grids = _Grids.of(bars, context, sessions, earlier=times and times.earlier)
    close, traded, times = grids("close"), np.nan_to_num(grids("volume")), times or BarTimes.of_days(grids.sessions)
    has_bar = ~np.isnan(close)
    reasons = ("", *bars["suspect"].drop_nulls().unique().sort())
    suspect = np.where(has_bar, grids.codes("suspect", reasons), 0).astype(np.int8)
    total = grids("total_return")
    dividend, split = _actions(grids, close, total)
    total[~has_bar | (suspect > 0)] = np.nan
    member = has_bar & (grids("is_member") == 1)
    adv = adv_of(np.where(has_bar, close, 0.0) * traded, times.per_session)
    market, equal_weight = _market(context, grids.sessions), mean_of_members(total, member)
    sectors, sector = _sectors(universe, grids.tickers)
    ended = _ended(has_bar, limits.ended_sessions * times.per_session, endings=endings, grids=grids)
    own = slice(len(grids.sessions) - len(sessions), None)
    return Panel(
        sessions=tuple(sessions),
        tickers=grids.tickers,
        nights=times.nights[own],
        open=grids("open")[own],
        close=close[own],
        dividends=Events.of(dividend[own], 0.0),
        splits=Events.of(split[own], 1.0),
        endings=Events.of(ended[own], np.nan),
        refusal=_refusals(grids, traded, suspect)[own],
        suspect=suspect[own],
        suspect_reasons=reasons,
        member=member[own],
        adv=adv[own],
        volatility=volatilities(total, times.per_session)[own],
        beta=betas(total, equal_weight if np.isnan(market).all() else market, times.beta_rows)[own],
        fifth=fifths(adv, member)[own],
        sector=sector,
        sectors=sectors,
        market=market[own],
        equal_weight=equal_weight[own],
        opening=times.opening[own],
    )


@dataclass(frozen=True)
class _Grids:
    """Columns of bars as arrays [sessions, tickers]."""

    sessions: tuple[date, ...]
    tickers: tuple[str, ...]
    rows: np.ndarray
    columns: np.ndarray
    bars: pl.DataFrame

    @classmethod
    def of(
        cls,
        bars: pl.DataFrame,
        context: pl.DataFrame,
        sessions: Sequence[date],
        *,
        earlier: Sequence[date] | None = None,
    ) -> "_Grids":
        """Those of `sessions` and of those `earlier`: unset, of as many as there are, up to `LOOKBACK_SESSIONS`."""
        if earlier is None:
            stored_sessions = pl.concat([bars["session"], context["session"]]).unique()
            earlier = stored_sessions.filter(stored_sessions < sessions[0]).sort().tail(LOOKBACK_SESSIONS).to_list()
        all_sessions = pl.Series("session", [*earlier, *sessions], dtype=bars.schema["session"])
        bars = bars.filter(pl.col("session").is_in(all_sessions.implode()))
        tickers = bars["ticker"].unique().sort()
        columns = bars["ticker"].replace_strict(tickers, pl.int_range(len(tickers), eager=True), return_dtype=pl.Int32)
        rows = all_sessions.search_sorted(bars["session"])
        if twice := bars.filter(bars.select("ticker", "session").is_duplicated()).head(1).rows(named=True):
            raise BadBarsError(f"ticker {twice[0]['ticker']} has two bars of {twice[0]['session']}, expected one")
        return cls(tuple(all_sessions), tuple(tickers), rows.to_numpy(), columns.to_numpy(), bars)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sessions), len(self.tickers)

    def __call__(self, column: str) -> np.ndarray:
        """float64: the values of `column`, NaN where there is none."""
        grid = np.full(self.shape, np.nan)
        grid[self.rows, self.columns] = self.bars[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return grid

    def codes(self, column: str, names: Sequence[str]) -> np.ndarray:
        """int8: where each text of `column` stands in `names`, 0 without one."""
        grid = np.zeros(self.shape, np.int8)
        codes = self.bars[column].replace_strict(names, range(len(names)), default=0, return_dtype=pl.Int8)
        grid[self.rows, self.columns] = codes.to_numpy()
        return grid


def _check(bars: pl.DataFrame, sessions: Sequence[date]) -> None:
    """Raises BadBarsError for a figure that no bar has, and TradingError for sessions that do not ascend."""
    if not sessions or any(later <= earlier for earlier, later in pairwise(sessions)):
        raise TradingError(f"a panel needs sessions in ascending order, found {list(sessions)[:5]}")
    limits = {"open": "above 0", "close": "above 0", "split_ratio": "above 0", "volume": "not below 0"}
    for column, limit in (limits | {"total_return": "above -1"}).items():
        value = pl.col(column)
        above = {"above 0": value > 0, "above -1": value >= -1, "not below 0": value >= 0}[limit]
        wrong_rows = bars.filter(value.is_not_null() & ~(above & value.is_finite())).head(1)
        for row in wrong_rows.iter_rows(named=True):
            raise BadBarsError(
                f"ticker {row['ticker']}, session {row['session']}, column {column}: found {row[column]}, expected a "
                f"finite number {limit}. Repair or hold out the bar in daily_bars first."
            )


def _actions(grids: _Grids, close: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dividends, split ratios), float64: 0 and 1 on ordinary days, the dividend per new share."""
    split, dividend = grids("split_ratio"), np.nan_to_num(grids("dividend"))
    is_implied = np.isnan(split) & ~np.isnan(total) & ~np.isnan(close)
    if is_implied.any():
        last = np.where(np.isnan(close), 0, np.arange(len(close))[:, None])
        last = np.maximum.accumulate(last, axis=0)
        last = np.concatenate([np.zeros((1, close.shape[1]), np.int64), last[:-1]])
        dividend_paid = np.take_along_axis(close, last, axis=0) * (1 + total) - close
        is_paid = is_implied & (np.abs(dividend_paid) > _ROUNDING * close)
        dividend = np.where(is_implied, np.where(is_paid, dividend_paid, 0.0), dividend)
    return dividend, np.where(np.isnan(split), 1.0, split)


def _refusals(grids: _Grids, volume: np.ndarray, suspect: np.ndarray) -> np.ndarray:
    """int8: why no order is filled at the open, the first of the reasons that holds; 0 where it is filled."""
    open_price, close = grids("open"), grids("close")
    outside = (open_price > grids("high")) | (open_price < grids("low"))
    refusals = [np.isnan(close), suspect > 0, volume == 0, np.isnan(open_price), outside]
    return np.select(refusals, [NO_BAR, SUSPECT, NO_VOLUME, NO_OPEN, OUTSIDE], FILLED).astype(np.int8)


def _market(context: pl.DataFrame, sessions: Sequence[date]) -> np.ndarray:
    """float64 [T]: total return of the fund, of the index where there is no fund, NaN without either."""
    series = next((name for name in (FUND, INDEX) if context["series"].is_in([name]).any()), "")
    rows = context.filter(pl.col("series") == series, pl.col("total_return").is_not_null())
    if rows["session"].is_duplicated().any():
        twice = rows.filter(rows["session"].is_duplicated())["session"][0]
        raise BadBarsError(f"the series {series} has two bars of {twice}, expected the newest version alone")
    of_session = dict(rows.select("session", "total_return").iter_rows())
    return np.array([of_session.get(session, np.nan) for session in sessions])


def _sectors(universe: pl.DataFrame, tickers: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """(names, int16 [N]): the names, "" first, and where the sector of each ticker stands among them."""
    rows = universe.filter(pl.col("sector").is_not_null()).unique("ticker", keep="last", maintain_order=True)
    of_ticker = dict(rows.select("ticker", "sector").iter_rows())
    names = ("", *sorted({of_ticker[ticker] for ticker in tickers if of_ticker.get(ticker)}))
    codes = {name: code for code, name in enumerate(names)}
    return names, np.array([codes[of_ticker.get(ticker) or ""] for ticker in tickers], dtype=np.int16)


def _ended(has_bar: np.ndarray, after: int, *, endings: pl.DataFrame | None, grids: _Grids) -> np.ndarray:
    """float64: the return of listings that ended, NaN where none did; nothing is known before the last session of
    `after` without a bar."""
    grid = np.full(has_bar.shape, np.nan)
    bars = np.concatenate([np.zeros((1, has_bar.shape[1]), np.int32), np.cumsum(has_bar, axis=0, dtype=np.int32)])
    if len(has_bar) > after:
        without = bars[after + 1 :] == bars[1:-after]
        grid[after:][has_bar[:-after] & without] = UNKNOWN_ENDING
    for ticker, session, final_return in (
        () if endings is None else endings.select("ticker", "session", "return").rows()
    ):
        if not grids.sessions[0] <= session <= grids.sessions[-1]:
            continue
        if ticker not in grids.tickers or session not in grids.sessions:
            raise TradingError(f"the ending of {ticker} on {session}: expected a ticker with bars, and a session")
        t, i = grids.sessions.index(session), grids.tickers.index(ticker)
        if has_bar[t, i] or (final_return is not None and not final_return >= -1):
            raise TradingError(
                f"the ending of {ticker} on {session} with the return {final_return}: expected a session without a bar "
                "of it, and a return of -1 or more"
            )
        grid[t, i] = UNKNOWN_ENDING if final_return is None else final_return
    return grid
