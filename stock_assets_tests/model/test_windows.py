from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.model.windows import (
    IGNORE,
    PADDING,
    Panel,
    build_panel,
    labelled_spans,
    random_segments,
    rows_of_windows,
)
from stock_assets_tests.model.synthetic import FEATURES, sessions_of, synthetic_panel

DAYS = sessions_of(300)
SCALER = {"mean": np.zeros(3), "std": np.ones(3)}


def panel_of(counts: list[int], *, stride: int = 1) -> tuple[Panel, pl.DataFrame]:
    """A panel of tickers with that many rows, all labelled; the one feature is the number of the row."""
    keys = pl.DataFrame(
        {
            "ticker": [f"T{i}" for i, count in enumerate(counts) for _ in range(count)],
            "session": [day for count in counts for day in DAYS[:count]],
        },
        schema={"ticker": pl.String, "session": pl.Date},
    )
    features = keys.with_columns(x=pl.int_range(pl.len()).cast(pl.Float64))
    panel = build_panel(features, ["x"], mean=np.zeros(1), std=np.ones(1), clip=np.inf)
    labels = keys.with_columns(label=pl.lit(0, pl.Int8))
    return replace(panel.labelled(labels), stride=stride), labels


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    length=st.integers(1, 40),
    stride=st.sampled_from([1, 2, 5, 80]),
    seed=st.integers(0, 9),
)
def test_segments_hold_every_row_once_in_order_and_never_mix_tickers(
    counts: list[int], length: int, stride: int, seed: int
):
    panel, _ = panel_of(counts, stride=stride)
    segments = random_segments(panel, length, np.random.default_rng(seed))
    assert segments.shape[1] == length
    assert sorted(segments[segments != PADDING]) == list(range(sum(counts)))
    for segment in segments:
        rows = segment[segment != PADDING]
        assert list(rows) == list(range(rows[0], rows[-1] + 1, stride))
        assert (segment[len(rows) :] == PADDING).all()
        assert panel.keys[rows.tolist()]["ticker"].n_unique() == 1


def test_segments_differ_between_epochs_and_repeat_with_their_seed():
    panel, _ = panel_of([100, 100])
    rng = np.random.default_rng(3)
    first, second = random_segments(panel, 16, rng), random_segments(panel, 16, rng)
    assert not np.array_equal(np.sort(first[:, 0]), np.sort(second[:, 0]))
    assert np.array_equal(first, random_segments(panel, 16, np.random.default_rng(3)))


def test_segments_without_a_label_are_left_out():
    panel, labels = panel_of([40, 40])
    only_second = panel.labelled(labels.filter(pl.col("ticker") == "T1"))
    segments = random_segments(only_second, 8, np.random.default_rng(0))
    assert sorted(segments[segments != PADDING]) == list(range(40, 80))


def test_the_padding_row_is_zero_and_never_a_target():
    panel, _ = panel_of([5, 3])
    assert panel.values[PADDING] == 0
    assert panel.labels[PADDING] == IGNORE
    assert list(panel.starts) == [0, 5]
    assert list(panel.ends) == [5, 8]


def test_labels_become_class_indices_and_the_unknown_are_ignored():
    features, labels = synthetic_panel(tickers=3, sessions=40)
    panel = build_panel(features.sample(fraction=1.0, shuffle=True, seed=1), FEATURES, **SCALER, clip=9.0).labelled(
        labels
    )
    expected = features.join(labels, on=["ticker", "session"], how="left").sort("ticker", "session")["label"]
    assert [None if c == IGNORE else c - 1 for c in panel.labels[:-1]] == expected.to_list()
    assert (panel.labels == IGNORE).sum() == 3 * 7 + 1


def test_values_are_standardised_and_cut():
    keys = {"ticker": ["A"] * 3, "session": DAYS[:3]}
    panel = build_panel(
        pl.DataFrame({**keys, "x": [10.0, 14.0, 99.0]}), ["x"], mean=np.array([10.0]), std=np.array([2.0]), clip=6.0
    )
    assert panel.values.dtype == np.float32
    assert panel.values[:-1, 0].tolist() == [0.0, 2.0, 6.0]


def test_spans_reach_back_one_context_before_the_first_label():
    panel, labels = panel_of([50, 4, 6])
    late = panel.labelled(labels.filter((pl.col("ticker") == "T0") & pl.col("session").is_in(DAYS[40:45])))
    assert labelled_spans(late, 8).tolist() == [list(range(33, 45))]
    short = panel.labelled(labels.filter(pl.col("ticker") != "T0"))
    assert labelled_spans(short, 8).tolist() == [[50, 51, 52, 53, -1, -1], [54, 55, 56, 57, 58, 59]]
    assert labelled_spans(panel.labelled(labels.clear()), 8).size == 0


@settings(derandomize=True, deadline=None, max_examples=60)
@given(stride=st.integers(1, 9), context=st.integers(1, 12), data=st.data())
def test_spans_hold_every_label_once_after_the_steps_of_its_context(stride: int, context: int, data: st.DataObject):
    panel, _ = panel_of([30, 3, 12], stride=stride)
    marked = panel.marked(np.array(data.draw(st.lists(st.booleans(), min_size=45, max_size=45))))
    spans, labelled = labelled_spans(marked, context), np.flatnonzero(marked.has_label())
    assert sorted(row for span in spans for row in span if marked.labels[row] != IGNORE) == list(labelled)
    for span in spans:
        rows = span[span != PADDING]
        ticker = np.searchsorted(panel.starts, rows[0], side="right") - 1
        assert list(rows) == list(range(rows[0], rows[-1] + 1, stride))
        assert panel.starts[ticker] <= rows[0] <= rows[-1] < panel.ends[ticker]
        first = max(labelled[labelled >= panel.starts[ticker]][0] - context + 1, panel.starts[ticker])
        assert first <= rows[0] < first + stride


@settings(derandomize=True, deadline=None, max_examples=60)
@given(gaps=st.lists(st.integers(0, 12), min_size=1, max_size=30), context=st.integers(1, 8))
def test_a_window_ends_at_its_row_and_shares_its_rows(gaps: list[int], context: int):
    last_rows = np.cumsum(gaps) + context - 1
    rows, ends = rows_of_windows(last_rows, context)
    for last, end in zip(last_rows, ends, strict=True):
        assert rows[end - context + 1 : end + 1].tolist() == list(range(last - context + 1, last + 1))
    windows = {row for last in last_rows for row in range(last - context + 1, last + 1)}
    assert len(rows) == len(windows)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_value_that_is_not_finite_is_named(bad: float | None):
    frame = pl.DataFrame({"ticker": ["A", "B"], "session": [date(2018, 1, 2)] * 2, "x": [1.0, bad]})
    with pytest.raises(BadBarsError, match="features of B at 2018-01-02: x is"):
        build_panel(frame, ["x"], mean=np.zeros(1), std=np.ones(1), clip=9.0)


def test_a_row_that_comes_twice_and_a_missing_column_are_named():
    features, _ = synthetic_panel(tickers=1, sessions=5)
    with pytest.raises(BadBarsError, match=rf"T00 at {DAYS[2]} twice"):
        build_panel(pl.concat([features, features[2:3]]), FEATURES, **SCALER, clip=9.0)
    with pytest.raises(ArtifactError, match="columns that the features lack: shock"):
        build_panel(features.drop("shock"), FEATURES, **SCALER, clip=9.0)
