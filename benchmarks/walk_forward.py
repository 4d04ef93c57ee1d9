"""How good the models honestly are: every model year trained, every session predicted, the report's own table.

    python -m benchmarks.walk_forward [--context [--lag-vix]]

With --context the models also read ^VIX and ^GSPC (features.market_context), and the report compares with SPY. ^VIX
closes a quarter of an hour after the shares: with --lag-vix each session has the ^VIX of the session before, which was
known long before the close, so that the difference of the two runs is what those minutes are worth.

The whole graph in this process. Each model year learns from labels fully known by the last session of the year before;
scores are means of the yearly ones, intervals from blocks of 21 days.
"""

import argparse
import os
import tempfile
from pathlib import Path

import polars as pl

from benchmarks.common import DATA, PRICES, fill, materialize, preamble, set_workload, table, use
from benchmarks.common import workload_parser as parser_of
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX
from stock_assets.storage.warehouse import Warehouse

#: The indices, in a file of their own.
INDICES = DATA / "index_daily_2009_2026.parquet"
METRICS = ("log_loss", "accuracy", "rank_ic")


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        set_context(options.context, Path(folder, "prices"), lag_vix=options.lag_vix)
        config = use(Path(folder, "store"))
        sessions = calendar_of(config).sessions
        predicted = [session for session in sessions if session.year >= config.model_start_year]
        years = sorted({session.year for session in predicted})
        fill(config, sessions)
        seconds = {
            name: materialize(config, [name], years)  # pyright: ignore[reportArgumentType]
            for name in ("trained_rnn", "trained_baselines", "trained_ensemble")
        }
        seconds["predictions"] = materialize(config, ["predictions"], predicted)
        materialize(config, ["leakage_audit", "evaluation_report"])
        warehouse = Warehouse(config.database)
        scores = warehouse.read("evaluation_report")
        bars = warehouse.read("daily_bars", columns=["ticker", "suspect"])
    print_scores(scores)
    print_left_out(bars)
    print(table(("asset", "seconds"), list(seconds.items())))


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--context", action="store_true", help=f"the market context of {INDICES.name} too")
    parser.add_argument("--lag-vix", action="store_true", help="^VIX of the session before; needs --context")
    options = parser.parse_args()
    if options.lag_vix and not (options.context and PRICES.exists()):
        parser.error(f"--lag-vix shifts the ^VIX of {INDICES.name}; expected --context and {PRICES.name}")
    return options


def print_scores(scores: pl.DataFrame) -> None:
    means = scores.filter(pl.col("year").is_null()).sort("log_loss")
    years = scores["year"].drop_nulls().unique().sort()
    print(f"Means of {years[0]} to {years[-1]}, best log-loss first, with 95 % intervals:\n")
    rows = [
        [
            row["model"],
            row["rows"],
            *(
                "–" if row[name] is None else f"{row[name]:.4f} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
                for name in METRICS
            ),
        ]
        for row in means.iter_rows(named=True)
    ]
    print(table(("model", "rows", *METRICS), rows))
    by_year = scores.filter(pl.col("year").is_not_null()).pivot("year", index="model", values="log_loss")
    by_year = means.select("model").join(by_year, on="model", maintain_order="left")
    print("Log-loss by year:\n")
    print(table(by_year.columns, [[row[0], *(f"{value:.3f}" for value in row[1:])] for row in by_year.rows()]))


def print_left_out(bars: pl.DataFrame) -> None:
    reasons = bars["suspect"].drop_nulls().value_counts().sort("count", descending=True)
    print("Rows left out by reason:", ", ".join(f"{reason} {rows:,}" for reason, rows in reasons.rows()) + ".")
    shares = bars.group_by("ticker").agg(pl.col("suspect").is_not_null().mean().alias("share"))
    rejected = shares.filter(pl.col("share") > 0.5).sort("share", descending=True)
    print("Tickers rejected on most sessions:", ", ".join(f"{t} {s:.0%}" for t, s in rejected.rows()) + ".\n")


def set_context(with_context: bool, folder: Path, *, lag_vix: bool) -> None:
    """Puts prices and indices together into `folder`, a snapshot; of the simulated market only the setting."""
    os.environ[f"{PREFIX}CONTEXT"] = "^VIX,^GSPC,SPY" if with_context else "off"
    if with_context and PRICES.exists():
        folder.mkdir()
        (folder / PRICES.name).symlink_to(PRICES.absolute())
        if lag_vix:
            lagged(pl.read_parquet(INDICES)).write_parquet(folder / INDICES.name)
        else:
            (folder / INDICES.name).symlink_to(INDICES.absolute())
        os.environ[f"{PREFIX}SNAPSHOT"] = str(folder)


def lagged(indices: pl.DataFrame, series: str = "^VIX", clock: str = "SPY") -> pl.DataFrame:
    """`indices` (ticker, date, …) with each session's bar of `series` dated by the session after it.

    The sessions are the dates of `clock`, which trades on every one; a bar of another day, and that of the last
    session, is left out.
    """
    sessions = indices.filter(pl.col("ticker") == clock).select("date").unique().sort("date")
    after = sessions.with_columns(after=pl.col("date").shift(-1)).drop_nulls()
    late = indices.filter(pl.col("ticker") == series).join(after, on="date")
    late = late.with_columns(date="after").select(indices.columns)
    return pl.concat([indices.filter(pl.col("ticker") != series), late])


if __name__ == "__main__":
    preamble()
    main()
