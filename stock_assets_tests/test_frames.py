"""The expressions that every room shares, against numpy."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets import frames

PROBABILITY = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.tuples(PROBABILITY, PROBABILITY, PROBABILITY, st.sampled_from(frames.CLASSES)), min_size=1))
def test_the_surprise_is_that_of_the_label(rows: list[tuple[float, float, float, int]]):
    frame = pl.DataFrame(rows, [*frames.PROBABILITIES, "label"], orient="row")
    by_hand = [-np.log(max(row[row[3] + 1], 1e-15)) for row in rows]
    assert frame.select(frames.surprise()).to_series().to_numpy() == pytest.approx(by_hand)
    labels, probabilities = frame["label"].to_numpy(), frame.select(frames.PROBABILITIES).to_numpy()
    assert frames.surprises(labels, probabilities) == pytest.approx(by_hand)


def test_without_a_label_there_is_no_surprise_and_a_suffix_names_other_columns():
    frame = pl.DataFrame({"p_sell_new": [0.1], "p_hold_new": [0.2], "p_buy_new": [0.7], "label": [None]})
    assert frame.select(frames.surprise("_new")).item() is None
    assert frame.with_columns(label=pl.lit(1)).select(frames.surprise("_new")).item() == pytest.approx(-np.log(0.7))


@pytest.mark.parametrize(
    "row",
    [(0.5, 0.5, 0.1), (-0.1, 0.6, 0.5), (None, 0.5, 0.5), (float("nan"), 0.5, 0.5), (float("inf"), 0.0, 0.0)],
)
def test_improper_probabilities_are_found(row: tuple):
    proper = (0.2, 0.3, 0.5)
    frame = pl.DataFrame([proper, row], frames.PROBABILITIES, orient="row", strict=False)
    assert frames.improper(frame).height == 1
    assert frames.improper(frame.head(1)).is_empty()


@given(st.lists(st.one_of(st.none(), st.floats()), min_size=1))
def test_a_column_that_is_not_finite_is_named_with_its_first_row(values: list[float | None]):
    frame = pl.DataFrame({"fine": [1.0] * len(values), "odd": values}, {"fine": pl.Float64, "odd": pl.Float64})
    frame = frame.with_row_index("row")
    bad = [i for i, value in enumerate(values) if value is None or not np.isfinite(value)]
    assert frames.columns_not_finite(frame, ["fine", "odd"]) == (["odd"] if bad else [])
    if bad:
        assert frames.first_not_finite(frame, "odd")["row"] == bad[0]
    assert frames.columns_not_finite(frame, []) == []


def test_repeated_keys_are_counted():
    day = date(2020, 1, 2)
    frame = pl.DataFrame({"ticker": ["B", "A", "B"], "session": [day] * 3})
    assert frames.repeated(frame).rows() == [("B", day, 2)]
