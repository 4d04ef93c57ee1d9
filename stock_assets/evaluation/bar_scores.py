"""How good predictions of bars within the session were: squared errors, log-loss, rank IC, and what acting would earn.

Labels of neighbouring bars share all but one of their bars, and the bars of a day have its volatility in common. So
every interval is of whole days, drawn with replacement, and never of rows. Models are compared on the rows that all of
them predicted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.evaluation.metrics import RANKED_BY, best_naive, most_probable, require_proper
from stock_assets.frames import BAR_KEYS, PROBABILITIES, surprise

#: A bar with fewer tickers than this has no rank correlation.
SMALLEST_CROSS_SECTION = 5
#: What one side of a trade costs, half the spread and fees together: the taker's fee of a large crypto exchange.
SPREAD_PER_SIDE = 0.0005
#: The scores that have an interval.
SCORES = ("mse_ratio", "log_loss", "log_loss_gain", "accuracy", "rank_ic", "gross", "net", "turnover")


def scored_bars(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The rows with a label that all models predicted, with `label`, `future_return`, `predicted` (int8) and `surprise`
    (-ln p(label), nats); sorted by model and BAR_KEYS.

    `predictions` has model, trained_through (a moment), BAR_KEYS, expected_return, p_sell, p_hold, p_buy and score;
    `labels` are rows of the table `bar_labels`.

    Raises StockAssetsError for probabilities that are no probabilities, for a row that comes twice, and where no row is
    left; CutoffError for a prediction by a model that was trained through the end of its bar or later.
    """
    late_predictions = predictions.filter(pl.col("trained_through") >= pl.col("bar_end"))
    if not late_predictions.is_empty():
        row = late_predictions.row(0, named=True)
        raise CutoffError(
            f"{row['model']} predicted {row['ticker']} at {row['bar_end']} though trained through "
            f"{row['trained_through']}; expected a cutoff before the end of the bar"
        )
    common_labels = (
        labels.drop_nulls(["label", "future_return"]).select(*BAR_KEYS, "label", "future_return").sort(BAR_KEYS)
    )
    columns, of_models = ["model", *BAR_KEYS, "expected_return", *PROBABILITIES, "score"], []
    for own in _by_model(predictions.select(columns)):  # a month of minutes is millions of rows of each
        require_proper(own, BAR_KEYS)
        common_labels = common_labels.join(own, on=BAR_KEYS, how="semi", maintain_order="left")
        of_models.append(own)
    if common_labels.is_empty():
        raise StockAssetsError(
            f"none of {predictions.height} prediction(s) is of a bar with a label that all {len(of_models)} model(s) "
            "predicted; expected predictions of bars whose horizon is over"
        )
    rows = (common_labels.join(own, on=BAR_KEYS, maintain_order="left") for own in of_models)
    return pl.concat(own.with_columns(predicted=most_probable(), surprise=surprise()) for own in rows)


