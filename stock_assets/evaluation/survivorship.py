"""Survivorship bias: what changes when a model is judged on today's members instead of the members of each session."""

from collections.abc import Collection
from datetime import date

import polars as pl

from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap
from stock_assets.evaluation.metrics import daily_rank_ic


def members_at_the_end(universe: pl.DataFrame, last: date) -> list[str]:
    """The tickers of `universe` (`UNIVERSE_SCHEMA`) that are members on session `last`."""
    stays = (pl.col("from_session") <= last) & (pl.col("to_session").is_null() | (pl.col("to_session") >= last))
    return universe.filter(stays)["ticker"].unique().sort().to_list()


def survivorship(
    scored_predictions: pl.DataFrame, bars: pl.DataFrame, model: str, *, survivors: Collection[str], seed: int = 0
) -> pl.DataFrame:
    """score, then, now, difference, low, high: log-loss, accuracy and rank IC of `model`, and the mean daily return.

    Each is the mean over the sessions of that session's mean. `then` is over the rows of the members of each session,
    `now` over those of the `survivors` alone, `difference` is now less then, with its 95 % interval from blocks of
    days. The scores are of `scored_predictions` (`metrics.scored_rows`), whose rows are all of members. The return
    (fraction) is of `bars` (ticker, session, total_return, is_member) on the sessions of `scored_predictions`; there a
    survivor counts before it joined, too, as in a backtest of today's list. Leave suspect bars out before. One row per
    score that both sides have; empty where every row is of a survivor.
    """
    rows = scored_predictions.filter(pl.col("model") == model)
    rows_of_survivors = rows.filter(pl.col("ticker").is_in(survivors))
    days = bars.filter(pl.col("session").is_in(rows["session"].unique().implode()), pl.col("total_return").is_finite())
    then, now = days.filter("is_member"), days.filter(pl.col("ticker").is_in(survivors))
    if rows_of_survivors.height == rows.height and then.height == now.height:
        return pl.DataFrame(schema=_SCHEMA)
    hit = (pl.col("predicted") == pl.col("label")).cast(pl.Float64)
    ic = [daily_rank_ic(frame).select("session", value="rank_ic").drop_nulls() for frame in (rows, rows_of_survivors)]
    pairs = {
        "log_loss": (_by_session(rows, pl.col("surprise")), _by_session(rows_of_survivors, pl.col("surprise"))),
        "accuracy": (_by_session(rows, hit), _by_session(rows_of_survivors, hit)),
        "rank_ic": (ic[0], ic[1]),
        "daily_return": (_by_session(then, pl.col("total_return")), _by_session(now, pl.col("total_return"))),
    }
    table = []
    for name, (before, after) in pairs.items():
        joint_values = before.join(after, on="session", suffix="_now").sort("session")
        difference = (joint_values["value_now"] - joint_values["value"]).to_numpy()
        if interval := block_bootstrap(difference, BLOCK, seed):
            means = joint_values["value"].mean(), joint_values["value_now"].mean(), float(difference.mean())
            table.append((name, *means, *interval))
    return pl.DataFrame(table, schema=_SCHEMA, orient="row")


def _by_session(rows: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    """session, value: the mean of `value` over the rows of each session."""
    return rows.group_by("session").agg(value.mean().alias("value"))


_SCHEMA = {"score": pl.String, **dict.fromkeys(("then", "now", "difference", "low", "high"), pl.Float64)}
