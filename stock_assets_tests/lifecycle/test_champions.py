"""Who is promoted, and who serves: judged on made-up windows of which the better forecaster is known."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.lifecycle.champions import (
    COVERAGE,
    MARGIN,
    SMALLEST_WINDOW,
    Promotion,
    champion_at,
    champion_history,
    champions_at,
    judge,
    previous_champion,
    promotion_rows,
    reconcile,
)
from stock_assets.lifecycle.tables import PROMOTIONS
from stock_assets_tests.model.synthetic import sessions_of

TICKERS = 12


def window(sessions: int = 63, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(predictions that are the true probabilities, labels drawn from them)."""
    rng = np.random.default_rng(seed)
    keys = pl.DataFrame(
        [(f"T{i:02d}", day) for day in sessions_of(sessions) for i in range(TICKERS)],
        schema={"ticker": pl.String, "session": pl.Date},
        orient="row",
    )
    truth = rng.dirichlet((2, 2, 2), keys.height)
    drawn = (rng.random((keys.height, 1)) > truth.cumsum(axis=1)).sum(axis=1) - 1
    return predictions(keys, truth), keys.with_columns(label=pl.Series(drawn, dtype=pl.Int8))


def predictions(keys: pl.DataFrame, probabilities: np.ndarray) -> pl.DataFrame:
    return keys.select("ticker", "session").with_columns(
        **{name: pl.Series(probabilities[:, i]) for i, name in enumerate(("p_sell", "p_hold", "p_buy"))}
    )