def _by_model(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """`rows` of each model, in the order of their names."""
    for model in rows["model"].unique().sort():
        yield rows.filter(pl.col("model") == model)


def by_day(scored_predictions: pl.DataFrame, *, horizon_bars: int, spread: float = SPREAD_PER_SIDE) -> pl.DataFrame:
    """One row per model and session, sorted by them: rows, surprise (mean), hit (share), squared_error and
    squared_return (sums), rank_ic, turnover, gross and net.

    `scored_predictions` is that of `scored_bars`. `rank_ic` is the mean over the session's bars of Spearman's
    correlation of score and future_return, null where no bar has SMALLEST_CROSS_SECTION tickers.

    **What acting earns.** At every bar the sign of the score takes a position of 1 / horizon of the capital of its
    ticker, which earns `future_return` and is given up after the horizon; what is held is the sum of the last
    `horizon_bars` of them, so that opposite ones cancel. `turnover` is the sum of the changes of what is held over the
    capital, that of giving up the last ones included; `net` is `gross` less `spread` (a fraction of the price, per
    side) times the turnover. Returns are added up, not compounded, and averaged over the tickers of the session.
    """
    return pl.concat(_days(own, horizon_bars, spread) for own in _by_model(scored_predictions)).sort("model", "session")


def _days(own: pl.DataFrame, horizon_bars: int, spread: float) -> pl.DataFrame:
    """`by_day` of one model."""
    side, position = pl.col("score").sign(), pl.col("held")
    rows = own.with_columns(
        side=side, held=side.rolling_sum(horizon_bars, min_samples=1).over("ticker") / horizon_bars
    ).with_columns(
        change=(position - position.shift(fill_value=0.0).over("ticker")).abs(),
        given_up=pl.when(pl.int_range(pl.len()).over("ticker") == pl.len().over("ticker") - 1).then(position.abs()),
    )
    tickers = pl.col("ticker").n_unique()
    days = rows.group_by("model", "session", maintain_order=True).agg(
        rows=pl.len(),
        surprise=pl.col("surprise").mean(),
        hit=(pl.col("predicted") == pl.col("label")).mean(),
        squared_error=((pl.col("expected_return") - pl.col("future_return")) ** 2).sum(),
        squared_return=(pl.col("future_return") ** 2).sum(),
        turnover=(pl.col("change").sum() + pl.col("given_up").sum()) / tickers,
        gross=(pl.col("side") * pl.col("future_return")).sum() / horizon_bars / tickers,
    )
    return days.with_columns(net=pl.col("gross") - spread * pl.col("turnover")).join(
        _rank_ic(own), on=["model", "session"], how="left"
    )


def _rank_ic(scored_predictions: pl.DataFrame) -> pl.DataFrame:
    """model, session, rank_ic"""
    of_bar = scored_predictions.group_by("model", "session", "bar_end", maintain_order=True).agg(
        tickers=pl.len(), ic=pl.corr("score", "future_return", method="spearman")
    )
    is_large_enough = (pl.col("tickers") >= SMALLEST_CROSS_SECTION) & pl.col("ic").is_finite()
    return of_bar.group_by("model", "session", maintain_order=True).agg(
        rank_ic=pl.col("ic").filter(is_large_enough).mean()
    )


def bar_score_table(days: pl.DataFrame, naive: Sequence[str], *, seed: int = 0) -> pl.DataFrame:
    """One row per model, the lowest log-loss first: model, days, rows, and each of SCORES with `_low` and `_high`.

    `days` is that of `by_day`, `naive` are the models that skill is measured against. `mse_ratio` is the squared error
    over that of predicting no change; `log_loss` is in nats, and `log_loss_gain` what the best naive model of these
    rows loses more (null where there is none); gross, net and turnover are those of a day, over the capital. Intervals
    hold 95 % of a bootstrap of whole days, all models on the same draws. Null where there is nothing to score.
    """
    means = days.group_by("model").agg(log_loss=(pl.col("surprise") * pl.col("rows")).sum() / pl.col("rows").sum())
    best = best_naive(means, naive)
    yardstick = days.filter(pl.col("model") == best["model"]) if best else days.clear()
    days = days.join(yardstick.select("session", yardstick="surprise"), on="session", how="left").sort(
        "model", "session"
    )
    table = [
        {"model": model, "days": own.height, "rows": int(own["rows"].sum())} | _scores(own, seed)
        for (model,), own in days.partition_by("model", as_dict=True, maintain_order=True).items()
    ]
    ends = [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
    schema = {"model": pl.String, "days": pl.Int64, "rows": pl.Int64} | dict.fromkeys(ends, pl.Float64)
    return pl.DataFrame(table, schema=schema).sort(RANKED_BY, "model")


def _scores(own: pl.DataFrame, seed: int) -> dict[str, float | None]:
    """Each of SCORES of one model, and its interval: weighted means of daily values."""
    rows, base = own["rows"].cast(pl.Float64).to_numpy(), own["squared_return"].to_numpy()
    ratio = np.divide(own["squared_error"].to_numpy(), base, out=np.full_like(base, np.nan), where=base > 0)
    even = np.ones_like(rows)
    daily = {
        "mse_ratio": (ratio, base),
        "log_loss": (_numbers(own["surprise"]), rows),
        "log_loss_gain": (_numbers(own["yardstick"] - own["surprise"]), rows),
        "accuracy": (_numbers(own["hit"]), rows),
        **{name: (_numbers(own[name]), even) for name in ("rank_ic", "gross", "net", "turnover")},
    }
    scores: dict[str, float | None] = {}
    for name in SCORES:
        values, weights = daily[name]
        is_number = ~np.isnan(values)
        span = block_bootstrap(values, 1, seed, weights=weights)
        scores[name] = float(np.average(values[is_number], weights=weights[is_number])) if is_number.any() else None
        scores[f"{name}_low"], scores[f"{name}_high"] = span or (None, None)
    return scores


def _numbers(values: pl.Series) -> np.ndarray:
    """float64, NaN for null"""
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()
