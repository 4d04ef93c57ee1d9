"""What the watch for restatements and the reference models ask for, on stores made by hand."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.lifecycle.evening import FEATURES, SERVED, State, with_side_inputs
from stock_assets.lifecycle.materialize.evening import read_progress
from stock_assets.lifecycle.materialize.references import next_references
from stock_assets.lifecycle.materialize.restatements import watch_restatements
from stock_assets.lifecycle.references import LAG, parse_works, references_due, text_of_works
from stock_assets.lifecycle.restatements import Watch
from stock_assets.market.adjustments import clean_bars
from stock_assets.market.calendar import trading_calendar
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import SIDE
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of
from stock_assets_tests.tables import rows_of

XNYS = trading_calendar("XNYS", date(2018, 1, 2), date(2026, 12, 31))
DAYS = XNYS.between(date(2019, 1, 2), date(2019, 2, 28))
PREDICTED, LABELLED = DAYS[-1], DAYS[-8]
LATER = FETCHED + timedelta(days=1)
STATE = State(LATER, PREDICTED, LABELLED, frozenset({2019}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)


def context_rows(
    sessions: tuple[date, ...], series: str = "^VIX", fetched=FETCHED, close: float = 20.0
) -> pl.DataFrame:
    rows = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    figures = {name: pl.lit(close) for name in ("open", "high", "low", "close")}
    return rows_of(
        "context_series",
        rows.with_columns(**figures, series=pl.lit(series), source=pl.lit("test"), fetched_at=pl.lit(fetched)),
    )


@pytest.fixture
def store(settings: Settings) -> Warehouse:
    """Everything up to PREDICTED; ^VIX has no bar of DAYS[10] yet."""
    store, raw = Warehouse(settings.database), raw_answer(DAYS, [100.0 + i for i in range(len(DAYS))])
    universe = universe_of(raw)
    labelled = [day for day in DAYS if day <= LABELLED]
    labels = {"ticker": "A", "session": labelled, "horizon_end": [XNYS.shift(day, 7) for day in labelled]}
    tables = {
        "universe": universe,
        "raw_ohlcv": raw,
        "daily_bars": clean_bars(raw, universe, DAYS),
        "labels": pl.DataFrame(labels),
    }
    for table, rows in tables.items():
        store.append(table, rows_of(table, rows))
    store.append("context_series", context_rows(tuple(day for day in DAYS if day != DAYS[10])))
    store.append("context_series", context_rows(DAYS, "^GSPC"))
    return store


def watched(store: Warehouse, settings: Settings, watch: Watch | None = None) -> tuple[Watch, str]:
    after, message = watch_restatements(store, settings, STATE, watch=watch)
    assert after is not None
    return after, message


def test_the_first_look_begins_to_watch_and_an_unchanged_store_asks_for_nothing(store: Warehouse, settings: Settings):
    first, _ = watched(store, settings)
    assert first == Watch(FETCHED)
    again, message = watched(store, settings, first)
    assert again == first
    assert message.startswith("no stored bar was changed by what was fetched up to 2030-01-01 00:00 UTC")


def test_before_there_are_predictions_there_is_nothing_to_watch(settings: Settings):
    watch, message = watch_restatements(Warehouse(settings.database), settings, STATE, watch=None)
    assert watch is None
    assert message == "nothing is predicted or labelled yet, so nothing can be restated"


def test_a_changed_bar_asks_for_what_it_reaches_until_that_is_made(store: Warehouse, settings: Settings):
    first, _ = watched(store, settings)
    version = raw_answer(DAYS[20:21], [130.0], fetched_at=LATER, previous_adj_close=119.0)
    store.append("raw_ohlcv", version)
    found, message = watched(store, settings, first)
    assert message == f"1 bar(s) were restated: A {DAYS[20]}"
    assert found.steps == (
        ((*with_side_inputs(FEATURES, SIDE), *SERVED), str(DAYS[20]), str(PREDICTED)),
        (("labels", "operations", "publication"), str(DAYS[13]), str(DAYS[20])),
    )
    assert watched(store, settings, found)[0] == found, "kept until its runs have succeeded"
    assert watched(store, settings, Watch(found.through))[0].steps == ()


def test_market_context_that_comes_late_has_its_features_and_predictions_made_again(
    store: Warehouse, settings: Settings
):
    first, _ = watched(store, settings)
    store.append("context_series", context_rows(DAYS[10:11], fetched=LATER))
    found, message = watched(store, settings, first)
    assert message == f"the market context of 1 session(s) from {DAYS[10]} changed"
    assert found.steps == ((("stationary_features", "pca_components", *SERVED), str(DAYS[10]), str(PREDICTED)),)
    assert found.through == LATER
    done, _ = watched(store, settings, Watch(found.through))
    assert done.steps == (), "once"
    store.append("context_series", context_rows(DAYS[30:31], fetched=LATER + timedelta(days=1), close=25.0))
    restated, _ = watched(store, settings, done)
    assert [step[1:] for step in restated.steps] == [(str(DAYS[30]), str(PREDICTED))]


def announced(day: date, known: date, *, fetched: datetime = FETCHED) -> pl.DataFrame:
    """An announcement on `day` that was known at the close of session `known`."""
    moment = {"event_time": XNYS.closes[day], "known_at": XNYS.closes[known], "fetched_at": fetched}
    row = {"subject": "A", "session": known, "source": "file", "origin": "file", "day": day, "reaction_session": day}
    return rows_of("announcements", pl.DataFrame([row | moment]))


def test_a_side_row_that_comes_late_has_what_it_reaches_made_again(store: Warehouse, settings: Settings):
    store.append("announcements", announced(DAYS[5], DAYS[2]))
    first, _ = watched(store, settings)
    store.append("announcements", announced(DAYS[12], DAYS[9], fetched=LATER))
    store.append("announcements", announced(DAYS[30], DAYS[20], fetched=LATER))
    found, message = watched(store, settings, first)
    assert message == f"2 row(s) of announcements came late, the first of {DAYS[9]}"
    assert found.steps == ((("side_features", *SERVED), str(DAYS[9]), str(PREDICTED)),)
    assert found.through == LATER
    assert watched(store, settings, Watch(found.through))[0].steps == (), "once"
    off = settings.model_copy(update={"side_inputs": ()})
    assert watched(store, off, first)[0].steps == (), "what is off is not watched"


def test_a_side_row_of_the_next_session_and_a_side_input_that_is_new_ask_for_nothing(
    store: Warehouse, settings: Settings
):
    first, _ = watched(store, settings)
    store.append("announcements", announced(DAYS[12], DAYS[9], fetched=LATER))
    found, _ = watched(store, settings, first)
    assert found == Watch(LATER), "models know nothing of a side input that was turned on"
    evening = LATER + timedelta(days=1)
    ahead = XNYS.shift(PREDICTED, 1)
    assert ahead is not None
    store.append("announcements", announced(XNYS.shift(ahead, 9) or ahead, ahead, fetched=evening))
    assert watched(store, settings, found)[0] == Watch(evening)


def test_a_bar_that_changes_has_the_side_features_made_again(store: Warehouse, settings: Settings):
    first, _ = watched(store, settings)
    store.append("raw_ohlcv", raw_answer(DAYS[20:21], [130.0], fetched_at=LATER, previous_adj_close=119.0))
    (features, _) = watched(store, settings, first)[0].steps
    assert "side_features" in features[0]
    off = settings.model_copy(update={"side_inputs": ()})
    assert "side_features" not in watched(store, off, first)[0].steps[0][0]


# ---------------------------------------------------------------- reference models


def due(references_through: date | None, years: set[int], predicted_through: date | None = PREDICTED):
    works = references_due(
        XNYS,
        first_served=DAYS[0],
        predicted_through=predicted_through,
        model_years=frozenset({2019}),
        references_through=references_through,
        reference_years=frozenset(years),
    )
    return [(work.assets, work.first, work.last) for work in works]


REPORT = (("leakage_audit", "evaluation_report"), None, None)
PUBLISHED = (("publication",), str(PREDICTED), str(PREDICTED))
BACK_TESTED = (("backtest", "tear_sheet"), None, None)


def test_reference_models_are_due_when_a_year_lacks_them_or_they_lag_a_month():
    behind, nearly = XNYS.shift(PREDICTED, -LAG), XNYS.shift(PREDICTED, 1 - LAG)
    assert due(None, set(), None) == [], "nothing is predicted yet"
    assert due(nearly, {2019}) == []
    assert due(behind, {2019}) == [
        (("reference_predictions",), str(XNYS.shift(behind, 1) if behind else ""), str(PREDICTED)),
        REPORT,
        PUBLISHED,
        BACK_TESTED,
    ]
    assert due(None, set()) == [
        (("trained_references",), "2019", "2019"),
        (("reference_predictions",), str(DAYS[0]), str(PREDICTED)),
        REPORT,
        PUBLISHED,
        BACK_TESTED,
    ]
    assert due(PREDICTED, set()) == [(("trained_references",), "2019", "2019"), REPORT, PUBLISHED, BACK_TESTED]


def test_what_is_due_is_read_from_the_store(settings: Settings):
    store = Warehouse(settings.database)
    works = next_references(store, settings, STATE)
    made = [("trained_references",), ("reference_predictions",), REPORT[0], PUBLISHED[0], BACK_TESTED[0]]
    assert [work.assets for work in works] == made
    assert parse_works(text_of_works(works)) == works
    trained = pl.DataFrame({"model_year": [2019]}, schema={"model_year": pl.Int32})
    store.append("trained_references", rows_of("trained_references", trained))
    store.append("reference_predictions", rows_of("reference_predictions", pl.DataFrame({"session": [PREDICTED]})))
    assert next_references(store, settings, STATE) == []


def test_a_store_that_nobody_wrote_to_is_not_opened_again(store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    opened = []
    read_each = Warehouse.read_each
    monkeypatch.setattr(Warehouse, "read_each", lambda *asked: opened.append(1) or read_each(*asked))
    first = read_progress(store, XNYS, LATER)
    assert first.labelled_through == LABELLED
    assert read_progress(store, XNYS, LATER) is first
    assert len(opened) == 1
    read_progress(store, XNYS, datetime(2019, 2, 1, tzinfo=UTC))  # other sessions are the newest
    assert len(opened) == 2


def test_every_write_and_a_lost_store_are_seen_at_once(store: Warehouse):
    for day in (day for day in DAYS if day > LABELLED):
        assert read_progress(store, XNYS, LATER).labelled_through == XNYS.shift(day, -1)
        labels = pl.DataFrame({"ticker": ["A"], "session": [day], "horizon_end": [XNYS.shift(day, 7)]})
        store.append("labels", rows_of("labels", labels))
        assert read_progress(store, XNYS, LATER).labelled_through == day
    store.path.unlink()
    assert read_progress(store, XNYS, LATER).labelled_through is None
