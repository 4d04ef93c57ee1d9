"""A book tried in every way: each back-test is that of the ledger, and counted."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from stock_assets.trading.ledger import run
from stock_assets.trading.overfitting import overfitting_probability
from stock_assets.trading.sensitivities import CAPITALS, CHOSEN, SCALES, Cell, cells_of, rows_of_book
from stock_assets.trading.targets import OwnTargets, weights_of
from stock_assets.trading.trials import BASE, Trials
from stock_assets_tests.trading.sheets import SMALL_SHORT, targets_of

TRIALS = Trials(100, 0, 0, 0.001)


@pytest.fixture(scope="module")
def targets() -> OwnTargets:
    """Two calendar years, of which the second may choose K."""
    return targets_of(replace(SMALL_SHORT, model="mlp"), 275, 12)[0]


@pytest.fixture(scope="module")
def cells(targets: OwnTargets) -> list[Cell]:
    return [*cells_of(targets, replace(SMALL_SHORT, model="mlp"), frontier=True)]


def test_every_way_is_tried_once(cells: list[Cell]):
    tried = [(cell.computed.sleeves, cell.scale, cell.capital, cell.computed.variant) for cell in cells]
    assert len(set(tried)) == len(tried) == 5 * len(SCALES) * len(CAPITALS) + 6
    assert {one[0] for one in tried} == {CHOSEN, 1, 3, 7, 14}
    assert [variant for *_, variant in tried[-6:]] == [
        "fill at the close",
        "fill at the second open",
        "unknown endings 0%",
        "unknown endings -100%",
        "borrow x3",
        "volatility target 10%",
    ]
    assert len({cell.computed.trial for cell in cells}) == len(cells)


@pytest.mark.parametrize("variant", [BASE, "spread x4", "capital 1,000,000,000", "spread x2, capital 10,000,000"])
def test_an_account_that_is_booked_with_others_is_the_one_alone(targets: OwnTargets, cells: list[Cell], variant: str):
    cell = next(cell for cell in cells if cell.computed.variant == variant and cell.computed.sleeves == 3)
    alone = run(targets.panel, weights_of(targets, {2023: 3, 2024: 3}), cell.computed.book).totals
    np.testing.assert_allclose(cell.net, alone["net_return"][1:], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(cell.turnover, alone["turnover"][1:], rtol=1e-9, atol=1e-15)


def test_dearer_is_never_better(cells: list[Cell]):
    of_three = [cell for cell in cells if cell.computed.sleeves == 3 and cell.capital == 1e6]
    nets = [cell.net.mean() for cell in sorted(of_three, key=lambda cell: cell.scale)]
    assert nets == sorted(nets, reverse=True)
    base = next(cell for cell in cells if cell.computed.sleeves == CHOSEN and cell.computed.variant == BASE)
    borrow = next(cell for cell in cells if cell.computed.variant == "borrow x3")
    assert borrow.net.mean() < base.net.mean()


def test_sleeves_are_chosen_on_the_years_before_alone(targets: OwnTargets, cells: list[Cell]):
    base = {cell.computed.sleeves: cell.net for cell in cells if cell.computed.variant == BASE}
    years = np.array([session.year for session in targets.panel.sessions[1:]])
    best = max((1, 3, 7, 14), key=lambda number: base[number][years == 2023].mean())
    np.testing.assert_allclose(base[CHOSEN][years == 2023], base[7][years == 2023], rtol=1e-12)
    weights = weights_of(targets, {2023: 7, 2024: best})
    alone = run(targets.panel, weights, SMALL_SHORT).totals["net_return"][1:]
    np.testing.assert_allclose(base[CHOSEN], alone, rtol=1e-9, atol=1e-15)


def test_a_volatility_target_scales_by_what_was_known(targets: OwnTargets):
    book = replace(SMALL_SHORT, volatility_target=0.02, sleeves=3)
    scaled, free = (
        next(cell for cell in cells_of(targets, each, frontier=False) if cell.computed.variant == BASE)
        for each in (book, replace(book, volatility_target=None))
    )
    assert (scaled.computed.sleeves, free.computed.sleeves) == (1, 1)
    np.testing.assert_allclose(scaled.net[:20], free.net[:20], rtol=1e-12)  # fewer returns have no volatility
    assert scaled.net[60:].std() < 0.7 * free.net[60:].std()


def test_the_rows_of_a_book(cells: list[Cell]):
    rows = rows_of_book(cells, SMALL_SHORT, TRIALS)
    assert rows.height == len(cells)
    assert rows.select("book", "model", "sleeves", "spread_scale", "variant").is_unique().all()
    base = rows.filter((pl.col("variant") == BASE) & (pl.col("sleeves") == 3)).row(0, named=True)
    cell = next(cell for cell in cells if cell.computed.variant == BASE and cell.computed.sleeves == 3)
    assert base["net_sharpe"] == pytest.approx(cell.net.mean() / cell.net.std(ddof=1) * 252**0.5)
    assert base["net_sharpe_low"] < base["net_sharpe"] < base["net_sharpe_high"]
    assert base["break_even"] == pytest.approx(cell.gross.mean() / cell.turnover.mean())
    assert base["break_even_low"] < base["break_even"] < base["break_even_high"]
    assert base["capacity_low"] < base["capacity"] < base["capacity_high"]
    assert (base["trials"], base["model"], base["capital"]) == (100, "mlp", 1e6)
    tried = np.column_stack([cell.net for cell in cells if cell.computed.variant == BASE])
    assert base["overfitting"] == overfitting_probability(tried)
    assert 1 <= base["effective_trials"] <= 5
    assert rows.filter(pl.col("variant") == "fill at the close")["capacity"].item() is None


def test_the_capacity_is_that_of_the_root_law(cells: list[Cell]):
    """Impact a session grows with the root of the capital where all orders are filled."""
    impacts = {cell.capital: cell.impact.mean() for cell in cells if cell.scale == 1 and cell.computed.sleeves == 7}
    assert impacts[1e7] / impacts[1e6] == pytest.approx(10**0.5, rel=0.05)
    rows = rows_of_book(cells, SMALL_SHORT, TRIALS)
    capacity = rows.filter((pl.col("variant") == BASE) & (pl.col("sleeves") == 7))["capacity"].item()
    gains = {
        cell.capital: cell.net.mean() * cell.capital
        for cell in cells
        if cell.scale == 1 and cell.computed.sleeves == 7 and cell.computed.variant in (BASE, "capital 10,000,000")
    }
    assert gains[1e7] > gains[1e6]
    assert capacity > 1e6


def test_a_market_without_two_sessions_has_rows_without_ratios():
    targets, _ = targets_of(SMALL_SHORT, 1, 12)
    rows = rows_of_book([*cells_of(targets, SMALL_SHORT, frontier=False)], SMALL_SHORT, TRIALS)
    assert rows["net_sharpe"].null_count() == rows.height
