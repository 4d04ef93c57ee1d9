from datetime import date

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.evaluation import metrics, study
from stock_assets.features.indicators import classic_indicators
from stock_assets.features.labels import barrier_labels
from stock_assets.market.calendar import trading_calendar
from stock_assets.model.baselines.linear import fit_logistic
from stock_assets.setting_values import LabelRule

DAYS = trading_calendar("XNYS", date(2017, 1, 3), date(2019, 12, 31)).sessions
SPLIT = 300
CUTOFFS = {2018: date(2017, 12, 29), 2019: date(2018, 12, 31)}


def bars(tickers: int = 3, seed: int = 0) -> pl.DataFrame:
    """As-traded bars of T0, T1, …; T1 splits 4 for 1 on day SPLIT."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(tickers):
        returns = rng.standard_t(4, len(DAYS)) * 0.01
        ratio = np.where((np.arange(len(DAYS)) == SPLIT) & (i == 1), 4.0, 1.0)
        close = 100 * (i + 1) * np.cumprod(1 + returns) / np.cumprod(ratio)
        parts.append(
            pl.DataFrame(
                {
                    "ticker": [f"T{i}"] * len(DAYS),
                    "session": DAYS,
                    "close": close,
                    "volume": 1e6 * np.cumprod(ratio) * rng.uniform(0.5, 1.5, len(DAYS)),
                    "split_ratio": ratio,
                    "total_return": [None, *returns[1:]],
                }
            )
        )
    return pl.concat(parts)


BARS = bars()
LABELS = barrier_labels(BARS, LabelRule())


def test_labels_are_counted_at_both_thresholds():
    counts = study.label_counts(BARS, 7, [(0.027, 0.022), study.SYMMETRIC, (0.027, 0.022)])
    assert counts["thresholds"].unique(maintain_order=True).to_list() == ["+2.5% / −2.5%", "+2.7% / −2.2%"]
    for name, expected in (
        ("+2.7% / −2.2%", LABELS),
        ("+2.5% / −2.5%", barrier_labels(BARS, LabelRule(7, 0.025, 0.025))),
    ):
        found = counts.filter(pl.col("thresholds") == name).select("label", "rows").rows()
        assert dict(found) == dict(expected["label"].value_counts().iter_rows())


def test_the_most_traded_ticker_has_the_most_bars():
    assert study.most_traded(BARS) == "T2"
    gaps = BARS.filter((pl.col("ticker") != "T2") | (pl.col("session") != DAYS[40]))
    assert study.most_traded(gaps) == "T1"
    assert study.most_traded(gaps.sample(fraction=1.0, shuffle=True, seed=0)) == "T1"
    with pytest.raises(StockAssetsError, match="no bar to draw"):
        study.most_traded(BARS.clear())


def test_a_chart_is_on_one_price_basis_across_a_split():
    own = BARS.filter(pl.col("ticker") == "T1")
    chart = study.chart(own.sample(fraction=1.0, shuffle=True, seed=0), LABELS)
    assert chart["session"].to_list() == list(DAYS)
    assert chart["close"][-1] == pytest.approx(own["close"][-1])
    moves = chart["close"].pct_change().drop_nulls().to_numpy()
    assert moves == pytest.approx(own["total_return"].drop_nulls().to_numpy())
    assert chart["volume"].max() < 8e6  # pyright: ignore[reportOptionalOperand]
    for k in (25, 50):
        mean, std = chart["close"].rolling_mean(k), chart["close"].rolling_std(k)
        whole = slice(60, None)
        assert chart[f"ma_{k}"][whole].to_numpy() == pytest.approx(mean[whole].to_numpy())
        assert chart[f"bb_upper_{k}"][whole].to_numpy() == pytest.approx((mean + 2 * std)[whole].to_numpy())
        assert chart[f"bb_lower_{k}"][whole].to_numpy() == pytest.approx((mean - 2 * std)[whole].to_numpy())
    expected = (chart["close"] - chart["close"].shift(25)) / chart["close"]
    assert chart["momentum_25"][60:].to_numpy() == pytest.approx(expected[60:].to_numpy())
    rsi = classic_indicators(own)["rsi_25"]
    assert chart["rsi_25"].drop_nulls().to_list() == pytest.approx(rsi.to_list())
    assert chart["label"][:-7].to_list() == LABELS.filter(pl.col("ticker") == "T1")["label"].to_list()
    assert chart["label"][-7:].null_count() == 7


def test_a_chart_without_splits_in_the_source_has_volumes_as_they_are():
    own = BARS.filter(pl.col("ticker") == "T0").with_columns(split_ratio=pl.lit(None, pl.Float64))
    assert study.chart(own, LABELS)["volume"].equals(own["volume"])


def inputs(seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(features, labels) of twelve tickers, where `known` tells something of the label and `noise` nothing."""
    rng = np.random.default_rng(seed)
    keys = pl.DataFrame({"session": DAYS}).join(pl.DataFrame({"ticker": [f"T{i:02d}" for i in range(12)]}), how="cross")
    known = rng.normal(size=keys.height)
    label = np.where(known + rng.normal(size=keys.height) > 0.7, 1, np.where(rng.random(keys.height) < 0.5, 0, -1))
    ends = pl.DataFrame({"session": DAYS[:-7], "horizon_end": DAYS[7:]})
    labels = keys.with_columns(label=pl.Series(label, dtype=pl.Int8)).join(ends, on="session")
    features = keys.with_columns(known=pl.Series(known), noise=pl.Series(rng.normal(size=keys.height)))
    return features, labels


