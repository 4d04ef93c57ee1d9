from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.trading.books import LONG_ONLY, LONG_SHORT, Book, Limits
from stock_assets.trading.portfolio import (
    FIRST_SLEEVES,
    HOLDS,
    Evening,
    best_sleeves,
    own_target,
    residual,
    sleeved,
    volatility_scale,
)

#: The rounding of weights that are scaled to a limit.
ROUNDING = 1e-12


def evening(number: int, seed: int = 0, sectors: int = 10) -> Evening:
    rng = np.random.default_rng(seed)
    return Evening(
        score=rng.normal(0, 0.1, number),
        close=rng.uniform(10, 500, number),
        trusted=np.ones(number, bool),
        adv=rng.uniform(1e7, 1e9, number),
        beta=rng.normal(1, 0.4, number),
        sector=rng.integers(0, sectors, number),
    )


def reasons(target) -> list[str]:
    return [HOLDS[i] for i in target.reason]


# ---------------------------------------------------------------- long only


def test_the_top_tenth_is_held_at_equal_weights():
    bars = evening(500)
    own = own_target(bars, LONG_ONLY).own
    best = np.argsort(-bars.score)[:50]
    assert np.flatnonzero(own).tolist() == sorted(best.tolist())
    assert own[best] == pytest.approx(np.full(50, 0.02))


def test_a_small_universe_holds_the_fewest_names_within_the_position_limit():
    own = own_target(evening(20), LONG_ONLY).own
    assert np.count_nonzero(own) == 5
    assert own.max() == pytest.approx(0.2)
    capped = replace(LONG_ONLY, limits=replace(LONG_ONLY.limits, position=0.05))
    assert own_target(evening(20), capped).own.sum() == pytest.approx(0.25)


@pytest.mark.parametrize("book", [LONG_ONLY, LONG_SHORT])
def test_too_few_tickers_are_held_as_they_are_and_the_reason_is_named(book: Book):
    target = own_target(evening(book.limits.fewest_names - 1), book)
    assert np.isnan(target.own).all()
    assert set(reasons(target)) == {"too few names"}
    assert target.eligible == book.limits.fewest_names - 1


def test_scores_that_tie_share_their_places_so_that_no_name_is_picked_by_chance():
    flat = replace(evening(60), score=np.full(60, 0.3))
    assert own_target(flat, LONG_ONLY).own == pytest.approx(np.full(60, 1 / 60))
    assert own_target(flat, LONG_SHORT).own.tolist() == [0.0] * 60


# ---------------------------------------------------------------- long short


@pytest.mark.parametrize(("number", "sectors"), [(498, 11), (60, 10), (45, 3), (100, 1)])
def test_a_long_short_target_is_neutral_and_within_every_limit(number: int, sectors: int):
    bars = evening(number, seed=number, sectors=sectors)
    own = own_target(bars, LONG_SHORT).own
    limits = LONG_SHORT.limits
    assert np.abs(own).max() <= limits.position + ROUNDING
    assert np.abs(own).sum() <= limits.gross + ROUNDING
    assert np.count_nonzero(own) >= limits.fewest_names
    assert np.bincount(bars.sector, own) == pytest.approx(0, abs=ROUNDING)
    assert own @ bars.beta == pytest.approx(0, abs=ROUNDING)
    assert np.corrcoef(own, bars.score)[0, 1] > 0.5


def test_a_large_universe_uses_most_of_the_gross():
    assert np.abs(own_target(evening(498), LONG_SHORT).own).sum() > 1.8


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 1000))
def test_the_residual_is_that_of_least_squares(number: int, sectors: int, seed: int):
    bars = evening(number, seed, sectors)
    design = np.column_stack([np.eye(sectors)[bars.sector], bars.beta])
    expected = bars.score - design @ np.linalg.lstsq(design, bars.score, rcond=None)[0]
    assert residual(bars.score, bars.sector, bars.beta) == pytest.approx(expected, abs=1e-9)


def test_a_beta_that_is_unknown_counts_as_that_of_the_market():
    bars = evening(60)
    unknown = np.arange(60) % 7 == 0
    own = own_target(replace(bars, beta=np.where(unknown, np.nan, bars.beta)), LONG_SHORT).own
    assert own @ np.where(unknown, 1.0, bars.beta) == pytest.approx(0, abs=ROUNDING)


# ---------------------------------------------------------------- who is held, who is sold


