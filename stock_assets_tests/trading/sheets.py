"""Books on small markets with a planted signal, and the inputs of their tear sheets."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from stock_assets.trading.books import LONG_ONLY, LONG_SHORT, Book, Limits
from stock_assets.trading.findings import TearSheetInputs
from stock_assets.trading.ledger import run
from stock_assets.trading.panel import Panel, panel_of
from stock_assets.trading.sensitivities import cells_of, rows_of_book
from stock_assets.trading.simulation import frames_of
from stock_assets.trading.tables import BACKTEST
from stock_assets.trading.targets import OwnTargets, own_targets, weights_of
from stock_assets.trading.trials import Trials, trial_rows, trials_of

#: Text from outside that would be markup.
SCRIPT = "<script>alert(1)</script>"
SESSIONS = [day for day in (date(2023, 1, 2) + timedelta(n) for n in range(420)) if day.weekday() < 5]
NOW = datetime(2026, 11, 27, 22, tzinfo=UTC)
FEW = Limits(position=0.5, sector_net=1.0, gross=1.0, fewest_names=1, lowest_adv=0.0)
SMALL_LONG = replace(LONG_ONLY, limits=FEW, sleeves=3)
SMALL_SHORT = replace(LONG_SHORT, limits=replace(FEW, gross=2.0, position=0.1))


def market(sessions: int, tickers: int, *, signal: float = 0.3, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """(bars, scores): rows of daily_bars, and scores [T, N] whose correlation with the next sessions is `signal`."""
    generator = np.random.default_rng(seed)
    shape = sessions, tickers
    returns = generator.normal(0.0003, 0.015, shape)
    close = generator.uniform(20, 200, tickers) * np.exp(np.cumsum(returns, axis=0))
    opened = close * np.exp(-generator.uniform(0, 1, shape) * returns)
    ahead = np.vstack([returns[2:], np.zeros((min(2, sessions), tickers))])[:sessions]
    scores = signal * ahead / 0.015 + (1 - signal**2) ** 0.5 * generator.normal(0, 1, shape)
    bars = pl.DataFrame(
        {
            "session": np.repeat(np.array(SESSIONS[:sessions], dtype="datetime64[D]"), tickers),
            "ticker": [ticker(i) for i in range(tickers)] * sessions,
            "open": opened.ravel(),
            "high": np.maximum(opened, close).ravel() * 1.001,
            "low": np.minimum(opened, close).ravel() * 0.999,
            "close": close.ravel(),
            "volume": np.round(generator.uniform(2e5, 4e6, shape)).ravel(),
            "dividend": np.where(generator.random(shape) < 0.01, 0.2, 0.0).ravel(),
            "split_ratio": 1.0,
            "total_return": np.vstack([np.zeros((1, tickers)), np.expm1(returns[1:])]).ravel(),
            "is_member": True,
            "suspect": np.where(generator.random(shape) < 0.01, "frozen", "").ravel(),
        }
    )
    return bars.with_columns(pl.col("session").cast(pl.Date), pl.col("suspect").replace("", None)), scores


def ticker(i: int) -> str:
    """The first one holds markup."""
    return f"{SCRIPT}{i}" if i == 0 else f"T{i:02d}"


def universe(tickers: int) -> pl.DataFrame:
    """Three sectors, one of them with markup, and a ticker without one."""
    names = [None, *([f"<b>Energy</b> & {SCRIPT}", "Health", "Technology"] * tickers)]
    return pl.DataFrame({"ticker": [ticker(i) for i in range(tickers)], "sector": names[:tickers]})


def targets_of(book: Book, sessions: int, tickers: int, **of_market: float) -> tuple[OwnTargets, pl.DataFrame]:
    """(own targets, bars) of a book on a market."""
    bars, scores = market(sessions, tickers, **of_market)  # pyright: ignore[reportArgumentType]: a seed is a number
    context = pl.DataFrame(
        {"series": ["SPY"] * sessions, "session": SESSIONS[:sessions], "total_return": bars_mean(bars)},
        schema_overrides={"total_return": pl.Float64},
    )
    panel: Panel = panel_of(bars, universe(tickers), context, sessions=SESSIONS[:sessions], limits=book.limits)
    return own_targets(panel, scores[:, np.argsort([ticker(i) for i in range(tickers)])], book), bars


def bars_mean(bars: pl.DataFrame) -> list[float]:
    """The mean total return of each session."""
    return bars.group_by("session").agg(pl.col("total_return").mean()).sort("session")["total_return"].to_list()


def inputs_of(
    book: Book, sessions: int, tickers: int, *, frontier: bool = False, **of_market: float
) -> TearSheetInputs:
    """The inputs of the tear sheet of `book` on a market."""
    targets, bars = targets_of(book, sessions, tickers, **of_market)
    sleeves = dict.fromkeys({day.year for day in targets.panel.sessions}, book.sleeves or 7)
    booked = run(targets.panel, weights_of(targets, sleeves), book)
    frames = frames_of(booked, np.ones(sessions))
    backtest, trials = BACKTEST.empty(), Trials(0, 0, 0, None)
    if sessions > 1:
        cells = [*cells_of(targets, book, frontier=frontier)]
        rows = trial_rows([cell.computed for cell in cells], computed_at=NOW)
        trials = trials_of(rows, tunings=3, challengers=2)
        backtest = rows_of_book(cells, book, trials)
    t, n = np.indices(targets.scores.shape)
    days, names = pl.Series("session", targets.panel.sessions, dtype=pl.Date), pl.Series(targets.panel.tickers)
    scored = pl.DataFrame(
        {
            "session": days.gather(t.ravel()),
            "ticker": names.gather(n.ravel()),
            "score": targets.scores.ravel(),
            "reason": pl.Series([None, "suspect"], dtype=pl.String).gather((targets.reason == 2).ravel().astype(int)),
        },
        schema_overrides={"ticker": pl.String},
    )
    return TearSheetInputs(
        book=book,
        model="rnn",
        source="simulated",
        currency="USD",
        **frames,
        targets=scored,
        backtest=backtest,
        trials=trials,
        bars=bars,
        universe=universe(tickers),
    )
