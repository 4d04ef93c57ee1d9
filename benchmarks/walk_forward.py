"""How good the models honestly are: every model year trained, every session predicted, the report's own table.

    python -m benchmarks.walk_forward [--context [--lag-vix]] [--books]

With --context the models also read ^VIX and ^GSPC (features.market_context), and the report compares with SPY. ^VIX
closes a quarter of an hour after the shares: with --lag-vix each session has the ^VIX of the session before, which was
known long before the close, so that the difference of the two runs is what those minutes are worth.

With --books the scores of `rnn`, of the ensemble and of the best naive baseline are traded, each by a long-only and by
a neutral book, and the figures that open their tear sheets are printed.

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
#: The models that are traded; the last is the best naive baseline of these years.
MODELS = ("rnn", "ensemble", "ticker_prior")
#: Figures of a tear sheet that are printed of every book.
OF_BOOKS = (
    "deflated Sharpe ratio",
    "trials",
    "return a year",
    "volatility a year",
    "alpha a year",
    "t of alpha",
    "break-even cost of a trade",
    "mean cost of a trade",
    "Sharpe ratio of the market",
    "Sharpe ratio of equal weights",
)


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        set_context(options.context, Path(folder, "prices"), lag_vix=options.lag_vix)
        if options.books:
            set_books(Path(folder, "books.toml"))
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
        if options.books:
            for name in (["target_weights"], ["fills", "positions", "equity"]):
                seconds[name[0]] = materialize(config, name, predicted)
            for name in ("backtest", "tear_sheet"):
                seconds[name] = materialize(config, [name])
            print_books(warehouse.read("tear_sheet"))
    print_scores(scores)
    print_left_out(bars)
    print(table(("asset", "seconds"), list(seconds.items())))


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--context", action="store_true", help=f"the market context of {INDICES.name} too")
    parser.add_argument("--lag-vix", action="store_true", help="^VIX of the session before; needs --context")
    parser.add_argument("--books", action="store_true", help="trade the scores as well")
    options = parser.parse_args()
    if options.lag_vix and not (options.context and PRICES.exists()):
        parser.error(f"--lag-vix shifts the ^VIX of {INDICES.name}; expected --context and {PRICES.name}")
    return options


def set_books(file: Path) -> None:
    """Puts a long-only and a neutral book of each of MODELS into `file`, and its name into the environment."""
    books = [(f"{model}_{kind}"[:20], kind, model) for model in MODELS for kind in ("long_only", "long_short")]
    file.write_text(
        "".join(f'[[book]]\nname = "{name}"\nkind = "{kind}"\nmodel = "{model}"\n\n' for name, kind, model in books)
    )
    os.environ |= {f"{PREFIX}BOOKS": str(file), f"{PREFIX}PAPER_BOOK": books[0][0]}


def print_books(figures: pl.DataFrame) -> None:
    rows = []
    for (book,), own in figures.partition_by("book", as_dict=True, maintain_order=True).items():
        shown = {row["figure"]: row for row in own.iter_rows(named=True)}
        net = shown["net Sharpe ratio"]
        others = [shown[name]["value"] for name in OF_BOOKS]
        rows.append([book, f"{net['value']:.2f} [{net['low']:.2f}, {net['high']:.2f}]", *(f"{x:.4g}" for x in others)])
    print(table(("book", "net Sharpe ratio", *OF_BOOKS), rows))


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
