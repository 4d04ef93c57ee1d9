"""On the simulated market the best achievable score is known: how near does the model come to it?"""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from stock_assets.evaluation import metrics
from stock_assets.features.labels import labels as barrier_labels
from stock_assets.features.stationary import stationary_features
from stock_assets.market.adjustments import clean_bars
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.model.baselines import fit_class_prior, fit_persistence, fit_ticker_prior, known_labels
from stock_assets.model.config import VolatilityConfig
from stock_assets.model.splits import training_rows, usable_labels
from stock_assets.model.volatility import predict_volatility, train_volatility

HORIZON, BUY, SELL = 7, 0.027, 0.022
#: The share of the way from the best naive baseline to the bound that the model has to make.
SHARE = 0.8


def test_the_volatility_network_comes_near_the_best_achievable_score():
    calendar = trading_calendar("XNYS", date(2018, 1, 2), date(2022, 12, 30))
    days = calendar.sessions
    source = SimulatedSource(calendar, 0)
    evening = datetime(2022, 12, 30, tzinfo=UTC) + timedelta(days=1)
    universe = source.universe()
    raw = source.fetch(universe["ticker"].unique().to_list(), days[0], days[-1], evening)
    bars = clean_bars(raw, universe, days)
    suspects = bars.filter(pl.col("suspect").is_not_null()).select("ticker", "session", "suspect")
    labels, _ = usable_labels(barrier_labels(bars, HORIZON, BUY, SELL), suspects)
    features = stationary_features(bars)
    cutoff = max(day for day in days if day.year < 2022)
    known, asked = training_rows(labels, cutoff), [day for day in days if day.year == 2022]

    model = train_volatility(features, known, suspects, VolatilityConfig(), cutoff, 0, HORIZON)
    newest = known_labels(labels, features)
    answers = {
        "rnn": predict_volatility(model, features, suspects, asked),
        "class_prior": fit_class_prior(known, cutoff).predict(features, asked),
        "ticker_prior": fit_ticker_prior(known, cutoff).predict(features, asked),
        "persistence": fit_persistence(newest, known, cutoff).predict(newest, asked),
        "bound": source.oracle_probabilities(asked[::3], HORIZON, BUY, SELL, paths=1000),
    }
    rows = labels.select("ticker", "session", "label")
    for answer in answers.values():
        rows = rows.join(answer, on=["ticker", "session"], how="semi")
    loss = {}
    for name, answer in answers.items():
        scored = rows.join(answer, on=["ticker", "session"])
        truth = scored["label"].cast(pl.Int64).to_numpy()
        loss[name] = metrics.log_loss(truth, scored.select("p_sell", "p_hold", "p_buy").to_numpy())
    naive = min(loss["class_prior"], loss["ticker_prior"], loss["persistence"])
    assert rows.height > 4000
    assert loss["bound"] < loss["rnn"] < naive
    share = (naive - loss["rnn"]) / (naive - loss["bound"])
    assert np.isfinite(share)
    assert share >= SHARE, f"{share:.0%} of the gap: {loss}"