def test_the_ablation_scores_each_set_of_inputs_walk_forward():
    features, labels = inputs()
    sets = {"noise": ["noise"], "both": ["noise", "known"]}
    table = study.ablation_table(features, labels, cutoffs=CUTOFFS, inputs=sets)
    assert table.select("inputs", "year", "columns").rows() == [
        *(("noise", year, 1) for year in (2018, 2019, None)),
        *(("both", year, 2) for year in (2018, 2019, None)),
    ]
    model = fit_logistic(features, labels.filter(pl.col("horizon_end") <= CUTOFFS[2018]), CUTOFFS[2018])
    test = labels.filter(pl.col("session").dt.year() == 2018).sort("ticker", "session")
    answer = model.predict(features.join(test, on=["ticker", "session"], how="semi"))
    truth, p = test["label"].cast(pl.Int64).to_numpy(), answer.select("p_sell", "p_hold", "p_buy").to_numpy()
    row = table.row(by_predicate=(pl.col("inputs") == "both") & (pl.col("year") == 2018), named=True)
    assert row["rows"] == test.height
    assert row["log_loss"] == pytest.approx(metrics.log_loss(truth, p), abs=1e-6)
    assert row["accuracy"] == pytest.approx(metrics.accuracy(truth, p), abs=1e-3)
    means = table.filter(pl.col("year").is_null())
    years = table.filter(pl.col("year").is_not_null())
    for name, loss, rows in means.select("inputs", "log_loss", "rows").rows():
        own = years.filter(pl.col("inputs") == name)
        assert (loss, rows) == (pytest.approx(own["log_loss"].mean()), own["rows"].sum())
    assert means["log_loss"][1] < means["log_loss"][0] - 0.1


def test_the_future_and_the_order_of_rows_do_not_change_the_ablation():
    features, labels = inputs()
    sets = {"known": ["known"]}
    table = study.ablation_table(features, labels, cutoffs={2018: CUTOFFS[2018]}, inputs=sets)
    past = labels.filter(pl.col("session") < date(2019, 1, 1)), features.filter(pl.col("session") < date(2019, 1, 1))
    assert study.ablation_table(past[1], past[0], cutoffs={2018: CUTOFFS[2018]}, inputs=sets).equals(table)
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=3) for frame in (features, labels)]
    assert study.ablation_table(*shuffled, cutoffs={2018: CUTOFFS[2018]}, inputs=sets).equals(table)


def test_a_sample_of_the_features_is_a_sample_of_everything():
    features, labels = inputs()
    some = features.gather_every(3)
    table = study.ablation_table(some, labels, cutoffs=CUTOFFS, inputs={"known": ["known"]})
    same = study.ablation_table(
        some, labels.join(some, on=["ticker", "session"], how="semi"), cutoffs=CUTOFFS, inputs={"known": ["known"]}
    )
    assert table.equals(same)
    assert table["rows"].max() < labels.height / 3


def test_a_year_without_rows_is_named():
    features, labels = inputs()
    with pytest.raises(StockAssetsError, match="no row to score in 2022"):
        study.ablation_table(features, labels, cutoffs={2022: date(2018, 1, 2)}, inputs={"known": ["known"]})
    with pytest.raises(CutoffError, match="was asked to predict 2018"):
        study.ablation_table(features, labels, cutoffs={2018: CUTOFFS[2019]}, inputs={"known": ["known"]})
