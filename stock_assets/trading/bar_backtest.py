"""A book of a market of bars: decided at the end of each bar, filled at the open of the next one, judged by session.

The targets, the ledger and the figures are those of a day. A target is the mean of the own targets of the last K bars,
of those since the exchange opened where nothing is held while it is closed. An order whose bar does not come expires.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from stock_assets.tables import UTC_TIME
from stock_assets.trading.bar_panel import BarMarket, at_bars
from stock_assets.trading.bar_tables import BAR_EQUITY, BAR_FILLS, COSTS, MONEY
from stock_assets.trading.book_files import model_of
from stock_assets.trading.books import EQUAL_WEIGHT, HOLD, Book, Limits
from stock_assets.trading.ledger import Account, opened, run
from stock_assets.trading.panel import REASONS
from stock_assets.trading.portfolio import sleeved
from stock_assets.trading.sensitivities import SCALES, Cell
from stock_assets.trading.simulation import keyed
from stock_assets.trading.targets import own_targets, scores_of
from stock_assets.trading.trials import BASE, Computed, digest_of_scores

#: The newest sessions of which fills are kept.
FILLS_OF = 5


@dataclass(frozen=True)
class BookedBars:
    """One book through the bars of a market."""

    book: Book
    cells: tuple[Cell, ...]
    """its back-tests, by session; that of the book as it is configured has the variant BASE"""
    equity: pl.DataFrame
    """rows of `bar_equity` of that one"""
    fills: pl.DataFrame
    """rows of `bar_fills` of its newest FILLS_OF sessions"""


def back_test_bars(
    market: BarMarket,
    predictions: pl.DataFrame,
    book: Book,
    *,
    sleeves: int,
    overnight: bool,
    began: date | None = None,
    frontier: bool = True,
) -> BookedBars:
    """`book` on `predictions` (rows of bar_predictions of its model), with its costs at every scale of the half-spread,
    and filled one bar later; without `frontier` as it is configured alone, and without its fills.

    `sleeves` is K of a book that names none. `overnight` holds positions while the exchange is closed. `began` names
    the trials, which stay the same while the window of the back-test moves; unset, its first session does.

    Raises TradingError for a prediction of a ticker without a bar, and as `ledger.run`.
    """
    rows = predictions.drop("session").rename({"bar_end": "session"})
    scores = scores_of(rows, market.panel, book)
    own, number = own_targets(market.panel, scores, book).own, book.sleeves or sleeves
    trial = _Trial(market, number, began or market.sessions[0], digest_of_scores(scores))

    def weights(fill: str) -> np.ndarray:
        delay = int(fill == "second open")
        return bar_weights(own, market, sleeves=number, overnight=overnight, delay=delay)

    scale = book.costs.spread_scale
    scales = sorted({*SCALES, scale}) if frontier else [scale]
    totals, fills = _booked(market, weights(book.fill), book, scales=scales, fills=frontier)
    cells = [
        trial.cell(
            replace(book, costs=replace(book.costs, spread_scale=other)),
            of_account(totals, i),
            BASE if other == scale else f"spread x{other:g}",
        )
        for i, other in enumerate(scales)
    ]
    if frontier and book.fill == "open":
        later = replace(book, fill="second open")
        delayed, _ = _booked(market, weights(later.fill), later, scales=[scale], fills=False)
        cells.append(trial.cell(later, of_account(delayed, 0), "fill at the second open"))
    equity = _equity(of_account(totals, scales.index(scale)), book, market)
    return BookedBars(book, tuple(cells), equity, fills)


def of_account(totals: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    """The figures [T - 1] of the account at position `i` of those that were booked at once."""
    return {name: values[:, i] for name, values in totals.items()}


@dataclass(frozen=True)
class _Trial:
    """What the back-tests of one book share."""

    market: BarMarket
    sleeves: int
    began: date
    scores: str

    def cell(self, book: Book, totals: Mapping[str, np.ndarray], variant: str) -> Cell:
        """The back-test of `book`, whose account has the `totals`."""
        series = by_session(totals, self.market, book.capital)
        trial = Computed(
            book=book,
            model=model_of(book),
            sleeves=self.sleeves,
            variant=variant,
            first=self.began,
            last=self.market.sessions[-1],
            scores=self.scores,
            returns=series["net_return"],
        )
        return Cell(trial, *(series[name] for name in ("net_return", "gross_return", "turnover", "impact")))


def baselines(market: BarMarket, costs: Book) -> Iterator[BookedBars]:
    """HOLD and EQUAL_WEIGHT at the costs and the capital of the book `costs`; both hold overnight.

    Each buys the tickers that have a trusted bar where it decides: the first of the market, and that of each session.
    What a bar trades limits none of their orders, which are few and large; they move the price as others do.
    """
    trusted = market.panel.trusted
    firsts = np.flatnonzero(np.append(True, market.session[1:] != market.session[:-1]) & trusted.any(axis=1))
    for name, at in ((HOLD, firsts[:1]), (EQUAL_WEIGHT, firsts)):
        limits = Limits(position=1.0, gross=1.0, fewest_names=1, frozen_sessions=10**9)
        charged = replace(costs.costs, participation=np.inf)
        book = replace(costs, name=name, kind="long_only", model=name, sleeves=1, fill="open", limits=limits)
        book = replace(book, costs=charged)
        weights = np.full(trusted.shape, np.nan)
        weights[at] = np.where(trusted[at], 1.0 / trusted[at].sum(axis=1, keepdims=True), 0.0)
        booked, fills = _booked(market, weights, book, scales=[book.costs.spread_scale])
        totals = of_account(booked, 0)
        cell = _Trial(market, 1, market.sessions[0], "").cell(book, totals, BASE)
        yield BookedBars(book, (cell,), _equity(totals, book, market), fills)


def bar_weights(own: np.ndarray, market: BarMarket, *, sleeves: int, overnight: bool, delay: int = 0) -> np.ndarray:
    """float64 [T, N]: the targets of the bars from the `own` targets [T, N] of each; NaN holds what there is.

    Where nothing is held `overnight` the sleeves of a session begin anew, everything is sold at the open of the last
    bar before the exchange closes, and nothing is ordered after that. With a `delay` of 1 an order is filled one bar
    later, and is made one bar earlier.
    """
    if overnight:
        return sleeved(own, sleeves)
    left = market.left
    starts = [0, *(np.flatnonzero(left[:-1] == 0) + 1)]
    parts = [sleeved(own[start:stop], sleeves) for start, stop in zip(starts, [*starts[1:], len(own)], strict=True)]
    weights = np.concatenate(parts)
    weights[left == delay + 1] = 0.0
    weights[left <= delay] = np.nan
    return weights


def _booked(
    market: BarMarket, weights: np.ndarray, book: Book, *, scales: Sequence[float], fills: bool = True
) -> tuple[dict[str, np.ndarray], pl.DataFrame]:
    """(figures of the bars after the first one by name, [T - 1, len(scales)], at every scale of the half-spread; rows
    of `bar_fills` at that of the book)."""
    panel, of_bars = market.panel, at_bars(book, market.per_session)
    number, spread_scale = len(panel.tickers), np.array(scales)[:, None]
    newest = np.flatnonzero(market.session >= np.datetime64(market.sessions[-FILLS_OF:][0]))[0]
    split = max(int(newest) - 1, 0)
    account = opened(np.full(len(scales), book.capital), number)
    early = replace(panel, sessions=panel.sessions[: split + 1])
    first = run(early, weights[: split + 1, None], of_bars, account=account, details=False, spread_scale=spread_scale)
    last = run(
        panel, weights[:, None], of_bars, account=first.account, after=split, details=False, spread_scale=spread_scale
    )
    totals = {name: np.concatenate([first.totals[name], last.totals[name]]) for name in last.totals}
    before = np.concatenate([np.full_like(totals["equity"][:1], book.capital), totals["equity"][:-1]])
    totals["traded"] = totals["turnover"] * before
    if not fills:
        return totals, BAR_FILLS.empty()
    i = list(scales).index(book.costs.spread_scale)
    own = Account(*(np.asarray(getattr(first.account, name)[i]) for name in ("cash", "shares", "marks", "frozen")))
    detailed = run(panel, weights, of_bars, account=own, after=split)
    ends = pl.Series("session", panel.sessions, UTC_TIME)
    rows = keyed(panel, detailed.fills, ends).rename({"session": "bar_end"})
    days = pl.DataFrame({"bar_end": ends, "session": market.session.astype("datetime64[D]")})
    rows = rows.join(days, on="bar_end", how="left", maintain_order="left").with_columns(
        pl.col("session").cast(pl.Date),
        book=pl.lit(book.name),
        price=pl.when(pl.col("filled") != 0).then("price"),
        reason=pl.Series(REASONS, dtype=pl.String).gather(detailed.fills["reason"].astype(np.int64)),
    )
    return totals, rows.select(BAR_FILLS.names)


def by_session(totals: Mapping[str, np.ndarray], market: BarMarket, capital: float) -> dict[str, np.ndarray]:
    """float64 [sessions]: net_return, gross_return, turnover and impact over the equity at the end of the session
    before, of the figures [T - 1] of the bars after the first one; 0 from where there is no equity.

    The first bar is one at whose end the account stands with its `capital`: a session of it alone has no return.
    """
    days, equity = market.session[1:], totals["equity"]
    if not len(days):
        return {name: np.empty(0) for name in ("net_return", "gross_return", "turnover", "impact")}
    starts = np.flatnonzero(np.append(True, days[1:] != days[:-1]))
    ends = np.append(starts[1:], len(days)) - 1
    before = np.append(capital, equity[ends[:-1]])

    def over(figure: np.ndarray) -> np.ndarray:
        return np.where(before > 0, figure / np.where(before > 0, before, 1.0), 0.0)

    change, costs = equity[ends] - before, sum(np.add.reduceat(totals[name], starts) for name in COSTS)
    return {
        "net_return": over(change),
        "gross_return": over(change + costs),
        "turnover": over(np.add.reduceat(np.nan_to_num(totals["traded"]), starts)),
        "impact": over(np.add.reduceat(totals["impact"], starts)),
    }


def _equity(totals: Mapping[str, np.ndarray], book: Book, market: BarMarket) -> pl.DataFrame:
    """Rows of `bar_equity` of the bars after the first one."""
    columns = {name: totals[name] for name in ("equity", "cash", *MONEY, "long", "short", "traded")}
    counts = {name: totals[name].astype(np.int64) for name in ("names", "ordered", "unfilled")}
    rows = pl.DataFrame(
        {
            "bar_end": pl.Series(market.panel.sessions[1:], dtype=UTC_TIME),
            "session": pl.Series(market.session[1:].astype("datetime64[D]")).cast(pl.Date),
            **columns,
            **counts,
        }
    )
    return rows.with_columns(pl.col("long", "short", "traded").fill_nan(None), book=pl.lit(book.name)).select(
        BAR_EQUITY.names
    )
