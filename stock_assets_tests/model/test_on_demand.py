"""What any trained version predicts for any stored session: the stored predictions, and refusals with the reason."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import ArtifactError, CutoffError, MissingSessionsError, UnknownNameError
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize import on_demand
from stock_assets.model.materialize.on_demand import OnDemandPredictions
from stock_assets.model.registry import ENSEMBLE, MODELS
from stock_assets.model.splits import NO_MEMBER
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.model.store import NOW, QUICK, model_years, only, predicted, small_settings, small_store

ENTRIES = [QUICK, *(MODELS[name] for name in ("class_prior", "logistic"))]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory):
    """(predictions on demand, the stored ones) of a market with two model years."""
    settings = small_settings(tmp_path_factory.mktemp("on_demand"))
    with only(*ENTRIES):
        store = small_store(settings)
        model_years(store, settings, 2018, 2019)
        sessions = calendar_of(settings).between(date(2019, 3, 4), date(2019, 3, 8))
        stored = predicted(store, settings, sessions).rows
        yield OnDemandPredictions(store, settings), stored


def logistic(store: Warehouse, year: int) -> str:
    """The version of the logistic regression of a model year."""
    rows = store.read("trained_baselines").filter((pl.col("model_year") == year) & (pl.col("model") == "logistic"))
    return rows["version"][0]


def test_it_equals_what_is_stored_of_the_version_and_session(market):
    demand, stored = market
    assert stored["model"].n_unique() == len(ENTRIES) + 1
    assert ENSEMBLE in stored["model"].to_list()
    for row in stored.iter_rows(named=True):
        answer = demand.predict(row["ticker"], row["session"], row["model_version"], now=NOW)
        assert {name: answer[name] for name in ("ticker", "session", "model", "model_version", "trained_through")} == {
            name: row[name] for name in ("ticker", "session", "model", "model_version", "trained_through")
        }
        for name in ("p_sell", "p_hold", "p_buy", "score"):
            assert answer[name] == pytest.approx(row[name], abs=1e-9)


def test_a_version_of_an_earlier_year_predicts_a_session_that_it_never_served(market):
    demand, stored = market
    old = demand.store.read("trained_baselines").filter(
        (pl.col("model_year") == 2018) & (pl.col("model") == "logistic")
    )
    session = stored["session"].max()
    answer = demand.predict("T0", session, old["version"][0], now=NOW)
    assert answer["trained_through"] == date(2017, 12, 29)
    assert answer["p_sell"] + answer["p_hold"] + answer["p_buy"] == pytest.approx(1)


def test_an_ensemble_predicts_a_session_that_nobody_predicted_by_the_first_versions_of_its_year(market):
    demand, stored = market
    version = stored.filter(pl.col("model") == ENSEMBLE)["model_version"][0]
    answer = demand.predict("T1", date(2019, 2, 4), version, now=NOW)
    assert answer["model"] == ENSEMBLE
    assert answer["p_sell"] + answer["p_hold"] + answer["p_buy"] == pytest.approx(1)


@pytest.mark.parametrize("model", ["logistic", ENSEMBLE])
def test_a_version_trained_through_the_session_is_refused_with_both_dates(market, model: str):
    demand, stored = market
    version = stored.filter(pl.col("model") == model)["model_version"][0]
    with pytest.raises(CutoffError, match="2018-12-31, which is not before the session 2018-12-31"):
        demand.predict("T0", date(2018, 12, 31), version, now=NOW)


def test_what_there_is_none_of_is_named(market):
    demand, stored = market
    version, session = stored["model_version"][0], stored["session"][0]
    for asked, message in {
        ("T0", session, "rnn-2018-12-31-nope"): "no trained version rnn-2018-12-31-nope",
        ("NOPE", session, version): "NOPE is no ticker of this market",
        (
            "T0",
            date(2019, 3, 9),
            version,
        ): "is no session of XNYS; the nearest are 2019-03-08 and 2019-03-11",
    }.items():
        with pytest.raises(UnknownNameError, match=message):
            demand.predict(*asked, now=NOW)
    before_the_close = NOW.replace(year=2019, month=3, day=4, hour=12)
    with pytest.raises(UnknownNameError, match="2019-03-04 is not over yet: it closes at 2019-03-04 21:00 UTC"):
        demand.predict("T0", session, version, now=before_the_close)


def test_a_ticker_that_is_left_out_has_the_reason(market):
    demand, stored = market
    session = stored["session"][0]
    answer = demand.predict("T5", session, stored["model_version"][0], now=NOW)  # it left in 2018
    assert answer["reason"] == NO_MEMBER
    assert "p_buy" not in answer


@pytest.mark.usefixtures("market")
def test_inputs_that_the_version_cannot_read_say_what_to_make_first(tmp_path: Path):
    settings = small_settings(tmp_path)
    store, session = small_store(settings), date(2019, 3, 4)
    model_years(store, settings, 2018, 2019)
    demand, name = OnDemandPredictions(store, settings), logistic(store, 2019)
    components = store.read("pca_components")
    store.replace_table("pca_components", components.with_columns(pca_version=pl.lit("y")))
    with pytest.raises(ArtifactError, match=r"components x, found y.*Train logistic of model year 2019"):
        demand.predict("T0", session, name, now=NOW)
    store.replace_table("pca_components", components)
    features = store.read("stationary_features")
    store.replace_table("stationary_features", features.filter(pl.col("session") != session))
    with pytest.raises(MissingSessionsError, match="Materialize stationary_features for 2019-03-04 first"):
        demand.predict("T0", session, name, now=NOW)


def test_what_is_kept_is_forgotten_once_the_store_changes(market, monkeypatch: pytest.MonkeyPatch):
    demand, stored = market
    row = stored.row(0, named=True)
    read: list[date] = []

    def counted(store, settings, sessions, needed_by):
        read.extend(sessions)
        return inputs_for(store, settings, sessions, needed_by=needed_by)

    inputs_for = on_demand.inputs_for
    monkeypatch.setattr(on_demand, "inputs_for", counted)
    fresh = OnDemandPredictions(demand.store, demand.settings)
    for _ in range(3):
        for ticker in ("T0", "T1"):
            fresh.predict(ticker, row["session"], row["model_version"], now=NOW)
    assert read == [row["session"]]
    session = row["session"] + timedelta(days=1)
    demand.store.replace_sessions("predictions", [session], stored.filter(pl.col("session") == session))
    fresh.predict("T0", row["session"], row["model_version"], now=NOW)
    assert read == [row["session"]] * 2
