"""The generated market of the benchmark of a back-test."""

import numpy as np

from benchmarks.backtest import BOOK, generated_panel, generated_weights
from stock_assets.trading.ledger import run


def test_a_split_changes_the_price_and_nothing_that_is_worth_anything():
    panel = generated_panel(200, 100)
    splits = np.stack([panel.day(t).split_ratio for t in range(200)])
    assert (splits == 2).sum() > 0
    moves = panel.close[1:] * splits[1:] / panel.close[:-1] - 1
    assert np.abs(moves).max() < 0.1
    assert panel.fifth[0].max() == 4


def test_the_book_holds_the_top_tenth_and_every_session_is_booked():
    weights = generated_weights(40, 50)
    assert ((weights > 0).sum(axis=1) == 5).all()
    totals = run(generated_panel(40, 50), weights, BOOK).totals
    assert (totals["names"][1:] >= 5).all()
    assert np.isfinite(totals["equity"]).all()