@pytest.mark.parametrize("book", [LONG_ONLY, LONG_SHORT])
def test_what_cannot_be_judged_is_held_and_what_is_too_cheap_or_quiet_is_sold(book: Book):
    bars = evening(100)
    bars.close[0], bars.trusted[0] = np.nan, False
    bars.trusted[1] = False
    bars.score[[1, 2]] = np.nan
    bars.close[3], bars.adv[4] = 2.99, 4.9e6
    bars.score[[3, 4]] = 9.0
    target = own_target(bars, book)
    assert reasons(target)[:5] == ["no bar", "suspect", "no prediction", "", ""]
    assert np.isnan(target.own[:3]).all()
    assert target.own[3:5].tolist() == [0.0, 0.0]
    assert not np.isnan(target.own[3:]).any()


@pytest.mark.parametrize("book", [LONG_ONLY, LONG_SHORT])
@settings(deadline=None)
@given(seed=st.integers(0, 100))
def test_neither_the_order_of_the_tickers_nor_those_without_a_score_change_a_target(book: Book, seed: int):
    bars = evening(80, seed)
    own = own_target(bars, book).own
    more = Evening(
        *(
            np.insert(values, [0, 7, 40, 80], np.nan if values.dtype == float else 0)
            for values in (bars.score, bars.close, bars.trusted, bars.adv, bars.beta, bars.sector)
        )
    )
    assert np.delete(own_target(more, book).own, [0, 8, 42, 83]).tolist() == own.tolist()
    order = np.random.default_rng(seed).permutation(80)
    names = ("score", "close", "trusted", "adv", "beta", "sector")
    shuffled = Evening(*(getattr(bars, name)[order] for name in names))
    assert own_target(shuffled, book).own == pytest.approx(own[order], abs=ROUNDING)


# ---------------------------------------------------------------- sleeves


def test_the_target_of_several_sleeves_is_the_mean_of_the_last_targets_of_one():
    own = np.random.default_rng(0).normal(0, 0.01, (30, 8))
    expected = [np.vstack([np.zeros((6, 8)), own])[t : t + 7].mean(axis=0) for t in range(30)]
    assert sleeved(own, 7) == pytest.approx(np.array(expected), abs=1e-15)
    assert sleeved(own, 1).tolist() == own.tolist()


def test_the_turnover_of_sleeves_is_bounded_by_the_targets_that_leave_and_come():
    own = np.array([own_target(evening(60, seed), LONG_ONLY).own for seed in range(20)])
    for sleeves in (3, 7):
        weights = sleeved(own, sleeves)
        turnover = np.abs(np.diff(weights, axis=0)).sum(axis=1)[sleeves:]
        bound = np.abs(own[sleeves:] - own[:-sleeves]).sum(axis=1)[1:] / sleeves
        assert (turnover <= bound + ROUNDING).all()


def test_a_session_that_held_a_ticker_asked_for_nothing_of_it():
    own = np.array([[0.2, 0.1], [np.nan, 0.1], [0.4, 0.1]])
    assert sleeved(own, 3)[2] == pytest.approx([0.2, 0.1])
    assert np.isnan(sleeved(own, 3)[1, 0])
    assert np.abs(sleeved(own, 3)[2]).sum() <= np.nansum(np.abs(own), axis=1).max()


def test_the_number_of_sleeves_is_the_one_that_earned_most_and_has_a_default():
    returns = np.random.default_rng(0).normal(0, 0.01, (250, 4))
    returns[:, 2] -= returns[:, 2].mean() - 0.01
    assert best_sleeves(returns) == 7
    assert best_sleeves(returns[:0]) == FIRST_SLEEVES


# ---------------------------------------------------------------- volatility


def test_weights_are_scaled_down_to_the_volatility_target_and_never_up():
    quiet, loud = (np.random.default_rng(0).normal(0, 0.01 * factor, 300) for factor in (0.1, 2))
    assert volatility_scale(quiet, 0.1) == 1.0
    scale = volatility_scale(loud, 0.1)
    assert scale * 0.02 * np.sqrt(252) == pytest.approx(0.1, rel=0.15)
    assert volatility_scale(loud, None) == 1.0
    assert volatility_scale(loud[:19], 0.1) == 1.0


def test_limits_of_a_book_hold_for_any_scores():
    for seed in range(30):
        limits = Limits(position=0.03, sector_net=0.0, gross=1.5, fewest_names=10)
        own = own_target(evening(40, seed, sectors=4), replace(LONG_SHORT, limits=limits)).own
        assert np.abs(own).max() <= 0.03 + ROUNDING
        assert np.abs(own).sum() <= 1.5 + ROUNDING
