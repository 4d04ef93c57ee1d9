"""What it changes to judge by the tickers that are still members today, instead of those that were members then."""

from collections.abc import Collection
from datetime import date

import polars as pl

from stock_assets.evaluation.metrics import BLOCK, block_bootstrap, daily_rank_ic


def survivors(universe: pl.DataFrame, last: date) -> list[str]:
    """The tickers of `universe` (`UNIVERSE_SCHEMA`) that are members on session `last`."""
    stays = (pl.col("from_session") <= last) & (pl.col("to_session").is_null() | (pl.col("to_session") >= last))
    return universe.filter(stays)["ticker"].unique().sort().to_list()


def survivorship(
    scored: pl.DataFrame, bars: pl.DataFrame, model: str, survived: Collection[str], seed: int = 0
) -> pl.DataFrame:
    """score, then, now, difference, low, high: log-loss, accuracy and rank IC of `model`, and the mean daily return.

    Each is the mean over the sessions of that session's mean. `then` is over the rows of members of the session,
    `now` over those of the tickers that `survived` alone, `difference` is now less then, with its 95 % interval from
    blocks of days. The scores are of `scored` (`metrics.scored_rows`), whose rows are all of members; the return
    (fraction) is of `bars` (ticker, session, total_return, is_member) on the sessions of `scored`, so that a ticker
    that survived counts before it joined, too: what a backtest of today's list earns. A suspect bar has to be left
    out before. One row per score that both have; empty where every row is of a survivor.
    """
    rows = scored.filter(pl.col("model") == model)
    kept = rows.filter(pl.col("ticker").is_in(survived))
    days = bars.filter(pl.col("session").is_in(rows["session"].unique().implode()), pl.col("total_return").is_finite())
    then, now = days.filter("is_member"), days.filter(pl.col("ticker").is_in(survived))
    if kept.height == rows.height and then.height == now.height:
        return pl.DataFrame(schema=_SCHEMA)

    def mean(frame: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
        return frame.group_by("session").agg(value.mean().alias("value"))

    hit = (pl.col("predicted") == pl.col("label")).cast(pl.Float64)
    ic = [daily_rank_ic(frame).select("session", value="rank_ic").drop_nulls() for frame in (rows, kept)]
    pairs = {
        "log_loss": (mean(rows, pl.col("surprise")), mean(kept, pl.col("surprise"))),
        "accuracy": (mean(rows, hit), mean(kept, hit)),
        "rank_ic": (ic[0], ic[1]),
        "daily_return": (mean(then, pl.col("total_return")), mean(now, pl.col("total_return"))),
    }
    table = []
    for name, (before, after) in pairs.items():
        both = before.join(after, on="session", suffix="_now").sort("session")
        difference = (both["value_now"] - both["value"]).to_numpy()
        if interval := block_bootstrap(difference, BLOCK, seed):
            means = both["value"].mean(), both["value_now"].mean(), float(difference.mean())
            table.append((name, *means, *interval))
    return pl.DataFrame(table, schema=_SCHEMA, orient="row")


_SCHEMA = {"score": pl.String, **dict.fromkeys(("then", "now", "difference", "low", "high"), pl.Float64)}
