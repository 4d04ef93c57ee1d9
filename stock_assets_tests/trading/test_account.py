"""Evenings of an account on a real store: its equity is that of the back-test, to 0.00, and every cause is counted."""

import os
from pathlib import Path

from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.orders import trade_evening
from stock_assets_tests.trading.paper_market import (
    Hands,
    desk_of,
    evening_of,
    fill,
    no_pause,
    predict,
    sessions_of,
    settings_of,
)

EVENINGS = int(os.environ.get("DRILL_SESSIONS", "30"))


def test_a_year_of_evenings_is_the_back_test_to_0_00(tmp_path: Path):
    settings, clock = settings_of(tmp_path), Hands()
    store = Warehouse(settings.database)
    fill(store, settings, EVENINGS)
    desk = desk_of(store, settings, clock)
    for session in sessions_of(settings, EVENINGS):
        clock.now = evening_of(session)
        predict(store, session)
        done = trade_evening(desk, session, pause=no_pause)
        assert not done.refusals, [gate.reason for gate in done.refusals]
    rows = store.read("paper_equity").sort("session")
    assert rows.height == EVENINGS
    assert (rows["equity"] == rows["backtest_equity"]).all()
    for cause in ("by_price", "by_quantity", "by_cost", "by_event", "by_revision", "unexplained"):
        assert rows[cause].abs().max() < 0.005, cause
    assert "breaks" not in store.row_counts() or store.read("breaks").is_empty()
