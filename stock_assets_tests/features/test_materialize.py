"""The steps of the features room on a store of their own: rows do not depend on how many sessions a run makes."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, BadBarsError, MissingSessionsError
from stock_assets.features.components import to_frame
from stock_assets.features.labels import barrier_labels
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.features.market_context import MARKET_CONTEXT, STALE
from stock_assets.features.materialize import (
    make_indicators,
    make_labels,
    make_pca_components,
    make_pca_model,
    make_side_features,
    make_stationary_features,
    sample_chart,
    trusted,
)
from stock_assets.features.side_features import side_columns
from stock_assets.features.stationary import FIRST_BAR, STATIONARY, pca_inputs
from stock_assets.frames import KEYS, RowSummary
from stock_assets.market.calendar import calendar_of
from stock_assets.memory import Memory
from stock_assets.model.materialize.inputs import StoredInputs, inputs_for
from stock_assets.settings import Settings
from stock_assets.storage import ranges
from stock_assets.storage.attached import attached
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.features.stores import bars_of, small_settings, store_of
from stock_assets_tests.tables import rows_of


def stored(store: Warehouse, table: str) -> pl.DataFrame:
    return store.read(table).sort("session", "ticker")


def evenings(store: Warehouse, config: Settings, bars: pl.DataFrame, sessions: Sequence[date]) -> None:
    """Each of `sessions` in turn: its bars are stored, then the labels are made that are due with it."""
    for session in sessions:
        store.append("daily_bars", bars.filter(pl.col("session") == session))
        labelled = calendar_of(config).shift(session, -config.horizon)
        if labelled:
            make_labels(store, config, [labelled])


@settings(derandomize=True, deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 1000),
    skipped=st.lists(st.lists(st.integers(1, 19), max_size=12), min_size=1, max_size=3),
    horizon=st.integers(1, 4),
)
def test_labels_day_by_day_equal_those_in_one_go_also_of_tickers_that_skip_sessions(
    tmp_path_factory, seed, skipped, horizon
):
    config = small_settings(tmp_path_factory.mktemp("store"), horizon=horizon)
    days = calendar_of(config).sessions[:20]
    # a session without any bar is an error: one ticker trades on all but a single session, another on that one
    places = {f"T{i}": places for i, places in enumerate(skipped)} | {"ALL": [7], "OTHER": [*range(7), *range(8, 20)]}
    bars = bars_of(days, places, seed)
    store = store_of(config, bars.clear())
    with attached(store.path, read_only=False, wait=0):  # once, and not at each of hundreds of writes
        evenings(store, config, bars, days)
    expected = barrier_labels(bars, config.label_rule, last=days[-1 - horizon])
    assert_frame_equal(stored(store, "labels"), expected)
    # and a backfill over the same bars writes the same rows again
    made = make_labels(store, config, days[:-horizon])
    assert made.late.is_empty()
    assert_frame_equal(stored(store, "labels"), expected)


def test_a_ticker_that_comes_back_after_a_long_absence_has_its_labels_then(tmp_path):
    config = small_settings(tmp_path, horizon=3)
    days = calendar_of(config).sessions[: 30 + MAX_MISSED]
    away = range(10, 20 + MAX_MISSED)  # longer than a history lasts
    bars = bars_of(days, {"A": [], "B": away})
    back = days[20 + MAX_MISSED]
    store = store_of(config, bars.filter(pl.col("session") < back))
    make_labels(store, config, days[: 20 + MAX_MISSED - 3])
    assert stored(store, "labels").filter(pl.col("ticker") == "B")["session"].max() == days[6]
    late = []
    for session in [day for day in days if day >= back]:
        store.append("daily_bars", bars.filter(pl.col("session") == session))
        made = make_labels(store, config, [calendar_of(config).shift(session, -3)])
        late.append(made.late["session"].to_list())
    assert late == [[days[7]], [days[8]], [days[9]], *[[]] * 7]
    assert_frame_equal(stored(store, "labels"), barrier_labels(bars, config.label_rule))


def test_late_labels_leave_stored_rows_and_sessions_that_were_never_made_alone(tmp_path):
    config = small_settings(tmp_path, horizon=3)
    days = calendar_of(config).sessions[:20]
    bars = bars_of(days, {"A": [], "B": [9]})
    store = store_of(config, bars)
    make_labels(store, config, days[7:9])
    # a row of another session that is not what the bars say, and one that is not there
    other = store.read("labels", days[8], days[8]).with_columns(forward_return_1=pl.lit(9.0))
    store.replace_sessions("labels", [days[8]], other.filter(pl.col("ticker") == "A"))
    made = make_labels(store, config, [days[10]])
    assert made.late.select(KEYS).rows() == [("B", days[8])]
    assert store.sessions("labels") == {days[7], days[8], days[10]}
    assert stored(store, "labels").filter(pl.col("session") == days[8])["forward_return_1"][0] == 9.0
    # chosen sessions need not be neighbours
    made = make_labels(store, config, [days[6], days[9]])
    assert set(made.rows["session"]) == {days[6], days[9]}
    assert made.late.is_empty()


def test_labels_are_not_made_before_the_bars_of_their_horizon(tmp_path):
    config = small_settings(tmp_path, horizon=3)
    days = calendar_of(config).sessions
    store = store_of(config, bars_of(days[:20], {"A": []}))
    with pytest.raises(MissingSessionsError, match=f"labels needs 1 session.* {days[20]}.*a horizon of 3 sessions"):
        make_labels(store, config, days[16:18])
    assert "labels" not in store.row_counts()


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Warehouse, Settings]:
    """Bars of three tickers over the whole calendar, and everything that is made of them in one go."""
    config = small_settings(tmp_path_factory.mktemp("filled"))
    days = calendar_of(config).sessions
    bars = bars_of(days, {"A": [], "B": [100, 101, 120], "C": range(60)})
    odd = (pl.col("ticker") == "B") & (pl.col("session") == days[90])
    store = store_of(config, bars.with_columns(suspect=pl.when(odd).then(pl.lit("absurd_return"))))
    for series, level in (("^VIX", 20.0), ("^GSPC", 2500.0)):
        closes = pl.DataFrame({"series": series, "session": days, "close": [level + i for i in range(len(days))]})
        silent = (pl.col("series") == "^VIX") & pl.col("session").is_in(days[140 : 140 + STALE + 2])
        store.append("context_series", rows_of("context_series", closes.filter(~silent)))
    make_indicators(store, config, days)
    announced = {"A": (30, 92, 140), "B": (70, 133)}
    rows = pl.DataFrame(
        [(ticker, days[place], days[place - 20]) for ticker, places in announced.items() for place in places],
        {"subject": pl.String, "reaction_session": pl.Date, "session": pl.Date},
        orient="row",
    ).with_columns(
        event_time=pl.col("reaction_session").cast(pl.Datetime("us", "UTC")),
        known_at=pl.col("session").cast(pl.Datetime("us", "UTC")),
        day="reaction_session",
        moment=pl.lit("pre"),
        origin=pl.lit("file"),
        withdrawn=pl.lit(value=False),
    )
    store.append("announcements", rows_of("announcements", rows.with_columns(fetched_at="known_at")))
    store.write([Change("announcements", rows_of("announcements", rows).clear(), makes=days)])
    make_stationary_features(store, config, days)
    make_pca_model(store, config)
    make_pca_components(store, config, days)
    return store, config


def test_a_session_alone_equals_the_same_session_of_the_range(filled):
    store, config = filled
    days = calendar_of(config).sessions
    tables = ("indicators", "stationary_features", "pca_components")
    before = {table: stored(store, table) for table in tables}
    for day in (days[70], days[-1]):
        assert set(make_indicators(store, config, [day]).rows["session"]) == {day}
        assert set(make_stationary_features(store, config, [day]).rows["session"]) == {day}
        assert set(make_pca_components(store, config, [day]).rows["session"]) == {day}
    for table in tables:
        assert_frame_equal(stored(store, table), before[table], abs_tol=1e-9)


def test_sessions_without_the_market_context_are_named_and_have_all_else(filled):
    store, config = filled
    days = calendar_of(config).sessions
    made = make_stationary_features(store, config, days[136:150])
    assert made.without_context["session"].to_list() == list(days[145:150])
    silent = made.rows.filter(pl.col("session") == days[146])
    assert silent["vix_level"].null_count() == silent.height > 0
    assert silent["index_vol_22"].null_count() == 0
    assert made.rows.select(pl.all_horizontal(pl.col(name).is_finite().all() for name in STATIONARY)).item()
    assert make_stationary_features(store, config, days[136:145]).without_context.is_empty()


def test_a_model_learns_from_the_columns_that_most_sessions_have_and_predicts_from_all_of_them(filled):
    store, config = filled
    days = calendar_of(config).sessions
    learned = StoredInputs(store, config, first=days[100], last=days[-1]).features
    assert learned.columns == [*KEYS, *STATIONARY, *MARKET_CONTEXT]
    # the look-back of a prediction may begin within the gap
    gap = StoredInputs(store, config, first=days[145], last=days[-1]).features
    assert gap.columns == [*KEYS, *STATIONARY, "index_return_5", "index_vol_22"]
    predicted = inputs_for(store, config, [days[146]], needed_by="predictions").features
    assert predicted.columns == [*learned.columns, *side_columns()]  # a model may have learned from these as well
    assert predicted.filter(pl.col("session") == days[146])["vix_level"].null_count() > 0


def test_without_a_series_nothing_is_missed(tmp_path):
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions[:80]
    made = make_stationary_features(store_of(config, bars_of(days, {"A": []})), config, days)
    assert made.without_context.is_empty()
    assert made.rows.select(pl.col(MARKET_CONTEXT).is_null().all()).row(0) == (True,) * len(MARKET_CONTEXT)


def test_the_components_are_fitted_before_the_first_model_year_without_suspect_rows(filled):
    store, config = filled
    model = make_pca_model(store, config)
    features = store.read("stationary_features", last=date(2018, 12, 31))
    assert model.columns == tuple(pca_inputs())
    assert (model.fit_through, model.n_rows) == (date(2018, 12, 31), features.height - 1)
    assert features.height - trusted(store, features).height == 1
    with pytest.raises(BadBarsError, match="no feature row in the window"):
        trusted(store, features.clear())
    made = make_pca_components(store, config, calendar_of(config).sessions)
    assert made.model.version == model.version
    assert made.explained is not None
    assert 0.5 < made.explained <= 1.0


def test_components_before_the_first_feature_row_are_none_and_without_a_fit_an_error(filled):
    store, config = filled
    first = calendar_of(config).sessions[0]
    made = make_pca_components(store, config, [first])
    assert made.rows.is_empty()
    assert made.explained is None
    table = store.read("pca_model")
    store.replace_table("pca_model", table.clear())
    with pytest.raises(ArtifactError, match="holds 0 models"):
        make_pca_components(store, config, [first])
    store.replace_table("pca_model", table)


def test_features_name_the_sessions_of_their_look_back_that_are_missing(tmp_path):
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions
    store = store_of(config, bars_of(days[:FIRST_BAR], {"A": [40]}))
    for make in (make_indicators, make_stationary_features):
        with pytest.raises(MissingSessionsError, match=f"of daily_bars that are not there: {days[40]}"):
            make(store, config, [days[FIRST_BAR - 1]])


def test_the_sample_chart_shows_the_ticker_with_the_most_bars_on_one_price_basis(filled, tmp_path):
    store, config = filled
    days = calendar_of(config).sessions
    chart = sample_chart(store, config, days[-1])
    assert chart is not None
    assert chart.ticker == "A"
    assert chart.bars.height == 90
    assert chart.bars["session"].is_sorted()
    assert {"ma_25", "bb_upper_25", "bb_lower_25"} < set(chart.bars.columns)
    assert "label" not in chart.bars.columns  # labels are not made yet
    split = bars_of(days, {"A": []}).with_columns(split_ratio=pl.lit(2.0))
    other = small_settings(tmp_path)
    assert sample_chart(store_of(other, split), other, days[-1]) is None


def in_blocks(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Every range is made in blocks of about so many rows."""
    monkeypatch.setattr(ranges, "AT_ONCE", 0)
    monkeypatch.setattr(Memory, "at_once", 0)
    monkeypatch.setattr(Memory, "block", rows * 8 * len(STATIONARY))


