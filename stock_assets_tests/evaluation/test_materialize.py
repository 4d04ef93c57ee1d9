"""The steps of the room on a small store of made-up rows, without Dagster."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import figures, report
from stock_assets.evaluation.findings import make_findings
from stock_assets.evaluation.leakage import SCHEMA
from stock_assets.evaluation.materialize.evaluation_report import make_evaluation_report, read_inputs
from stock_assets.evaluation.materialize.inputs import JUDGED_COLUMNS, judged_predictions, learning_curves
from stock_assets.features.labels import barrier_labels
from stock_assets.frames import CLASSES, PROBABILITIES
from stock_assets.market.calendar import calendar_of
from stock_assets.setting_values import LabelRule
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.artifacts import save_artifact
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.tables import rows_of

TICKERS = [f"T{i:02d}" for i in range(12)]
FIRST, LAST = date(2017, 1, 3), date(2019, 12, 31)
CUTOFFS = {2018: date(2017, 12, 29), 2019: date(2018, 12, 31)}
#: The models of the store: no reference model is among them.
MODELS = ("class_prior", "ticker_prior", "rnn", "ensemble")


def settings_of(folder: Path, source: str = "snapshot") -> Settings:
    return read_settings(
        source=source, snapshot=folder, data_dir=folder, start=FIRST, end=LAST, first_model_year=2018, context="off"
    )


def bars(sessions: list[date]) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    keys = pl.DataFrame({"session": sessions}).join(pl.DataFrame({"ticker": TICKERS}), how="cross")
    returns = pl.Series(rng.standard_t(4, keys.height) * 0.01)
    frame = keys.with_columns(total_return=returns).sort("ticker", "session")
    close = 100 * (1 + pl.col("total_return")).cum_prod().over("ticker")
    return frame.with_columns(close=close, volume=pl.lit(1e6), is_member=pl.lit(value=True))


def predictions(labels: pl.DataFrame, leaking: str | None = None) -> pl.DataFrame:
    """One answer of each of MODELS for every label in the years of CUTOFFS; the `leaking` model knows the label."""
    rng = np.random.default_rng(1)
    year = pl.col("session").dt.year()
    rows = labels.filter(year.is_in(list(CUTOFFS))).with_columns(trained_through=year.replace_strict(CUTOFFS))
    parts = []
    for model in MODELS:
        weights = np.array([1.2, 0.8, 1.1]) + (0 if "prior" in model else 0.05 * rng.random((rows.height, 3)))
        if model == leaking:
            weights = weights + 3.0 * (rows["label"].to_numpy()[:, None] == np.asarray(CLASSES))
        p = np.broadcast_to(weights / weights.sum(axis=-1, keepdims=True), (rows.height, 3))
        answers = [pl.Series(name, p[:, i]) for i, name in enumerate(PROBABILITIES)]
        parts.append(
            rows.select("ticker", "session", "trained_through").with_columns(
                *answers, model=pl.lit(model), score=pl.Series(p[:, 2] - p[:, 0])
            )
        )
    return pl.concat(parts)


def fill(settings: Settings, leaking: str | None = None) -> Warehouse:
    """A store with everything that the report reads; nothing of a market context and no network's folder."""
    store = Warehouse(settings.database)
    of_market = bars(list(calendar_of(settings).sessions))
    labels = barrier_labels(of_market, LabelRule())
    rng = np.random.default_rng(2)
    keys = of_market.select("ticker", "session")
    random = [pl.Series(name, rng.normal(size=keys.height)) for name in ("log_return_1", "volume_ratio", "pc_1")]
    features = keys.with_columns(random[:2]).with_columns(
        pl.lit(0.0).alias(name)
        for name in declared("stationary_features").names
        if name.startswith(("log_return_", "volume_ratio_"))
        if name != "log_return_1"
    )
    features = features.with_columns(market_vol_22=pl.col("session").dt.ordinal_day().cast(pl.Float64))
    tables = {
        "universe": pl.DataFrame({"ticker": TICKERS, "sector": ["Energy", None] * 6}).with_columns(
            from_session=pl.lit(FIRST)
        ),
        "daily_bars": of_market,
        "labels": labels,
        "stationary_features": features,
        "pca_components": keys.with_columns(random[2], pca_version=pl.lit("p")),
        "trained_rnn": pl.DataFrame({"model_year": [2018], "model": ["rnn_classifier"], "artifact": ["trained_rnn/1"]}),
        "predictions": predictions(labels, leaking),
        "leakage_audit": pl.DataFrame(
            {"protocol": ["honest", "cheating"], "model": ["persistence"] * 2, "lag": [7, 1], "accuracy": [0.4, 0.7]}
            | {"rows": [100, 100], "rmse": [1.0, 0.7], "note": ["copies", "copies"]}
        ),
    }
    for name, frame in tables.items():
        store.replace_table(name, rows_of(name, frame))
    return store


