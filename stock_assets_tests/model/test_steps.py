"""The steps of the model room: what is saved, loaded, weighed and predicted, on small stores."""

from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError
from stock_assets.features.stationary import STATIONARY
from stock_assets.lifecycle.materialize.serving import serving_versions
from stock_assets.model.baselines.base import entry_of
from stock_assets.model.baselines.naive import ClassPrior, Persistence
from stock_assets.model.materialize.ensemble import judge_year, weigh
from stock_assets.model.materialize.inputs import StoredInputs, usable_between
from stock_assets.model.materialize.predict import (
    make_predictions,
    make_reference_predictions,
    predictions_with_references,
)
from stock_assets.model.materialize.versions import REFERENCES, Assignment, Version, ensemble, save
from stock_assets.model.registry import MODELS
from stock_assets.model.splits import NO_MEMBER
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.model.store import (
    LEAVES,
    NOW,
    QUICK,
    model_years,
    models_at,
    only,
    predicted,
    small_settings,
    small_store,
    trained,
)
from stock_assets_tests.model.synthetic import sessions_of, synthetic_panel
from stock_assets_tests.tables import rows_of

DAYS = sessions_of(120)
CUTOFF = DAYS[99]
FEATURES, LABELS = synthetic_panel(tickers=3, sessions=120)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path)


def inputs(components: pl.DataFrame) -> StoredInputs:
    return SimpleNamespace(components=components)  # pyright: ignore[reportReturnType]


@pytest.fixture
def version(settings: Settings) -> Version:
    entry = MODELS["logistic"]
    known = LABELS.filter(pl.col("horizon_end") <= CUTOFF)
    trained = entry.train(SimpleNamespace(inputs=inputs(FEATURES), labels=known, cutoff=CUTOFF))  # pyright: ignore[reportArgumentType]
    name, folder = save(settings, entry, 2012, model=trained, inputs=inputs(FEATURES))
    return Version("logistic", name, CUTOFF, folder)


def test_a_saved_model_says_which_version_answered(settings: Settings, version: Version):
    answer = version.predict(settings, inputs(FEATURES), DAYS[100:])
    assert answer.height == 3 * 20
    assert answer.select("model", "model_version", "trained_through").unique().rows() == [
        ("logistic", version.version, CUTOFF)
    ]


def test_an_artifact_made_for_other_columns_is_refused_by_its_schema(settings: Settings, version: Version):
    other = FEATURES.with_columns(news=pl.lit(0.0))
    with pytest.raises(ArtifactError, match=f"{version.version} .*schema.*unknown to it: news"):
        version.predict(settings, inputs(other), DAYS[100:])


def test_a_model_goes_on_without_a_context_series_that_came_later_and_misses_one_that_it_knows(
    settings: Settings, version: Version
):
    later = inputs(FEATURES.with_columns(vix_level=pl.lit(-4.0)))
    assert_frame_equal(
        version.predict(settings, later, DAYS[100:]), version.predict(settings, inputs(FEATURES), DAYS[100:])
    )
    entry, known = MODELS["logistic"], LABELS.filter(pl.col("horizon_end") <= CUTOFF)
    trained = entry.train(SimpleNamespace(inputs=later, labels=known, cutoff=CUTOFF))  # pyright: ignore[reportArgumentType]
    name, folder = save(settings, entry, 2012, model=trained, inputs=later)
    with pytest.raises(ArtifactError, match="lacking now: vix_level"):
        Version("logistic", name, CUTOFF, folder).predict(settings, inputs(FEATURES), DAYS[100:])


def made_up(settings: Settings, path: str) -> tuple[Warehouse, pl.DataFrame]:
    """A store whose bars, features and components are noise; T1 leaves the universe after 90 sessions."""
    warehouse = Warehouse(settings.database)
    keys = LABELS.select("ticker", "session").filter(pl.col("session") <= DAYS[110])
    stays = (pl.col("ticker") != "T01") | (pl.col("session") <= DAYS[89])
    bars = keys.with_columns(suspect=pl.lit(None, pl.String), total_return=pl.lit(0.001), is_member=stays)
    warehouse.replace_table("daily_bars", rows_of("daily_bars", bars))
    warehouse.replace_table("labels", rows_of("labels", LABELS))
    warehouse.replace_table("pca_components", keys.with_columns(pc_1=pl.lit(0.0), pca_version=pl.lit("x")))
    inputs_of = {name: pl.lit(0.5) for name in STATIONARY} | {"vix_level": pl.lit(-4.0)}
    late = pl.when(pl.col("session") > DAYS[50]).then(-5.0)
    features = keys.with_columns(**inputs_of, index_vol_22=late)
    features = features if path == "with" else features.drop("vix_level")
    warehouse.replace_table("stationary_features", rows_of("stationary_features", features))
    return warehouse, bars


