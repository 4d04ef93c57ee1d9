"""A restated bar asks for exactly what it reaches."""

from datetime import date

import polars as pl

from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.lifecycle.evening import FEATURES, SERVED
from stock_assets.lifecycle.restatements import (
    Affected,
    Watch,
    affected,
    affected_by_context,
    affected_by_side_rows,
    reach,
    stale_bars,
    steps_of,
    steps_of_context,
    steps_of_side_rows,
)
from stock_assets.market.adjustments import clean_bars, new_versions, restatements
from stock_assets.market.calendar import trading_calendar
from stock_assets.model.registry import longest_lookback
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of

XNYS = trading_calendar("XNYS", date(2015, 1, 2), date(2026, 12, 31))
DAYS = XNYS.sessions[:40]
CLOSES = [100.0 + i for i in range(40)]
HORIZON = 7


def bars_of(raw: pl.DataFrame) -> pl.DataFrame:
    return clean_bars(raw, universe_of(raw), DAYS)


def labels_until(last: date) -> pl.DataFrame:
    sessions = [day for day in DAYS if day <= last]
    ends = [XNYS.shift(day, HORIZON) for day in sessions]
    return pl.DataFrame({"ticker": "AAA", "session": sessions, "horizon_end": ends})


def changed_at(*places: int) -> pl.DataFrame:
    return pl.DataFrame({"ticker": "AAA", "session": [DAYS[place] for place in places]})


def reached(*places: int, predicted: date = DAYS[32], labelled: date = DAYS[25]) -> Affected:
    labels = labels_until(min(labelled, DAYS[25]))
    return affected(XNYS, changed_at(*places), labels, predicted_through=predicted, labelled_through=labelled)


def test_what_is_stored_is_not_stale_and_a_split_told_later_changes_nothing():
    raw = raw_answer(DAYS, CLOSES)
    bars = bars_of(raw)
    assert stale_bars(raw, bars).is_empty()
    # the vendor's basis is halved, as-traded figures stay
    same = raw.with_columns(
        *[pl.col(name) / 2 for name in ("open", "high", "low", "close", "dividend")],
        pl.col("volume") * 2,
        later_splits=pl.lit(2.0),
    )
    assert stale_bars(same, bars).is_empty()


def test_a_changed_close_and_a_late_bar_are_stale_and_are_found_once_the_bar_is_made_anew_no_more():
    raw = raw_answer(DAYS, CLOSES)
    bars = bars_of(raw)
    restated = raw.with_columns(
        close=pl.when(pl.col("session") == DAYS[20]).then(pl.col("close") * 1.01).otherwise("close"),
        high=pl.col("high") + 5,
        fetched_at=pl.lit(FETCHED).dt.offset_by("1d"),
    ).filter(pl.col("session") == DAYS[20])
    late = bars.filter(pl.col("session") != DAYS[30])
    assert stale_bars(restated, bars).rows() == [(raw["ticker"][0], DAYS[20])]
    assert stale_bars(raw, late).rows() == [(raw["ticker"][0], DAYS[30])]
    newer = pl.concat([raw, restated])
    assert new_versions(raw, restated).height == 1
    assert stale_bars(newer, bars_of(newer)).is_empty()


def test_a_restatement_names_every_figure_with_both_values_and_the_return_after_it():
    raw = raw_answer(DAYS, CLOSES)
    before = bars_of(raw)
    newer = raw.with_columns(
        pl.when(pl.col("session") == DAYS[20]).then(pl.col(name) + 0.5).otherwise(name).alias(name)
        for name in ("close", "adj_close")
    ).with_columns(
        previous_adj_close=pl.when(pl.col("session") == DAYS[21])
        .then(pl.col("adj_close").shift())
        .otherwise("previous_adj_close")
    )
    found = restatements(before, bars_of(newer), FETCHED)
    assert found.select("session", "column").rows() == [
        (DAYS[20], "close"),
        (DAYS[20], "total_return"),
        (DAYS[21], "total_return"),
    ]
    assert found.row(0)[3:5] == (120.0, 120.5)
    assert restatements(before, before, FETCHED).is_empty()
    # a session that was never made is new and not restated; a bar that came late to one that was is
    assert restatements(before.filter(pl.col("session") < DAYS[30]), before, FETCHED).is_empty()


