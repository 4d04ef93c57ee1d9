"""How good the models honestly are: every model year trained, every session predicted, the report's own table.

    python -m benchmarks.walk_forward [--context [--lag-vix]] [--announcements FILE [--notice DAYS]] [--books]
        [--against STORE [--variants N]]

With --context the models also read ^VIX and ^GSPC (features.market_context), and the report compares with SPY. ^VIX
closes a quarter of an hour after the shares: with --lag-vix each session has the ^VIX of the session before, which was
known long before the close, so that the difference of the two runs is what those minutes are worth.

With --announcements the models also read the dates of a file (columns ticker, date, when): coming ones as known
--notice days ahead, or not before they happened where that is 0, when last year's dates are repeated 364 days later.

With --against `rnn` is compared with that of another store, on the rows that both predict: paired differences of the
means of the yearly scores. --variants says among how many the setting was chosen on these years: the interval is as
wide as that many comparisons at once ask for (Bonferroni).

With --books the scores of `rnn`, of the ensemble and of the best naive baseline are traded, each by a long-only and by
a neutral book, and the figures that open their tear sheets are printed.

Each run of the graph in a process of its own, as Dagster's are. Each model year learns from labels fully known by the
last session of the year before; scores are means of the yearly ones, intervals from blocks of 21 days.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.common import DATA, PRICES, fill, materialize, preamble, set_workload, table, use
from benchmarks.common import workload_parser as parser_of
from benchmarks.judging import peak_memory
from stock_assets.evaluation.bootstrap import BLOCK, DRAWS, drawn_sessions
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX
from stock_assets.storage.warehouse import Warehouse

#: The indices, in a file of their own.
INDICES = DATA / "index_daily_2009_2026.parquet"
METRICS = ("log_loss", "accuracy", "rank_ic")
PROBABILITIES = ("p_sell", "p_hold", "p_buy")
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
        set_announcements(options.announcements, options.notice)
        if options.books:
            set_books(Path(folder, "books.toml"))
        config = use(Path(folder, "store"))
        sessions = calendar_of(config).sessions
        predicted_sessions = [session for session in sessions if session.year >= config.model_start_year]
        years = sorted({session.year for session in predicted_sessions})
        stages = {"daily chain, labels, components": in_own_process(fill, config, sessions)}
        for name in ("trained_rnn", "trained_baselines", "trained_ensemble"):
            stages[name] = in_own_process(materialize, config, [name], years)
        stages["predictions"] = in_own_process(materialize, config, ["predictions"], predicted_sessions)
        for name in ("leakage_audit", "evaluation_report"):
            stages[name] = in_own_process(materialize, config, [name])
        warehouse = Warehouse(config.database)
        scores = warehouse.read("evaluation_report")
        bars = warehouse.read("daily_bars", columns=["ticker", "suspect"])
        if options.against:
            rows_of_stores = [scored_rows(Warehouse(store)) for store in (config.database, options.against)]
            print(compared(*rows_of_stores, variants=options.variants))
        if options.books:
            for name in (["target_weights"], ["fills", "positions", "equity"]):
                stages[name[0]] = in_own_process(materialize, config, name, predicted_sessions)
            for name in ("backtest", "tear_sheet"):
                stages[name] = in_own_process(materialize, config, [name])
            print_books(warehouse.read("tear_sheet"))
    print_scores(scores)
    print_left_out(bars)
    rows = [(name, stage.seconds, stage.peak / 2**30) for name, stage in stages.items()]
    print(table(("asset", "seconds", "peak memory of its process, GiB"), rows))


class Stage(NamedTuple):
    """What one run took."""

    seconds: float
    """without the start of its process"""
    peak: int
    """bytes: the highest resident memory of its process"""


def in_own_process(run: Callable[..., float], *arguments: object) -> Stage:
    """Calls `run`, which returns its seconds, in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_stage, run, *arguments).result()


def _stage(run: Callable[..., float], *arguments: object) -> Stage:
    return Stage(run(*arguments), peak_memory())


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--context", action="store_true", help=f"the market context of {INDICES.name} too")
    parser.add_argument("--lag-vix", action="store_true", help="^VIX of the session before; needs --context")
    add_announcements(parser)
    parser.add_argument("--against", type=Path, metavar="STORE", help="compare rnn with that of this DuckDB file")
    parser.add_argument("--variants", type=int, default=1, metavar="N", help="compared on these years (default: 1)")
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
        row_of_figure = {row["figure"]: row for row in own.iter_rows(named=True)}
        net = row_of_figure["net Sharpe ratio"]
        others = [row_of_figure[name]["value"] for name in OF_BOOKS]
        rows.append([book, f"{net['value']:.2f} [{net['low']:.2f}, {net['high']:.2f}]", *(f"{x:.4g}" for x in others)])
    print(table(("book", "net Sharpe ratio", *OF_BOOKS), rows))