def test_only_members_are_learned_from_unless_all_are_asked_for(settings: Settings):
    warehouse, bars = made_up(settings, "with")
    outside = bars.filter(~pl.col("is_member")).height
    members, everyone = (
        StoredInputs(warehouse, config, first=DAYS[0], last=DAYS[110])
        for config in (settings, settings.model_copy(update={"members_only": False}))
    )
    labels, left_out = members.labels_at(DAYS[110])
    gone = labels.filter(pl.col("ticker") == "T01")
    assert gone["session"].max() == DAYS[89]
    assert gone["horizon_end"].max() > DAYS[89]  # pyright: ignore[reportOperatorIssue]: a date
    assert left_out == {NO_MEMBER: everyone.labels_at(DAYS[110])[0].height - labels.height}
    assert members.suspects["suspect"].to_list() == [NO_MEMBER] * outside
    assert everyone.suspects.is_empty()
    scored, reasons = usable_between(warehouse, settings, DAYS[0])
    everyone, _ = usable_between(warehouse, settings.model_copy(update={"members_only": False}), DAYS[0])
    assert reasons[NO_MEMBER] == everyone.height - scored.height > 0


@pytest.mark.parametrize(("path", "expected"), [("with", [*STATIONARY, "vix_level"]), ("without", [*STATIONARY])])
def test_a_context_column_is_read_where_it_is_known_from_the_first_session(settings: Settings, path: str, expected):
    warehouse, _ = made_up(settings, path)
    known = StoredInputs(warehouse, settings, first=DAYS[0], last=DAYS[110])
    assert known.features.columns == ["ticker", "session", *expected]


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_an_artifact_cut_short_is_refused(settings: Settings, version: Version, name: str):
    path = settings.artifacts / version.folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"cut short|holds no artifact"):
        version.predict(settings, inputs(FEATURES), DAYS[100:])


def answers(**p_buy: list[float | None]) -> pl.DataFrame:
    rows = [
        {"model": model, "ticker": f"T{i}", "session": DAYS[0], "p_sell": 0.2, "p_hold": 0.8 - p, "p_buy": p}
        for model, values in p_buy.items()
        for i, p in enumerate(values)
        if p is not None
    ]
    return pl.DataFrame(rows).with_columns(
        score=pl.col("p_buy") - pl.col("p_sell"), model_version=pl.col("model"), trained_through=CUTOFF
    )


def test_the_ensemble_is_the_weighted_mean_where_every_member_answers():
    weights = pl.DataFrame(
        {"member": ["a", "b", "c"], "weight": [0.25, 0.75, 0.0], "version": "e-1", "trained_through": CUTOFF}
    )
    found = ensemble(answers(a=[0.4, 0.1, 0.2], b=[0.6, None, 0.4], c=[0.1, 0.1, None]), weights).sort("ticker")
    assert found["ticker"].to_list() == ["T0", "T2"]
    np.testing.assert_allclose(found["p_buy"], [0.55, 0.35])
    np.testing.assert_allclose(found["score"], found["p_buy"] - found["p_sell"])
    np.testing.assert_allclose(found.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series(), 1.0)
    assert found.select("model", "model_version").unique().rows() == [("ensemble", "e-1")]


def test_the_weights_are_those_of_the_years_before_and_rnn_alone_where_there_are_none():
    rng = np.random.default_rng(0)
    judged = pl.DataFrame(
        {"ticker": "T0", "session": DAYS[:100], "rnn": rng.beta(5, 3, 100), "logistic": rng.beta(1, 8, 100)}
    )
    (first, second), notes = weigh(2015, CUTOFF, [judged])
    assert notes == []
    assert (first["member"], first["rows"]) == ("rnn", 100)
    assert first["weight"] == pytest.approx(1)
    assert second["weight"] == 0
    assert first["log_loss"] == pytest.approx(float(-np.log(judged["rnn"].to_numpy()).mean()))
    (alone,), _ = weigh(2014, date(2013, 12, 31), [])
    assert (alone["member"], alone["weight"], alone["log_loss"], alone["rows"]) == ("rnn", 1.0, None, 0)
    assert alone["version"] != first["version"]


def test_the_same_judgement_gives_the_same_version():
    judged = pl.DataFrame({"ticker": "T0", "session": DAYS[:2], "rnn": [0.5, 0.4], "trees": [0.4, 0.5]})
    assert weigh(2015, CUTOFF, [judged]) == weigh(2015, CUTOFF, [judged])