@pytest.mark.parametrize("rows", [1, 150, 100_000])
def test_a_range_in_blocks_has_the_rows_of_a_range_at_once(filled, monkeypatch: pytest.MonkeyPatch, rows: int):
    store, config = filled
    days = calendar_of(config).sessions[20:]
    steps = {
        "indicators": (make_indicators, days),
        "stationary_features": (make_stationary_features, days),
        "pca_components": (make_pca_components, days),
        "labels": (make_labels, days[: -config.horizon]),
        "side_features": (make_side_features, days),
    }
    for make, sessions in list(steps.values())[3:]:
        make(store, config, sessions)
    before = {table: stored(store, table) for table in steps}
    explained = make_pca_components(store, config, days).explained
    in_blocks(monkeypatch, rows)
    for table, (make, sessions) in steps.items():
        made = make(store, config, sessions)
        assert_frame_equal(stored(store, table), before[table], abs_tol=1e-9)
        assert isinstance(made.rows, RowSummary)
        assert made.rows.height == before[table].filter(pl.col("session") >= days[0]).height
        assert made.rows.counts == store.rows_by(table, "session", days[0], last=days[-1])
        assert all(wrong.is_empty() for wrong in made.rows.not_finite)
    assert made.rows.columns == side_columns()
    assert make_pca_components(store, config, days).explained == pytest.approx(explained)
    assert list(config.data_dir.rglob("*.arrow")) == []


