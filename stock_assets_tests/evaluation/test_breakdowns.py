from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.evaluation import metrics
from stock_assets.evaluation.breakdowns import REGIMES, by_regime, by_sector, by_ticker, decile_spread
from stock_assets_tests.evaluation.test_metrics import LABELS, PREDICTIONS

SCORED = metrics.scored_rows(PREDICTIONS, LABELS)


def ranked(sessions: int = 40, tickers: int = 20, knowing: float = 0.0, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    shape = sessions, tickers
    returns = rng.normal(0, 0.01, shape)
    days = [date(2020, 1, 1) + timedelta(days=i) for i in range(sessions)]
    return pl.DataFrame(
        {
            "model": ["m"] * returns.size,
            "session": np.repeat(np.array(days, "datetime64[D]"), tickers),
            "ticker": [f"T{i:02d}" for i in range(tickers)] * sessions,
            "score": (knowing * returns + 0.01 * rng.normal(size=shape)).ravel(),
            "forward_return_1": returns.ravel(),
        }
    )


def test_the_spread_equals_a_plain_loop():
    rows = ranked(knowing=0.5)
    spreads, trades, held = [], [], {}
    for _, day in sorted(rows.partition_by("session", as_dict=True).items()):
        order = day.sort("score")["ticker"].to_list()
        returns = dict(zip(day["ticker"], day["forward_return_1"], strict=True))
        weights = dict.fromkeys(order[:2], -0.5) | dict.fromkeys(order[-2:], 0.5)
        spreads.append(sum(weight * returns[ticker] for ticker, weight in weights.items()))
        trades.append(sum(abs(weights.get(t, 0.0) - held.get(t, 0.0)) for t in weights.keys() | held.keys()))
        held = weights
    (found,) = decile_spread(rows).iter_rows(named=True)
    assert found["sessions"] == 40
    assert found["spread"] == pytest.approx(np.mean(spreads))
    assert found["turnover"] == pytest.approx(np.mean(trades))
    assert found["after_costs"] == pytest.approx(np.mean(spreads) - 0.001 * np.mean(trades))
    assert found["t"] == pytest.approx(np.mean(spreads) / np.std(spreads, ddof=1) * np.sqrt(40))
    assert found["spread_low"] < found["spread"] < found["spread_high"]


def test_knowing_tomorrow_pays_and_a_score_that_never_changes_trades_once():
    knowing = decile_spread(ranked(knowing=10.0)).row(0, named=True)
    assert knowing["after_low"] > 0
    still = ranked().with_columns(score=pl.col("ticker").str.slice(1).cast(pl.Float64))
    assert decile_spread(still).row(0, named=True)["turnover"] == pytest.approx(2.0 / 40)


def test_a_score_that_tells_no_two_tickers_apart_and_a_small_market_have_no_spread():
    assert decile_spread(ranked().with_columns(score=pl.lit(0.5))).is_empty()
    assert decile_spread(ranked(tickers=9)).is_empty()


def test_regimes_are_thirds_of_the_sessions_and_add_up_to_the_whole():
    days = SCORED["session"].unique().sort()
    volatility = pl.DataFrame({"session": days, "volatility": np.random.default_rng(0).permutation(len(days))})
    table = by_regime(SCORED, volatility)
    assert table["regime"].unique(maintain_order=True).to_list() == list(REGIMES)
    of_model = table.filter(pl.col("model") == table["model"][0])
    assert of_model["sessions"].max() - of_model["sessions"].min() <= 1  # pyright: ignore[reportOperatorIssue]
    calm = volatility.sort("volatility").head(of_model["sessions"][0])["session"]
    rows = SCORED.filter(pl.col("session").is_in(calm.implode()) & (pl.col("model") == table["model"][0]))
    truth = rows["label"].cast(pl.Int64).to_numpy()
    answer = rows.select("p_sell", "p_hold", "p_buy").to_numpy()
    assert table["log_loss"][0] == pytest.approx(metrics.log_loss(truth, answer))
    assert table["accuracy"][0] == pytest.approx(metrics.accuracy(truth, answer))


def test_tickers_are_scored_one_by_one_the_best_first():
    model = SCORED["model"][0]
    table = by_ticker(SCORED, model)
    assert table["accuracy"].is_sorted(descending=True)
    assert table["rows"].sum() == SCORED.filter(pl.col("model") == model).height
    rows = SCORED.filter((pl.col("model") == model) & (pl.col("ticker") == table["ticker"][0]))
    truth = rows["label"].cast(pl.Int64).to_numpy()
    assert table["accuracy"][0] == pytest.approx(
        metrics.accuracy(truth, rows.select("p_sell", "p_hold", "p_buy").to_numpy())
    )


def test_sectors_pool_the_rows_of_their_tickers():
    model, tickers = SCORED["model"][0], SCORED["ticker"].unique().sort()
    halves = pl.DataFrame({"ticker": tickers, "sector": (["Energy", "Retail"] * len(tickers))[: len(tickers)]})
    one_unknown = halves.with_columns(pl.when(pl.col("ticker") != tickers[0]).then("sector"))
    table = by_sector(SCORED, model, one_unknown)
    assert table["accuracy"].is_sorted(descending=True)
    assert dict(table.select("sector", "tickers").rows()) == {
        "Energy": len(tickers) // 2 - 1,
        "Retail": len(tickers) // 2,
    }
    singles = by_ticker(SCORED, model).join(one_unknown, on="ticker").filter(pl.col("sector") == "Energy")
    energy = table.row(by_predicate=pl.col("sector") == "Energy", named=True)
    assert energy["rows"] == singles["rows"].sum()
    assert energy["accuracy"] == pytest.approx((singles["accuracy"] * singles["rows"]).sum() / singles["rows"].sum())
    assert by_sector(SCORED, model, halves.with_columns(sector=pl.lit(None, pl.String))).is_empty()