def test_the_ensemble_is_weighed_on_labels_of_members_alone(tmp_path):
    """A ticker that left the universe is judged where no members are asked for."""
    settings = small_settings(tmp_path)
    with only(QUICK, entry_of(ClassPrior, table="trained_baselines")):
        store = small_store(settings)
        model_years(store, settings, 2018)
        members = judge_year(store, settings, 2018)
        everyone = judge_year(store, settings.model_copy(update={"members_only": False}), 2018)
    gone = pl.col("ticker") == "T5"
    assert 0 < members.filter(gone).height < everyone.filter(gone).height
    assert members.filter(gone)["session"].max() < LEAVES  # pyright: ignore[reportOperatorIssue]: a date
    assert_frame_equal(members.filter(~gone), everyone.filter(~gone))


def test_references_are_predicted_apart_and_read_together(tmp_path):
    settings, day = small_settings(tmp_path), date(2019, 5, 2)
    after = date(2019, 5, 3)
    with only(QUICK, entry_of(ClassPrior, table="trained_baselines"), entry_of(Persistence, table=REFERENCES)):
        store = small_store(settings)
        model_years(store, settings, 2019)
        predicted(store, settings, [day, after])
        usual = {"rnn", "class_prior", "ensemble"}
        assert models_at(predictions_with_references(store), day) == usual
        trained(store, settings, 2019, table=REFERENCES)
        made = make_reference_predictions(store, settings, [day])
        assert models_at(made.rows, day) == {"persistence"}
        assert models_at(store.read("predictions"), day) == usual
        together = predictions_with_references(store, day, after)
        assert models_at(together, day) == usual | {"persistence"}
        assert models_at(together, after) == usual
        # a store from before the references had a table of their own: its rows count where there are no newer ones
        old = made.rows.with_columns(model_version=pl.lit("persistence-old"))
        store.append("predictions", pl.concat([old, old.with_columns(session=pl.lit(after))]))
        versions = predictions_with_references(store, columns=["model", "session", "model_version"]).filter(
            pl.col("model") == "persistence"
        )
        assert set(versions.filter(pl.col("session") == day)["model_version"]) == set(made.rows["model_version"])
        assert set(versions.filter(pl.col("session") == after)["model_version"]) == {"persistence-old"}


def test_an_ensemble_goes_on_with_a_member_that_became_a_reference(tmp_path):
    """Its versions are still rows of the table of baselines; it answers for the ensemble and has no rows itself."""
    settings, day = small_settings(tmp_path), date(2019, 5, 2)
    serves = replace(entry_of(ClassPrior, table="trained_baselines"), role="champion")
    with only(QUICK, serves):
        store = small_store(settings)
        model_years(store, settings, 2019)
        weights = store.read("trained_ensemble")
        both = pl.concat([weights.with_columns(member=pl.lit(name), weight=0.5) for name in ("rnn", "class_prior")])
        store.replace_table("trained_ensemble", both)
        before = predicted(store, settings, [day]).rows
    with only(QUICK, replace(serves, role="reference")):
        rows = predicted(store, settings, [day]).rows
    assert_frame_equal(rows, before.filter(pl.col("model") != "class_prior"))


def test_a_model_that_some_of_the_years_lack_is_not_weighed():
    first = pl.DataFrame({"ticker": "T0", "session": DAYS[:2], "rnn": [0.5, 0.4], "trees": [0.4, 0.5]})
    second = first.with_columns(coin=pl.Series([None, 0.9])).drop("trees")
    rows, notes = weigh(2015, CUTOFF, [first, second])
    assert [(row["member"], row["weight"], row["rows"]) for row in rows] == [("rnn", 1.0, 4)]
    assert notes == [
        f"{name} is no member of the ensemble of 2015: only 1 of the 2 years before have it"
        for name in ("trees", "coin")
    ]
    (alone,), _ = weigh(2015, CUTOFF, [first.drop("rnn"), second.drop("rnn")])
    assert (alone["member"], alone["weight"], alone["rows"]) == ("rnn", 1.0, 0)


def test_a_version_that_serves_from_while_it_is_predicted_is_the_one_that_predicts(tmp_path):
    """A rollback, or a moved alias, says from which session on it holds: no other version may have predicted that."""
    settings, day = small_settings(tmp_path), date(2019, 5, 2)
    with only(QUICK, entry_of(ClassPrior, table="trained_baselines")):
        store = small_store(settings)
        model_years(store, settings, 2019)
        calls: list[str] = []

        def assign(pca_version: str) -> Assignment:
            calls.append(pca_version)
            usual = serving_versions(store, NoRegistry(), [day], pca_version=pca_version, now=NOW)
            if len(calls) == 1:
                return usual
            moved = [([replace(v, version=f"{v.version}-moved") for v in vs], days) for vs, days in usual.spans]
            return Assignment(moved, ["an alias was moved"])

        made = make_predictions(store, settings, [day], assign=assign)
    versions = made.rows.filter(pl.col("model") != "ensemble")["model_version"]
    assert versions.str.ends_with("-moved").all()
    assert len(calls) == 3
    assert made.notes.count("an alias was moved") == 1
