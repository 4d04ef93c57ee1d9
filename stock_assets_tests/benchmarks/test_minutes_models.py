"""The walk-forward of the benchmark on minutes, on the real days where the shared folder has them."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from benchmarks import minutes_models
from stock_assets.evaluation.bar_scores import bar_score_table, by_day, scored_bars
from stock_assets.features.bar_features import bar_features
from stock_assets.features.bar_labels import bar_labels
from stock_assets.model.bar_models import BAR_MODELS, naive_bar_models
from stock_assets_tests.conftest import REAL_DATA

FILE = REAL_DATA / minutes_models.FILE.name


def test_a_day_is_predicted_once_four_whole_ones_are_there():
    bars = minutes_models.simulated(1, 7).filter(pl.col("bar_end") > datetime(2025, 1, 1, 21, 40, tzinfo=UTC))
    assert minutes_models.test_days(bars) == [date(2025, 1, 6), date(2025, 1, 7)]


@pytest.mark.skipif(not FILE.exists(), reason=f"{FILE.name} is not in the folder of real data")
def test_two_real_days_are_predicted_by_models_of_the_days_before():
    bars = minutes_models.read_bars(FILE)
    assert bars.select("ticker", "bar_end").is_unique().all()
    assert (bars["bar_end"].dt.offset_by("-1m").dt.date() >= bars["session"]).all()
    features, labels = (
        bar_features(bars, date.min, interval_minutes=1),
        bar_labels(bars, minutes_models.RULE, interval_minutes=1),
    )
    sessions = minutes_models.test_days(bars)[:2]
    assert sessions[0] == date(2025, 6, 11)
    predictions, trainings = minutes_models.walk_forward(features, labels, sessions)
    assert [row[0] for row in trainings] == [*BAR_MODELS]
    assert (predictions["bar_end"] - predictions["trained_through"]).max() == timedelta(days=1)
    scores = bar_score_table(
        by_day(scored_bars(predictions, labels), horizon_bars=minutes_models.RULE.horizon_bars), naive_bar_models()
    )
    by_model = {row["model"]: row for row in scores.iter_rows(named=True)}
    # volatility is forecast, the return is not
    assert by_model["bar_rnn"]["log_loss_gain"] > 0.005
    assert 0.9 < by_model["bar_rnn"]["log_loss"] < 1.05
    assert all(row["mse_ratio"] > 0.97 for row in by_model.values())