def add_announcements(parser: argparse.ArgumentParser) -> None:
    """The options that `set_announcements` takes."""
    parser.add_argument("--announcements", type=Path, metavar="FILE", help="dates of announcements (default: none)")
    parser.add_argument("--notice", type=int, default=14, metavar="DAYS", help="known so long ahead (default: 14)")


def set_announcements(file: Path | None, notice: int) -> None:
    if file is not None:
        os.environ |= {f"{PREFIX}ANNOUNCEMENTS": str(file.absolute()), f"{PREFIX}ANNOUNCEMENT_NOTICE": str(notice)}


def scored_rows(store: Warehouse) -> pl.DataFrame:
    """ticker, session, label, forward_return_1, p_sell, p_hold, p_buy of the predictions of `rnn` with a label."""
    labels = store.read("labels", columns=[*KEYS, "label", "forward_return_1"])
    predictions = store.read("predictions", columns=[*KEYS, "model", *PROBABILITIES]).filter(pl.col("model") == "rnn")
    return predictions.drop("model").join(labels, on=KEYS)


def compared(own_rows: pl.DataFrame, other_rows: pl.DataFrame, *, variants: int) -> str:
    """The table of METRICS of both `scored_rows` on the rows that both have, and the differences with intervals.

    Means of the yearly scores; sessions are drawn in blocks within their year, the same ones for both.
    """
    joint_rows = own_rows.join(other_rows.select(*KEYS, *PROBABILITIES), on=KEYS, suffix="_theirs")
    sessions = pl.concat(
        [
            _by_session(joint_rows, PROBABILITIES).with_columns(whose=pl.lit("ours")),
            _by_session(joint_rows, [f"{name}_theirs" for name in PROBABILITIES]).with_columns(whose=pl.lit("theirs")),
        ]
    ).sort("session")
    draws, tail = DRAWS * max(1, variants // 10), 0.025 / variants
    generator, means, samples = np.random.default_rng(0), [], []
    for _, year in sessions.group_by(pl.col("session").dt.year(), maintain_order=True):
        parts_of_year = [year.filter(pl.col("whose") == whose) for whose in ("ours", "theirs")]
        # a session counts by its rows, but for the rank IC
        values = np.array([[part[name].to_numpy() for name in METRICS] for part in parts_of_year])  # [2, 3, T]
        rows = parts_of_year[0]["rows"].to_numpy()
        weights = np.array([rows, rows, np.ones_like(rows)], float)
        draws_of_sessions = drawn_sessions(generator, values.shape[2], BLOCK, draws=draws)
        means.append((values * weights).sum(axis=2) / weights.sum(axis=1))
        samples.append(
            (values * weights)[:, :, draws_of_sessions].sum(axis=3) / weights[:, draws_of_sessions].sum(axis=2)
        )
    mean, sample = np.mean(means, axis=0), np.mean(samples, axis=0)  # [2, 3], [2, 3, draws]
    low, high = np.quantile(sample[0] - sample[1], [tail, 1 - tail], axis=1)
    lines = [["ours", *(f"{value:.4f}" for value in mean[0])], ["against", *(f"{value:.4f}" for value in mean[1])]]
    difference = zip(mean[0] - mean[1], low, high, strict=True)
    lines.append(["difference", *(f"{value:.4f} [{below:.4f}, {above:.4f}]" for value, below, above in difference)])
    return f"`rnn` on {joint_rows.height:,} rows of both stores:\n\n" + table(("", *METRICS), lines)


def _by_session(rows: pl.DataFrame, probabilities: Sequence[str]) -> pl.DataFrame:
    """session, rows and METRICS of each session."""
    sell, hold, buy = (pl.col(name) for name in probabilities)
    of_label = pl.when(pl.col("label") == 1).then(buy).when(pl.col("label") == 0).then(hold).otherwise(sell)
    best = pl.concat_list(sell, hold, buy).list.arg_max().cast(pl.Int64) - 1
    return rows.group_by("session").agg(
        rows=pl.len(),
        log_loss=-of_label.log().mean(),
        accuracy=(best == pl.col("label")).mean(),
        rank_ic=pl.corr(buy - sell, "forward_return_1", method="spearman").fill_nan(0.0),
    )


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
    rejected_shares = shares.filter(pl.col("share") > 0.5).sort("share", descending=True)
    print("Tickers rejected on most sessions:", ", ".join(f"{t} {s:.0%}" for t, s in rejected_shares.rows()) + ".\n")


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
    late_rows = indices.filter(pl.col("ticker") == series).join(after, on="date")
    late_rows = late_rows.with_columns(date="after").select(indices.columns)
    return pl.concat([indices.filter(pl.col("ticker") != series), late_rows])


if __name__ == "__main__":
    preamble()
    main()