def blurred(truth: pl.DataFrame, share: float) -> pl.DataFrame:
    """`truth` pulled towards a third each: worse, the more so the larger `share`."""
    return truth.with_columns(pl.col("p_sell", "p_hold", "p_buy") * (1 - share) + share / 3)


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The probabilities of `rows`, each given to another ticker and day."""
    order = np.random.default_rng(seed).permutation(rows.height)
    return predictions(rows, rows.select("p_sell", "p_hold", "p_buy").to_numpy()[order])


def test_the_truth_is_promoted_over_a_blurred_champion_and_not_the_other_way_round():
    truth, labels = window()
    verdict = judge(blurred(truth, 0.6), truth, labels)
    assert verdict.promote
    assert (verdict.sessions, verdict.rows) == (63, 63 * TICKERS)
    assert (verdict.window_first, verdict.window_last) == (labels["session"].min(), labels["session"].max())
    assert verdict.improvement is not None
    assert verdict.low is not None
    assert verdict.high is not None
    assert 0 < verdict.low < verdict.improvement < verdict.high
    for part in (f"{verdict.improvement:.4f}", f"{verdict.low:.4f}", str(verdict.window_last), "756 rows"):
        assert part in verdict.reason
    back = judge(truth, blurred(truth, 0.6), labels)
    assert not back.promote
    assert back.reason.startswith("stays challenger: log-loss higher by ")


def test_the_improvement_is_the_difference_of_the_two_log_losses():
    truth, labels = window(30)
    unsure = blurred(truth, 0.5)

    def loss(rows: pl.DataFrame) -> float:
        right = rows.select("p_sell", "p_hold", "p_buy").to_numpy()[range(rows.height), labels["label"].to_numpy() + 1]
        return float(-np.log(right).mean())

    assert judge(unsure, truth, labels).improvement == pytest.approx(loss(unsure) - loss(truth))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1), st.integers(SMALLEST_WINDOW, 70))
def test_what_one_wins_the_other_loses(seed: int, one: float, other: float, sessions: int):
    truth, labels = window(sessions, seed)
    there, back = (judge(blurred(truth, a), blurred(truth, b), labels) for a, b in ((one, other), (other, one)))
    for found, mirrored in ((there.improvement, back.improvement), (there.low, back.high), (there.high, back.low)):
        assert found is not None
        assert mirrored is not None
        assert found == pytest.approx(-mirrored, abs=1e-12)
    assert not (there.promote and back.promote)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.0, MARGIN]))
def test_a_model_is_never_promoted_over_itself(seed: int, margin: float):
    truth, labels = window(25, seed)
    verdict = judge(truth, truth, labels, margin=margin)
    assert not verdict.promote
    assert verdict.improvement == 0


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_a_shuffled_challenger_is_never_promoted(seed: int):
    truth, labels = window(42, seed)
    verdict = judge(blurred(truth, 0.3), shuffled(truth, seed), labels)
    assert not verdict.promote
    assert verdict.improvement is not None
    assert verdict.improvement < 0


def test_a_sure_improvement_below_the_margin_is_not_enough():
    truth, labels = window()
    worse = blurred(truth, 0.6)
    gain = judge(worse, truth, labels).improvement
    assert gain is not None
    assert judge(worse, truth, labels, margin=gain).promote
    assert not judge(worse, truth, labels, margin=gain + 1e-9).promote


def test_a_large_improvement_that_one_stretch_of_days_made_is_not_sure():
    """The same gain on every row would be promoted; here three weeks of 63 sessions win and the rest loses a little."""
    truth, labels = window()
    lucky = pl.col("session") < labels["session"].unique().sort()[15]
    mixed = pl.concat([truth.filter(lucky), blurred(truth, 0.95).filter(~lucky)])
    verdict = judge(blurred(truth, 0.9), mixed, labels)
    assert verdict.improvement is not None
    assert verdict.improvement > MARGIN
    assert verdict.low is not None
    assert verdict.low <= 0
    assert not verdict.promote


def test_the_interval_of_a_short_window_has_a_width():
    truth, labels = window(SMALLEST_WINDOW)
    verdict = judge(blurred(truth, 0.6), truth, labels)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.high - verdict.low > 0.001


def test_only_rows_that_both_answer_and_that_have_a_label_count():
    truth, labels = window(30)
    first = labels["session"].min()
    without = truth.filter(pl.col("session") > first)
    verdict = judge(truth, without, labels.filter(pl.col("ticker") != "T00"))
    assert (verdict.sessions, verdict.rows) == (29, 29 * (TICKERS - 1))
    assert verdict.window_first != first


def test_too_few_sessions_and_too_few_rows_are_reasons():
    truth, labels = window(30)
    short = judge(truth, truth, labels.filter(pl.col("session") < labels["session"].unique().sort()[20]))
    assert short.reason == "stays challenger: 20 session(s) with labels that both predict; at least 21 are needed"
    assert (short.promote, short.improvement, short.low, short.sessions) == (False, None, None, 20)
    nothing = judge(truth, truth, labels.clear())
    assert (nothing.promote, nothing.sessions, nothing.window_first) == (False, 0, None)
    sparse = judge(blurred(truth, 0.6), truth.filter(pl.col("ticker") > "T00"), labels)
    assert sparse.reason == "stays challenger: it predicts 330 of the champion's 360 rows; at least 95% are needed"
    assert (TICKERS - 1) / TICKERS < COVERAGE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, -0.1, 0.9])
def test_improper_probabilities_are_a_reason_of_the_challenger_and_an_error_of_the_champion(value: float | None):
    truth, labels = window(30)
    second = (pl.col("ticker") == "T01") & (pl.col("session") == labels["session"].min())
    wrong = truth.with_columns(p_buy=pl.when(second).then(pl.lit(value)).otherwise("p_buy"))
    verdict = judge(blurred(truth, 0.9), wrong, labels)
    assert not verdict.promote
    assert "1 row(s) hold no probabilities that sum to 1, T01 at " in verdict.reason
    with pytest.raises(StockAssetsError, match=r"champion cannot be compared with: 1 row\(s\)"):
        judge(wrong, truth, labels)


def test_a_row_that_comes_twice_is_an_error():
    truth, labels = window(30)
    with pytest.raises(StockAssetsError, match=r"2 rows of T00 at .* in challenger"):
        judge(truth, pl.concat([truth, truth.head(1)]), labels)


# ---------------------------------------------------------------- who serves

NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)
TRAINED = pl.DataFrame(
    [
        ("rnn", 2024, "rnn-2023-12-29", date(2023, 12, 29)),
        ("rnn", 2025, "rnn-2025-05-30", date(2025, 5, 30)),
        ("rnn", 2025, "rnn-2024-12-31", date(2024, 12, 31)),
        ("trees", 2025, "trees-2024-12-31", date(2024, 12, 31)),
    ],
    schema={"model": pl.String, "model_year": pl.Int32, "version": pl.String, "trained_through": pl.Date},
    orient="row",
)


def step(version: str, day: int, minute: int = 0, **changes) -> Promotion:
    """`version` of rnn, champion from that day of June on."""
    plain = {
        "model": "rnn",
        "version": version,
        "model_year": 2025,
        "serves_from": date(2025, 6, day),
        "decided_at": NOON + timedelta(minutes=minute),
        "outcome": "champion",
        "kind": "judged",
        "replaced": None,
        "reason": "",
    }
    return Promotion(**(plain | changes))  # pyright: ignore[reportArgumentType]


def test_the_base_serves_until_somebody_is_promoted_and_each_year_has_its_own():
    history = promotion_rows([step("rnn-2025-05-30", 3), step("trees-x", 2, model="trees")])
    days = [date(2024, 12, 31), date(2025, 1, 2), date(2025, 6, 2), date(2025, 6, 3), date(2025, 12, 31)]
    found = champions_at(history, TRAINED, "rnn", sessions=days)
    assert list(found.values()) == [
        "rnn-2023-12-29",
        "rnn-2024-12-31",
        "rnn-2024-12-31",
        "rnn-2025-05-30",
        "rnn-2025-05-30",
    ]
    assert champion_at(promotion_rows([]), TRAINED, "rnn", session=date(2025, 6, 3)) == "rnn-2024-12-31"
    with pytest.raises(ArtifactError, match="2026-01-02 needs rnn of model year 2026"):
        champion_at(history, TRAINED, "rnn", session=date(2026, 1, 2))


def test_a_challenger_never_serves():
    history = promotion_rows([step("b", 3), step("c", 4, outcome="challenger")])
    assert champion_at(history, TRAINED, "rnn", session=date(2025, 6, 5)) == "b"


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 27)), max_size=6), st.integers(1, 30))
def test_the_champion_is_the_newest_by_serves_from_then_by_decision(steps: list[tuple[str, int]], day: int):
    rows = [step(version, from_day, minute) for minute, (version, from_day) in enumerate(steps)]
    session = date(2025, 6, day)
    reached = [p for p in rows if p.serves_from <= session]
    newest = max(reached, key=lambda p: (p.serves_from, p.decided_at), default=None)
    expected = newest.version if newest else "rnn-2024-12-31"
    assert champion_at(promotion_rows(rows[::-1]), TRAINED, "rnn", session=session) == expected


def test_the_history_begins_with_the_base_and_has_one_row_per_day_of_change():
    rows = [step("b", 3), step("c", 5, 1), step("b", 5, 2, kind="rollback", reason="worse")]
    found = champion_history(promotion_rows(rows), TRAINED, "rnn", year=2025)
    assert found.select("version", "serves_from", "kind").rows() == [
        ("rnn-2024-12-31", date(2025, 1, 1), "base"),
        ("b", date(2025, 6, 3), "judged"),
        ("b", date(2025, 6, 5), "rollback"),
    ]
    assert found["reason"][-1] == "worse"
    assert found["reason"][0] == "the first version of model year 2025, trained through 2024-12-31"


def test_every_rollback_goes_one_step_further_back():
    rows = [step("b", 3, 0), step("c", 4, 1), step("d", 5, 2)]
    seen = []
    for minute in range(3, 7):
        previous = previous_champion(promotion_rows(rows), TRAINED, "rnn", year=2025)
        seen.append(previous)
        if previous:
            rows.append(step(previous, 6, minute, kind="rollback"))
    assert seen == ["c", "b", "rnn-2024-12-31", None]
    rows.append(step("e", 7, 9))  # promoted after all that
    assert previous_champion(promotion_rows(rows), TRAINED, "rnn", year=2025) == "rnn-2024-12-31"


def test_a_promotion_keeps_the_figures_of_its_verdict():
    truth, labels = window(30)
    verdict = judge(blurred(truth, 0.6), truth, labels)
    rows = promotion_rows([step("b", 3, reason=verdict.reason, verdict=verdict), step("c", 4)])
    assert rows.schema == PROMOTIONS.schema
    judged, plain = rows.to_dicts()
    assert (judged["improvement"], judged["improvement_low"], judged["improvement_high"]) == (
        verdict.improvement,
        verdict.low,
        verdict.high,
    )
    assert (judged["rows"], judged["sessions"], judged["margin"]) == (360, 30, MARGIN)
    assert (judged["window_first"], judged["reason"]) == (verdict.window_first, verdict.reason)
    assert plain["improvement"] is None
    assert_frame_equal(promotion_rows([]), PROMOTIONS.empty())


@pytest.mark.parametrize(
    ("champion_alias", "serving_alias", "todo"),
    [
        ("new", "new", "agree"),
        ("new", "old", "repair"),  # cut off between the two aliases, or a person moved it there by himself
        ("new", None, "repair"),
        (None, None, "repair"),  # nothing registered yet
        (None, "old", "repair"),
        ("old", "old", "repair"),  # cut off after the table
        ("old", "new", "follow"),  # a person went back, to a former champion
        ("other", "new", "follow"),
        ("other", "old", "follow"),  # cut off after the table, and then a person chose
        ("other", None, "follow"),
    ],
)
def test_a_person_who_moved_the_alias_is_told_from_a_promotion_cut_off(champion_alias, serving_alias, todo):
    assert reconcile(champion_alias, serving_alias, "new") == todo