def test_features_reach_forward_and_labels_backward():
    assert reached(20) == Affected((DAYS[20], DAYS[32]), (DAYS[13], DAYS[20]))
    # the newest bar has no label of its own yet, but ended those before it
    assert reached(31) == Affected((DAYS[31], DAYS[32]), (DAYS[24], DAYS[25]))
    # nothing is labelled around it
    assert reached(31, labelled=DAYS[10]).labels is None


def test_several_changes_are_one_range_and_old_ones_end_where_nothing_sees_them_any_more():
    assert reached(12, 20) == Affected((DAYS[12], DAYS[32]), (DAYS[5], DAYS[20]))
    far = XNYS.sessions[2000]
    assert reached(5, predicted=far, labelled=far).chain == (DAYS[5], XNYS.sessions[5 + reach(LOOKBACK_SESSIONS)])


def test_a_restatement_before_the_first_model_year_is_predicted_from_there_on():
    first, last, served = date(2018, 12, 20), date(2019, 3, 1), date(2019, 1, 2)
    labels = (date(2018, 12, 11), date(2018, 12, 20))
    assert steps_of(Affected((first, last), labels), served) == [
        (FEATURES, "2018-12-20", "2019-03-01"),
        (SERVED, "2019-01-02", "2019-03-01"),
        (("labels",), "2018-12-11", "2018-12-20"),
    ]
    reached = ((served, last), (date(2018, 12, 20), date(2019, 1, 8)))
    assert steps_of(Affected(*reached), served)[1:] == [
        (("labels",), "2018-12-20", "2019-01-08"),
        (("operations", "publication"), "2019-01-02", "2019-01-08"),
    ], "what came true is published again, of the sessions that were predicted"
    assert steps_of(Affected((first, first), None), served) == [(FEATURES, "2018-12-20", "2018-12-20")]
    assert steps_of(Affected((last, last), None), served) == [((*FEATURES, *SERVED), "2019-03-01", "2019-03-01")]


def test_market_context_that_comes_late_reaches_the_features_that_look_back_at_it_and_their_predictions():
    through = XNYS.sessions[1000]
    context_reach = reach(27)
    assert context_reach > 27 + longest_lookback(), "the look-back of the features, and the rows that a model reads"
    assert affected_by_context(XNYS, [DAYS[8], DAYS[5]], through) == (DAYS[5], XNYS.sessions[8 + context_reach])
    assert affected_by_context(XNYS, [DAYS[5]], DAYS[9]) == (DAYS[5], DAYS[9])
    assert affected_by_context(XNYS, [DAYS[10]], DAYS[9]) is None, "nothing was made of it yet"
    assert affected_by_context(XNYS, [], DAYS[9]) is None
    assert steps_of_context((DAYS[5], DAYS[9]), DAYS[0]) == [
        (("stationary_features", "pca_components", *SERVED), str(DAYS[5]), str(DAYS[9]))
    ]


def test_side_rows_reach_from_the_session_that_knew_them_until_no_feature_looks_back_at_them():
    through, look_back = XNYS.sessions[2000], 700

    def reaches(*rows: tuple[int, int], last: date = through) -> tuple[date, date] | None:
        """Of rows that were known at one place and happen at another."""
        late = pl.DataFrame(
            {"session": [DAYS[known] for known, _ in rows], "event_time": [XNYS.closes[DAYS[at]] for _, at in rows]},
            schema={"session": pl.Date, "event_time": pl.Datetime("us", "UTC")},
        )
        return affected_by_side_rows(XNYS, late, last, look_back=look_back)

    assert reaches((5, 9)) == (DAYS[5], XNYS.sessions[9 + reach(look_back)])
    assert reaches((5, 2), (8, 3)) == (DAYS[5], XNYS.sessions[8 + reach(look_back)])
    assert reaches((5, 39), last=DAYS[9]) == (DAYS[5], DAYS[9])
    assert reaches((10, 12), last=DAYS[9]) is None, "nothing was made of it yet"
    assert reaches() is None
    assert steps_of_side_rows((DAYS[5], DAYS[9]), DAYS[7]) == [
        (("side_features",), str(DAYS[5]), str(DAYS[9])),
        (SERVED, str(DAYS[7]), str(DAYS[9])),
    ]


def test_the_watch_is_read_as_it_was_written_and_names_its_runs():
    watch = Watch(FETCHED, ((("labels",), "2015-02-02", "2015-02-03"),))
    assert Watch.parse(watch.text()) == watch
    (work,) = watch.works()
    assert (work.name, work.assets, work.first, work.last) == (
        f"restated labels of {FETCHED.isoformat()}",
        ("labels",),
        "2015-02-02",
        "2015-02-03",
    )
