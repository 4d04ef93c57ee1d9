"""A small market in a real store, and evenings of an account on it: splits, dividends, a halt and a delisting."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import digest_of
from stock_assets.trading.books import LONG_ONLY, Book, Costs
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.materialize.account import Desk, open_broker
from stock_assets_tests.tables import rows_of

TICKERS = ("AAA", "BBB", "CCC", "DDD", "EEE")
START = date(2022, 12, 1)
#: Sessions of bars before the account begins.
HISTORY = 25
#: Splits by ticker and evening, of every 120 evenings: each is undone, so that no price runs away in a year.
RATIOS = {("BBB", 8): 2.0, ("BBB", 68): 0.5, ("CCC", 12): 0.5, ("CCC", 72): 2.0}
VERSION = "rnn-2023-a"
FETCHED = timedelta(minutes=70)
#: Costs of every kind, so that none of them can be forgotten on one side.
BOOK = replace(
    LONG_ONLY,
    # a fifth of the account is in the listing that ends: it loses less than a gate takes for a bad day
    costs=Costs(credit=0.02, debit=0.06, sale_fee=0.00002, commission_minimum=1.0, ending=-0.1),
    limits=replace(LONG_ONLY.limits, position=0.3, ended_sessions=3, frozen_sessions=2),
)


def settings_of(folder: Path, start: date = START, **more: object) -> Settings:
    plain = {"start": start, "first_model_year": start.year + 1, "mlflow": "off", "context": "off"}
    return read_settings(data_dir=folder, **(plain | more))


def sessions_of(settings: Settings, evenings: int) -> tuple[date, ...]:
    """The decision sessions of so many evenings, the history before them left out."""
    return calendar_of(settings).sessions[HISTORY : HISTORY + evenings]


def fill(store: Warehouse, settings: Settings, evenings: int, *, book: Book = BOOK, seed: int = 7) -> None:
    """Bars, predictions and targets of all sessions to the last of `evenings`; more evenings change none of them."""
    calendar = calendar_of(settings)
    sessions = calendar.sessions[: HISTORY + evenings]
    store.replace_table("universe", _universe())
    bars = _bars(sessions, calendar, seed)
    store.replace_sessions("daily_bars", sessions, bars)
    store.replace_sessions(
        "context_series", sessions, rows_of("context_series", pl.DataFrame(schema={"session": pl.Date}))
    )
    served = sessions[HISTORY:]
    traded = bars.filter(pl.col("session").is_in(list(served)), pl.col("suspect").is_null())
    predictions = _predictions(traded)
    store.replace_table("predictions", rows_of("predictions", predictions.clear()))
    trained = pl.DataFrame({"model_year": [2023, 2024], "model": "rnn", "version": VERSION})
    trained = trained.with_columns(pl.col("model_year").cast(pl.Int32), trained_through=pl.lit(date(2022, 12, 20)))
    store.replace_table("trained_rnn", rows_of("trained_rnn", trained))
    store.replace_sessions("target_weights", served, _targets(predictions, served, seed, book=book))


def predict(store: Warehouse, session: date) -> None:
    """Stores the predictions of `session`, as its evening does before the orders are due."""
    bars = store.read("daily_bars", session, session).filter(pl.col("suspect").is_null())
    store.replace_sessions("predictions", [session], rows_of("predictions", _predictions(bars)))


def _predictions(bars: pl.DataFrame) -> pl.DataFrame:
    more = {"p_sell": 0.3, "p_hold": 0.4, "p_buy": 0.3, "score": 0.0}
    return bars.select("ticker", "session").with_columns(model=pl.lit("rnn"), model_version=pl.lit(VERSION), **more)


def desk_of(store: Warehouse, settings: Settings, clock: "Hands", *, book: Book = BOOK) -> Desk:
    return Desk(store, settings, book, open_broker(settings, book, clock=clock), clock)


def announcing(broker: SimulatedBroker, settings: Settings) -> SimulatedBroker:
    """The same account at a broker that announces the splits of the market."""
    sessions = calendar_of(settings).sessions

    def announced(session: date) -> dict[str, float]:
        evening = (sessions.index(session) - HISTORY) % 120
        return {ticker: ratio for (ticker, at), ratio in RATIOS.items() if at == evening}

    broker._announced = announced
    return broker


class Hands:
    """A clock that a test sets."""

    def __init__(self, now: datetime = datetime(2023, 1, 1, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def evening_of(session: date) -> datetime:
    """19:30 in New York: within the window in which opening orders are taken."""
    return datetime(session.year, session.month, session.day, tzinfo=UTC) + timedelta(days=1, minutes=30)


def no_pause(_: float) -> None:
    """Nothing to wait for."""


def _universe() -> pl.DataFrame:
    rows = pl.DataFrame({"ticker": TICKERS, "from_session": [START] * len(TICKERS)})
    return rows_of("universe", rows.with_columns(name=pl.col("ticker"), sector=pl.lit("Tech")))


def _bars(sessions: Sequence[date], calendar: TradingCalendar, seed: int) -> pl.DataFrame:
    generators = [np.random.default_rng([seed, place]) for place in range(len(TICKERS))]
    rows = [row for place, own in enumerate(generators) for row in _of(place, sessions, calendar, own)]
    return rows_of("daily_bars", pl.DataFrame(rows, infer_schema_length=None))


def _of(
    place: int, sessions: Sequence[date], calendar: TradingCalendar, generator: np.random.Generator
) -> Iterator[dict[str, object]]:
    ticker, close = TICKERS[place], 40.0 + 15 * place
    for t, session in enumerate(sessions):
        evening = t - HISTORY
        ratio = RATIOS.get((ticker, evening % 120), 1.0)
        dividend = 0.35 if t % 20 == place else 0.0
        before, close = close, round(close * float(np.exp(generator.normal(0, 0.015))) / ratio, 2)
        opened = round(close * float(np.exp(generator.normal(0, 0.004))), 2)
        if ticker == "EEE" and evening >= 16:  # delisted
            return
        if ticker == "DDD" and 5 <= evening % 100 < 7:  # halted
            continue
        yield {
            "ticker": ticker,
            "session": session,
            "open": opened,
            "high": max(opened, close) + 0.1,
            "low": min(opened, close) - 0.1,
            "close": close,
            "volume": 0.0 if (ticker, evening % 40) == ("AAA", 10) else 4e6 / (place + 1),
            "dividend": dividend,
            "split_ratio": ratio,
            "total_return": (close + dividend) * ratio / before - 1,
            "is_member": True,
            "suspect": "spike" if (ticker, evening % 50) == ("DDD", 14) else None,
            "fetched_at": calendar.closes[session] + FETCHED,
            "provisional": False,
        }


def _targets(predictions: pl.DataFrame, sessions: Sequence[date], seed: int, *, book: Book) -> pl.DataFrame:
    """Random targets that change a little every evening, by the limits of the book."""
    generator = np.random.default_rng([seed, len(TICKERS)])
    own, rows = generator.uniform(0.05, 0.25, len(TICKERS)), []
    for session in sessions:
        own = np.clip(own + generator.normal(0, 0.02, len(own)), 0, 0.25)
        signs = np.where(np.arange(len(own)) % 3 == 0, -1, 1) if book.kind == "long_short" else 1
        weights = own / max(own.sum(), 1) * 0.9 * signs
        there = {*predictions.filter(pl.col("session") == session)["ticker"]}
        for ticker, weight in zip(TICKERS, weights, strict=True):
            # some are held as they are, as a book does that looks at few of them
            is_asked = ticker != "EEE" if session == sessions[0] else generator.random() < 0.6
            reason = None if ticker in there and is_asked else "no prediction"
            rows.append((session, ticker, None if reason else float(weight), reason))
    frame = pl.DataFrame(rows, ["session", "ticker", "weight", "reason"], orient="row")
    more = {"book": book.name, "model": "rnn", "model_version": VERSION, "settings": digest_of(book)}
    return rows_of("target_weights", frame.with_columns(pl.lit(value).alias(name) for name, value in more.items()))
