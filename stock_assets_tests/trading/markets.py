"""A made-up market in a store, small and quick: bars with splits, dividends, gaps, doubts and endings, and scores."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.market.calendar import calendar_of
from stock_assets.market.tables import CONTEXT_SERIES, DAILY_BARS, UNIVERSE
from stock_assets.model.tables import PREDICTIONS
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse

START, END = date(2018, 6, 1), date(2020, 1, 15)
TICKERS = tuple(f"T{n:02d}" for n in range(24))
BOOKS = """
[[book]]
name = "plain"
kind = "long_only"
sleeves = 3

[[book]]
name = "open_k"
kind = "long_short"
costs = {debit = 0.03, credit = 0.01, sale_fee = 0.0001}
limits = {position = 0.2, fewest_names = 10}

[[book]]
name = "calm"
kind = "long_only"
sleeves = 2
volatility_target = 0.05
whole_shares = false

[[book]]
name = "late"
kind = "long_only"
sleeves = 1
fill = "second open"
"""


def market_settings(folder: Path, books: str = BOOKS, **overrides: object) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "books.toml").write_text(books)
    plain: dict[str, object] = {
        "source": "simulated",
        "data_dir": folder / "data",
        "books": folder / "books.toml",
        "broker": "off",
        "start": START,
        "end": END,
        "first_model_year": 2019,
    }
    return read_settings(**(plain | overrides))


def bars_of(settings: Settings, seed: int = 0) -> pl.DataFrame:
    """Rows of daily_bars of every session, fetched an hour after the close."""
    calendar, rng = calendar_of(settings), np.random.default_rng(seed)
    sessions, number = calendar.sessions, len(TICKERS)
    shape = len(sessions), number
    returns = rng.normal(0.0003, 0.015, shape)
    split = np.where(rng.random(shape) < 0.002, 2.0, 1.0)
    dividend = np.where(rng.random(shape) < 0.004, 0.4, 0.0)
    close = np.empty(shape)
    close[0] = rng.uniform(20, 200, number)
    for t in range(1, len(sessions)):
        close[t] = close[t - 1] * (1 + returns[t]) / split[t]
    opened = close * (1 + rng.normal(0, 0.004, shape))
    opened[1:] = close[:-1] / split[1:] * (1 + 0.3 * returns[1:])  # most of a return comes after the open
    total = np.full(shape, np.nan)
    total[1:] = (close[1:] + dividend[1:]) * split[1:] / close[:-1] - 1
    present = rng.random(shape) > 0.004
    present[:5] = True
    present[300:, 3] = False  # it ends while it may be held
    present[330:352, 5] = False  # it is halted, and comes back
    suspect = (rng.random(shape) < 0.003) & (np.arange(len(sessions)) > 260)[:, None]
    volume = np.round(rng.lognormal(14, 0.3, shape))
    t, n = np.nonzero(present)
    fetched = [calendar.closes[session] + timedelta(hours=1) for session in sessions]
    return DAILY_BARS.fit(
        pl.DataFrame(
            {
                "ticker": pl.Series(TICKERS).gather(n),
                "session": pl.Series(sessions, dtype=pl.Date).gather(t),
                "open": opened[t, n],
                "high": np.maximum(opened, close)[t, n] * 1.005,
                "low": np.minimum(opened, close)[t, n] * 0.995,
                "close": close[t, n],
                "volume": volume[t, n],
                "dividend": dividend[t, n],
                "split_ratio": split[t, n],
                "total_return": total[t, n],
                "is_member": np.ones(len(t), bool),
                "suspect": pl.Series(suspect[t, n]).replace_strict({True: "absurd_return", False: None}),
                "provisional": np.zeros(len(t), bool),
                "fetched_at": pl.Series(fetched).gather(t),
            }
        ).with_columns(pl.col("total_return").fill_nan(None), pl.col("fetched_at").dt.convert_time_zone("UTC"))
    )


def predictions_of(bars: pl.DataFrame, first: date, *, signal: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """Rows of predictions of rnn of every trusted bar from `first` on; `signal` mixes in the next session's return."""
    rng = np.random.default_rng(seed)
    rows = bars.filter(pl.col("suspect").is_null()).sort("ticker", "session")
    ahead = pl.col("total_return").shift(-1).over("ticker").fill_null(0.0)
    noise = pl.Series("noise", rng.normal(0, 0.015, rows.height))
    rows = rows.with_columns(noise).with_columns(value=(1 - signal) * pl.col("noise") + signal * ahead)
    buy = 1 / (1 + (-20 * pl.col("value")).exp())
    asked = pl.Series(rng.random(rows.height) > 0.003)  # some have too short a history
    rows = rows.filter(asked, pl.col("session") >= first).with_columns(p_buy=0.6 * buy, p_sell=0.6 * (1 - buy))
    return PREDICTIONS.fit(
        rows.select(
            "ticker",
            "session",
            "p_sell",
            "p_buy",
            model=pl.lit("rnn"),
            model_version=pl.lit("rnn-1"),
            trained_through=pl.lit(date(2018, 12, 31)),
            p_hold=pl.lit(0.4),
            score=pl.col("p_buy") - pl.col("p_sell"),
        )
    )


def universe_rows() -> pl.DataFrame:
    rows = {
        "ticker": list(TICKERS),
        "name": list(TICKERS),
        "sector": [f"sector {n % 4}" for n in range(len(TICKERS))],
        "from_session": [START] * len(TICKERS),
        "to_session": [None] * len(TICKERS),
        "currency": ["USD"] * len(TICKERS),
    }
    return UNIVERSE.fit(pl.DataFrame(rows))


def context_rows(settings: Settings) -> pl.DataFrame:
    """SPY, with a return of every session."""
    sessions = calendar_of(settings).sessions
    returns = np.random.default_rng(9).normal(0.0003, 0.01, len(sessions))
    price = 100 * np.cumprod(1 + returns)
    rows = {"series": ["SPY"] * len(sessions), "session": sessions, "total_return": returns}
    prices = dict.fromkeys(("open", "high", "low", "close"), price)
    frame = pl.DataFrame(rows | prices).with_columns(
        source=pl.lit("simulated"), fetched_at=pl.lit(datetime(2021, 1, 1, tzinfo=UTC))
    )
    return CONTEXT_SERIES.fit(frame)


def fill(store: Warehouse, settings: Settings, *, bars: pl.DataFrame, predictions: pl.DataFrame) -> None:
    """Puts the market into the store, as far as the calendar goes."""
    sessions = calendar_of(settings).sessions
    served = [session for session in sessions if session.year >= 2019]
    store.replace_table("universe", universe_rows())
    store.replace_sessions("daily_bars", sessions, bars)
    store.replace_sessions("context_series", sessions, context_rows(settings))
    store.replace_sessions("predictions", served, predictions)


def market(folder: Path, books: str = BOOKS, **overrides: object) -> tuple[Warehouse, Settings]:
    """A store with bars and predictions, and nothing traded yet."""
    settings = market_settings(folder, books, **overrides)
    store = Warehouse(settings.database)
    bars = bars_of(settings)
    fill(store, settings, bars=bars, predictions=predictions_of(bars, date(2019, 1, 1)))
    return store, settings
