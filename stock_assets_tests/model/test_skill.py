"""On the simulated market the best achievable score is known: how near does the model come to it?"""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from stock_assets.evaluation import metrics
from stock_assets.features.labels import barrier_labels
from stock_assets.features.stationary import stationary_features
from stock_assets.market.adjustments import clean_bars
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.model.baselines.naive import fit_class_prior, fit_ticker_prior
from stock_assets.model.config import RnnConfig
from stock_assets.model.lesson import InputFrames, Lesson
from stock_assets.model.networks.rnn import train_rnn
from stock_assets.model.splits import training_rows, usable_labels
from stock_assets.setting_values import LabelRule

HORIZON, BUY, SELL = 7, 0.027, 0.022
#: The share of the way from the best naive baseline to the bound that the model has to make.
SHARE = 0.8
#: Single precision, so that the score is that of any machine.
CONFIG = RnnConfig(bfloat16=False)


@pytest.mark.drill
def test_walk_forward_the_model_comes_near_the_best_achievable_score():
    calendar = trading_calendar("XNYS", date(2018, 1, 2), date(2025, 12, 31))
    days = calendar.sessions
    source = SimulatedSource(calendar, 0)
    universe = source.universe()
    evening = datetime(2025, 12, 31, tzinfo=UTC) + timedelta(days=1)
    raw = source.fetch(universe["ticker"].unique().to_list(), days[0], days[-1], fetched_at=evening).bars
    bars = clean_bars(raw, universe, days)
    suspects = bars.filter(pl.col("suspect").is_not_null()).select("ticker", "session", "suspect")
    labels, _ = usable_labels(barrier_labels(bars, LabelRule(HORIZON, BUY, SELL)), suspects)
    features = stationary_features(bars)
    inputs = InputFrames(features=features, suspects=suspects)

    scores = []
    for year in range(2020, 2026):
        cutoff = max(day for day in days if day.year < year)
        known, asked = training_rows(labels, cutoff), [day for day in days if day.year == year]
        model = train_rnn(Lesson(inputs, known, cutoff, 0, HORIZON), CONFIG)
        answers = {
            "rnn": model.predict(inputs, asked),
            "class_prior": fit_class_prior(known, cutoff).predict(features, asked),
            "ticker_prior": fit_ticker_prior(known, cutoff).predict(features, asked),
            # nobody who sees only prices can expect a smaller log-loss: it knows the state behind them
            "bound": source.oracle_probabilities(
                asked[::3], horizon=HORIZON, buy_threshold=BUY, sell_threshold=SELL, paths=1000
            ),
        }
        rows = labels.select("ticker", "session", "label")
        for answer in answers.values():
            rows = rows.join(answer, on=["ticker", "session"], how="semi")
        assert rows.height > 4000
        loss = {}
        for name, answer in answers.items():
            scored = rows.join(answer, on=["ticker", "session"])
            truth = scored["label"].cast(pl.Int64).to_numpy()
            loss[name] = metrics.log_loss(truth, scored.select("p_sell", "p_hold", "p_buy").to_numpy())
        scores.append(loss)
    mean = pl.DataFrame(scores).mean().row(0, named=True)
    naive = min(mean["class_prior"], mean["ticker_prior"])
    assert mean["bound"] < mean["rnn"] < naive
    share = (naive - mean["rnn"]) / (naive - mean["bound"])
    assert share >= SHARE, f"{share:.1%} of the gap: {mean}"