def test_the_report_is_made_without_any_reference_model_context_or_network(tmp_path):
    settings = settings_of(tmp_path)
    store = fill(settings)
    made = make_evaluation_report(store, settings)
    assert set(made.table["model"]) == set(MODELS)
    assert store.read("evaluation_report").equals(declared("evaluation_report").fit(made.table))
    assert made.report.best["model"] in ("rnn", "ensemble")
    naive = made.report.naive
    assert naive is not None
    assert naive["model"] in ("class_prior", "ticker_prior")
    assert made.alarming.is_empty()
    assert "growth" not in made.report.figures
    assert "epochs" not in made.report.figures
    assert {"confusion", "calibration", "accuracy_by_sector", "ablation", "lag_sweep"} <= set(made.report.figures)
    assert made.report.tables["market"].is_empty()
    assert made.page.read_text().count("<img") == len(made.report.figures)
    assert f"judged {date(2018, 1, 2)} to" in made.page.read_text()


def test_before_the_audit_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda _: {})
    settings = settings_of(tmp_path)
    store = fill(settings)
    with store.connect(read_only=False) as connection:
        connection.execute("DROP TABLE evaluation.leakage_audit")
    made = make_evaluation_report(store, settings)
    assert made.table.height
    assert "Not audited yet: materialize the asset" in made.page.read_text()
    assert figures.FIGURES["lag_sweep"].draw(make_findings(read_inputs(store, settings))) is None


def test_a_model_that_knows_the_label_rings_the_alarm_on_real_prices_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda _: {})  # pictures take most of the time
    settings = settings_of(tmp_path)
    store = fill(settings, leaking="rnn")
    assert make_evaluation_report(store, settings).alarming["model"].to_list() == ["rnn"]
    assert make_evaluation_report(store, settings_of(tmp_path, "simulated")).alarming.is_empty()


def test_predictions_without_a_naive_baseline_are_refused(tmp_path):
    settings = settings_of(tmp_path)
    store = fill(settings)
    answers = store.read("predictions")
    store.replace_table("predictions", answers.filter(~pl.col("model").str.ends_with("prior")))
    with pytest.raises(StockAssetsError, match="predictions hold no naive baseline; expected one of class_prior"):
        make_evaluation_report(store, settings)


def test_what_is_judged_is_read_with_the_columns_that_scores_need(tmp_path):
    store = fill(settings_of(tmp_path))
    rows = judged_predictions(store, date(2018, 1, 1), date(2018, 1, 31))
    assert rows.columns == list(JUDGED_COLUMNS)
    assert {day.month for day in rows["session"]} == {1}


def test_a_network_that_judged_its_classes_has_a_curve(tmp_path):
    settings = settings_of(tmp_path)
    store = fill(settings)
    assert learning_curves(store, settings).is_empty()
    curve = [{"epoch": 0, "accuracy": 0.3, "rmse": 1.1, "loss": 1.0}, {"epoch": 1, "loss": 0.9}]
    save_artifact(settings.artifacts / "trained_rnn" / "1", {"weights": np.zeros(2)}, {"kind": "rnn", "curve": curve})
    assert learning_curves(store, settings).rows() == [(2018, "rnn_classifier", 0, 0.3, 1.1)]


def test_the_audit_declares_the_columns_that_it_stores():
    assert declared("leakage_audit").schema == SCHEMA
