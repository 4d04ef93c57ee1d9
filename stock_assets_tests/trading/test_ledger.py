"""The ledger of one session: every event in its order, and nothing gained or lost that no column explains."""

from dataclasses import replace
from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.trading.books import LONG_SHORT, Costs
from stock_assets.trading.ledger import Account, Booked, opened, step
from stock_assets.trading.panel import UNKNOWN_ENDING, Bars

N = 5


def bars_of(generator: np.random.Generator, **columns: np.ndarray) -> Bars:
    """A session in which anything may happen to N tickers."""
    close = generator.uniform(5, 500, N)
    random = {
        "open": close * generator.uniform(0.9, 1.1, N),
        "close": close,
        "dividend": np.where(generator.random(N) < 0.2, generator.uniform(0, 2, N), 0.0),
        "split_ratio": generator.choice([1.0, 1.0, 1.0, 2.0, 0.1], N),
        "refusal": generator.choice([0, 0, 0, 3, 5], N).astype(np.int8),
        "trusted": np.ones(N, dtype=bool),
        "ending": np.where(generator.random(N) < 0.1, generator.choice([0.0, -1.0, UNKNOWN_ENDING], N), np.nan),
        "adv_before": generator.uniform(1e5, 1e9, N),
        "volatility_before": generator.uniform(0.005, 0.05, N),
        "fifth_before": generator.integers(0, 5, N).astype(np.int8),
    }
    return Bars(date(2024, 1, 2), int(generator.integers(1, 5)), **{**random, **columns})


def change(booked: Booked) -> float:
    gains = booked.price + booked.dividend + booked.ending
    costs = booked.spread + booked.impact + booked.commission + booked.borrow
    return float((gains - costs).sum() + booked.interest)


@given(st.integers(0, 2**32 - 1))
def test_every_change_of_equity_has_a_cause(seed: int):
    generator = np.random.default_rng(seed)
    account: Account = opened(1e6, N)
    costs = Costs(credit=0.02, debit=0.05, sale_fee=0.0001, commission_minimum=1.0)
    book = replace(LONG_SHORT, costs=costs, whole_shares=bool(seed % 2))
    for _ in range(8):
        before = account.equity
        account, booked = step(account, generator.normal(0, 300, N).round(), bars_of(generator), book=book)
        assert abs(account.equity - before - change(booked)) < 0.005