def test_a_model_that_is_fitted_in_blocks_is_that_of_all_rows_at_once(filled, monkeypatch: pytest.MonkeyPatch):
    store, config = filled
    at_once = make_pca_model(store, config)
    in_blocks(monkeypatch, 30)
    parts = make_pca_model(store, config)
    store.replace_table("pca_model", to_frame(at_once))
    assert (parts.columns, parts.fit_from, parts.n_rows) == (at_once.columns, at_once.fit_from, at_once.n_rows)
    for name in ("mean", "scale", "components", "explained_variance_ratio"):
        np.testing.assert_allclose(getattr(parts, name), getattr(at_once, name), atol=1e-9)


def test_the_late_labels_of_a_range_in_blocks_are_those_of_a_range_at_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    tables = []
    for name in ("once", "blocks"):
        config = small_settings(tmp_path / name)
        days = calendar_of(config).sessions
        bars = bars_of(days, {"A": [], "B": range(25, 29), "C": [31], "D": range(30)})
        store = store_of(config, bars.filter(pl.col("session") <= days[33]))
        make_labels(store, config, days[: 34 - config.horizon])
        store.append("daily_bars", bars.filter(pl.col("session").is_between(days[34], days[60])))
        if name == "blocks":
            in_blocks(monkeypatch, 30)
        made = make_labels(store, config, days[34 - config.horizon : 61 - config.horizon])
        tables.append((stored(store, "labels"), made.late, made.recent))
    for at_once, in_parts in zip(*tables, strict=True):
        assert_frame_equal(in_parts, at_once, check_row_order=False)
    assert tables[0][1].height > 0
