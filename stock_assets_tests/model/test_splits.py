from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.model.splits import (
    NO_MEMBER,
    require_after,
    require_known,
    train_validation_split,
    training_rows,
    usable_labels,
)
from stock_assets_tests.model.synthetic import HORIZON, sessions_of, synthetic_panel

DAYS = sessions_of(400)


def labels_over(present: list[list[bool]]) -> pl.DataFrame:
    """Labels of tickers that have bars on the sessions where `present`; horizons count their own bars."""
    rows = []
    for number, has_bar in enumerate(present):
        bars = [day for day, there in zip(DAYS, has_bar, strict=False) if there]
        rows += [
            {"ticker": f"T{number}", "session": bars[i], "label": i % 3 - 1, "horizon_end": bars[i + HORIZON]}
            for i in range(len(bars) - HORIZON)
        ]
    schema = {"ticker": pl.String, "session": pl.Date, "label": pl.Int8, "horizon_end": pl.Date}
    return pl.DataFrame(rows, schema=schema)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=60, max_size=90), min_size=1, max_size=4),
    cutoff=st.integers(30, 89),
    validation=st.integers(1, 30),
)
def test_a_fold_is_purged_whatever_bars_are_missing(present: list[list[bool]], cutoff: int, validation: int):
    labels = labels_over(present)
    try:
        train, judged = train_validation_split(labels, DAYS[cutoff], validation)
    except StockAssetsError:
        known = training_rows(labels, DAYS[cutoff])
        sessions = sorted(set(known["session"]))
        assert len(sessions) <= validation or min(known["horizon_end"]) >= sessions[-validation]
        return
    assert max(train["horizon_end"]) < min(judged["session"])
    assert max(*train["horizon_end"], *judged["horizon_end"]) <= DAYS[cutoff]
    assert judged["session"].n_unique() == validation
    lost = training_rows(labels, DAYS[cutoff]).join(pl.concat([train, judged]), on=["ticker", "session"], how="anti")
    assert all(end >= min(judged["session"]) for end in lost["horizon_end"])


def test_the_last_label_known_at_the_cutoff_trains_and_the_next_does_not():
    labels = labels_over([[True] * 50])
    assert training_rows(labels, DAYS[30])["session"].max() == DAYS[30 - HORIZON]


def test_too_little_history_is_one_clear_error():
    with pytest.raises(StockAssetsError, match=rf"cutoff {DAYS[29]} has labels of 23 session\(s\).*126 sessions"):
        train_validation_split(labels_over([[True] * 50]), DAYS[29])


def test_a_label_that_looks_past_the_cutoff_is_refused():
    labels = labels_over([[True] * 50])
    require_known(training_rows(labels, DAYS[30]), DAYS[30])
    with pytest.raises(CutoffError, match=rf"T0 at {DAYS[42]} is known only at {DAYS[49]}"):
        require_known(labels, DAYS[30])


def test_a_model_serves_only_sessions_after_its_cutoff():
    require_after(DAYS[10], [DAYS[11]])
    with pytest.raises(CutoffError, match=rf"through {DAYS[10]} was asked to predict {DAYS[10]}"):
        require_after(DAYS[10], [DAYS[12], DAYS[10]])


def flagged(keys: pl.DataFrame, flags: dict[tuple[str, date], str]) -> pl.DataFrame:
    """ticker, session, suspect of `keys`, with the reasons in `flags`."""
    reasons = [flags.get(key) for key in keys.select("ticker", "session").iter_rows()]
    return keys.select("ticker", "session", suspect=pl.Series(reasons, dtype=pl.String))


def test_a_label_that_steps_over_one_suspect_bar_is_left_out():
    """The flags ohlc and vendor_error mark one bar alone: they do not reach to the end of the horizon."""
    features, labels = synthetic_panel(tickers=2, sessions=60)
    flags = {("T00", DAYS[20]): "ohlc", ("T00", DAYS[21]): "vendor_error", ("T01", DAYS[30]): "absurd_return"}
    usable, excluded = usable_labels(labels, flagged(features, flags))
    touched = labels.filter(
        (pl.col("ticker") == "T00") & (pl.col("session") <= DAYS[21]) & (pl.col("horizon_end") >= DAYS[20])
        | (pl.col("ticker") == "T01") & (pl.col("session") <= DAYS[30]) & (pl.col("horizon_end") >= DAYS[30])
    )
    assert usable.equals(labels.join(touched, on=["ticker", "session"], how="anti").sort("ticker", "session"))
    # ohlc: its own session, and the label that ends there; vendor_error: the six that step over both, end and session
    assert excluded == {"vendor_error": HORIZON, "absurd_return": HORIZON + 1, "ohlc": 2}


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=30, max_size=50), min_size=1, max_size=3),
    bad=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 49)), max_size=8),
)
def test_usable_labels_are_those_of_a_naive_loop(present: list[list[bool]], bad: set[tuple[int, int]]):
    labels = labels_over(present)
    bars = pl.DataFrame(
        [(f"T{n}", day) for n, has in enumerate(present) for day, there in zip(DAYS, has, strict=False) if there],
        schema={"ticker": pl.String, "session": pl.Date},
        orient="row",
    )
    flags = {(f"T{ticker}", DAYS[i]): f"reason {i % 3}" for ticker, i in bad}
    usable, excluded = usable_labels(labels.sample(fraction=1.0, shuffle=True, seed=0), flagged(bars, flags))
    kept, reasons = [], []
    for row in labels.iter_rows(named=True):
        horizon = bars.filter(
            (pl.col("ticker") == row["ticker"]) & pl.col("session").is_between(row["session"], row["horizon_end"])
        )
        found = [flags[key] for key in horizon.iter_rows() if key in flags]
        own = flags.get((row["ticker"], row["session"]))
        if found:
            reasons.append(own or found[-1])
        else:
            kept.append(row)
    assert usable.to_dicts() == sorted(kept, key=lambda row: (row["ticker"], row["session"]))
    assert excluded == {reason: reasons.count(reason) for reason in set(reasons)}


def test_outsiders_are_left_out_on_their_session_alone():
    _, labels = synthetic_panel(tickers=2, sessions=60)
    none = labels.select("ticker", "session", suspect=pl.lit(None, pl.String))
    left = labels.filter((pl.col("ticker") == "T01") & (pl.col("session") >= DAYS[30])).select("ticker", "session")
    usable, excluded = usable_labels(labels, none, left)
    assert excluded == {NO_MEMBER: left.height}
    # a label whose horizon reaches over the day it left stays: nobody knew
    assert usable.filter(pl.col("ticker") == "T01")["session"].max() == DAYS[29]
    assert usable.columns == labels.columns
    flagged = none.with_columns(suspect=pl.when(pl.col("session") >= DAYS[30]).then(pl.lit("frozen")))
    _, both = usable_labels(labels, flagged, left)
    assert both[NO_MEMBER] == left.height
    assert sum(both.values()) == labels.filter(pl.col("horizon_end") >= DAYS[30]).height


def test_labels_without_flags_are_all_usable():
    _, labels = synthetic_panel(tickers=2, sessions=30)
    none = labels.select("ticker", "session", suspect=pl.lit(None, pl.String))
    usable, excluded = usable_labels(labels, none)
    assert usable.equals(labels.sort("ticker", "session"))
    assert excluded == {}


def test_the_cutoff_may_be_any_day():
    labels = labels_over([[True] * 50])
    weekend = date(2010, 2, 14)
    assert training_rows(labels, weekend).equals(training_rows(labels, date(2010, 2, 12)))
