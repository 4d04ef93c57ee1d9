"""Distances between windows: against SciPy and a plain loop, and that a figure depends on its own windows alone."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.drift import BINS, FIGURES, FLOOR, INPUT, LEVELS, RECENT, drift_figures, summary
from stock_assets_tests.model.synthetic import sessions_of

QUICK = settings(derandomize=True, deadline=None, max_examples=15)
DAYS = sessions_of(160)
REFERENCE, LATER = DAYS[:100], DAYS[90:]  # a recent window may reach into the reference
COLUMNS = ("smooth", "tied", "rare", "constant")


def panel(seed: int, tickers: int = 5, shift: float = 0.0) -> pl.DataFrame:
    """A continuous column, one with many ties, one that is nearly always 0 and one that is always 1; from the 120th
    session on the first moves by `shift`."""
    rng = np.random.default_rng(seed)
    rows = len(DAYS) * tickers
    moved = np.repeat(np.arange(len(DAYS)) >= 120, tickers)
    return pl.DataFrame(
        {
            "ticker": [f"T{i}" for i in range(tickers)] * len(DAYS),
            "session": np.repeat(np.array(DAYS, "datetime64[D]"), tickers),
            "smooth": rng.normal(size=rows) + shift * moved,
            "tied": np.round(rng.normal(size=rows) * rng.choice([1, 3]), 0),
            "rare": np.where(rng.random(rows) < 0.03, rng.exponential(size=rows), 0.0),
            "constant": 1.0,
        }
    )


def figures_of(rows: pl.DataFrame, columns=COLUMNS, sessions=LATER) -> pl.DataFrame:
    return drift_figures(rows.filter(pl.col("session").is_in(REFERENCE)), rows, columns, sessions=sessions)


def windows_of(rows: pl.DataFrame, session, name: str) -> tuple[np.ndarray, np.ndarray]:
    place = LATER.index(session)
    recent = rows.filter(pl.col("session").is_in(LATER[place - RECENT + 1 : place + 1]))
    return rows.filter(pl.col("session").is_in(REFERENCE))[name].to_numpy(), recent[name].to_numpy()


def plain_psi(reference: np.ndarray, recent: np.ndarray) -> float:
    """By the book: bins between deciles, a loop over them."""
    ordered = sorted(reference)
    ends = [ordered[-(-len(ordered) * k // BINS) - 1] for k in range(1, BINS)]
    total, below = 0.0, -np.inf
    for end in [*dict.fromkeys(ends), np.inf]:
        f = max(FLOOR, float(((reference > below) & (reference <= end)).mean()))
        r = max(FLOOR, float(((recent > below) & (recent <= end)).mean()))
        total, below = total + (r - f) * np.log(r / f), end
    return total


@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(-3, 3))
@QUICK
def test_the_figures_are_those_of_scipy_and_of_the_book(seed: int, tickers: int, shift: float):
    from scipy.stats import ks_2samp

    rows = panel(seed, tickers, shift)
    found = figures_of(rows.sample(fraction=1.0, shuffle=True, seed=1))
    assert found.height == (len(LATER) - RECENT + 1) * len(COLUMNS)
    assert found.schema == FIGURES
    for session, name, psi, ks in found.gather_every(29).iter_rows():
        reference, recent = windows_of(rows, session, name)
        assert len(reference) <= LEVELS  # where the distance is exact
        assert ks == pytest.approx(ks_2samp(reference, recent).statistic, abs=1e-12)  # pyright: ignore[reportAttributeAccessIssue]
        assert psi == pytest.approx(plain_psi(reference, recent), abs=1e-12)


def test_the_distance_of_a_large_reference_is_too_small_by_one_level_at_most():
    from scipy.stats import ks_2samp

    rows = panel(0, 60, 0.4).with_columns(smooth=pl.col("smooth").cast(pl.Float32))
    found = figures_of(rows)
    for session, name, psi, ks in found.gather_every(13).iter_rows():
        reference, recent = windows_of(rows, session, name)
        exact = ks_2samp(reference, recent).statistic  # pyright: ignore[reportAttributeAccessIssue]
        assert exact - 1 / LEVELS - 1e-12 <= ks <= exact + 1e-12
        assert psi == pytest.approx(plain_psi(reference, recent), rel=1e-5, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(RECENT, len(LATER)))
@QUICK
def test_neither_later_sessions_nor_the_range_change_a_figure(seed: int, kept: int):
    rows = panel(seed, shift=1.0)
    whole = figures_of(rows)
    last = LATER[kept - 1]
    truncated = rows.filter(pl.col("session") <= max(last, REFERENCE[-1]))
    assert_frame_equal(
        figures_of(truncated, COLUMNS, LATER[:kept]), whole.filter(pl.col("session") <= last), abs_tol=1e-12
    )
    alone = figures_of(rows, COLUMNS, LATER[kept - RECENT : kept])
    assert_frame_equal(alone, whole.filter(pl.col("session") == last), abs_tol=1e-12)


@given(st.integers(0, 10_000))
@QUICK
def test_the_order_of_values_alone_counts(seed: int):
    """Both figures compare ranks: a strictly increasing map of a column changes nothing."""
    rows = panel(seed, shift=1.0)
    stretched = rows.with_columns(pl.col("smooth", "rare").exp() * 7 - 3)
    assert_frame_equal(figures_of(stretched), figures_of(rows), abs_tol=1e-12)


def test_what_moves_shows_and_what_does_not_does_not():
    figures = figures_of(panel(3, 40, shift=1.0)).sort("session")
    last = {name: (psi, ks) for _, name, psi, ks in figures.tail(len(COLUMNS)).iter_rows()}
    assert last["constant"] == (0.0, 0.0)
    assert last["smooth"][1] == pytest.approx(0.383, abs=0.05)  # 2 Φ(½) - 1, of two unit normals one apart
    assert last["smooth"][0] > 0.8
    assert last["rare"][1] < 0.03
    before = figures.filter((pl.col("session") < DAYS[120]) & (pl.col("column") == "smooth"))
    assert before["ks"].max() < 0.1  # pyright: ignore[reportOperatorIssue]


def test_a_bin_without_a_recent_row_is_finite():
    rows = panel(0, 40, shift=50.0)
    psi = figures_of(rows, ["smooth"])["psi"][-1]
    # nine bins lost their tenth, one has all
    assert psi == pytest.approx(9 * (0.1 - FLOOR) * np.log(0.1 / FLOOR) + 0.9 * np.log(10), rel=1e-6)


def test_the_summary_is_the_quantile_of_the_columns_of_its_kind():
    figures = figures_of(panel(1, shift=1.0)).with_columns(kind=pl.lit(INPUT))
    found = summary(figures, INPUT)
    last = figures.filter(pl.col("session") == LATER[-1])
    assert found["session"].to_list() == LATER[RECENT - 1 :]
    assert found["drift"][-1] == pytest.approx(np.quantile(last["ks"], 0.9))
    assert summary(figures, "prediction").is_empty()


def test_fewer_sessions_than_a_window_have_no_figure():
    assert figures_of(panel(0), COLUMNS, LATER[: RECENT - 1]).is_empty()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.with_columns(smooth=pl.lit(None, pl.Float64)), "smooth has numbers that are null"),
        (lambda rows: rows.with_columns(tied=pl.lit(float("nan"))), "tied has numbers that are null or not finite"),
        (lambda rows: rows.filter(pl.col("session") >= DAYS[100]), "the reference has no row"),
        (lambda rows: rows.filter(pl.col("session") < DAYS[125]), f"the window up to {DAYS[145]} has no row"),
    ],
)
def test_rows_that_cannot_be_compared_are_named(change, message: str):
    with pytest.raises(StockAssetsError, match=message):
        figures_of(change(panel(0)))
