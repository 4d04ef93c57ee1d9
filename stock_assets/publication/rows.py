"""The rows of the files of a session: what was predicted and what was left out and why, the bars, what came true."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from stock_assets.frames import KEYS
from stock_assets.publication.tables import BARS_FILE, OUTCOMES_FILE, PREDICTIONS_FILE

#: What the reason of a ticker that is left out begins with, before a colon.
NO_BAR, SUSPECT, NO_MEMBER, MISSING_HISTORY = "no_bar", "suspect", "no_member", "missing_history"


def prediction_rows(predictions: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    """`PREDICTIONS_FILE` with `session`, sorted by session, ticker and model.

    `predictions` are rows of the table of that name, `left_out` those of `left_out_rows`.
    """
    predictions_in_order = predictions.sort(
        "session", "model", "score", "ticker", descending=[False, False, True, False]
    ).with_columns(
        rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("session", "model"), status=pl.lit("predicted")
    )
    rows = pl.concat([predictions_in_order, left_out.with_columns(status=pl.lit("left_out"))], how="diagonal")
    return _file_rows(PREDICTIONS_FILE.schema, rows, "ticker", "model")


def expected_tickers(universe: pl.DataFrame, bars: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """ticker, session of the members of the `universe` on each of `sessions`, and of whatever has one of the `bars`."""
    days = pl.DataFrame({"session": list(sessions)}, {"session": pl.Date})
    since = (pl.col("from_session") <= pl.col("session")).fill_null(value=True)
    until = (pl.col("session") <= pl.col("to_session")).fill_null(value=True)
    members = universe.join(days, how="cross").filter(since & until).select(KEYS)
    return pl.concat([members, bars.select(KEYS)]).unique()


def left_out_rows(
    expected: pl.DataFrame,
    predictions: pl.DataFrame,
    *,
    bars: pl.DataFrame,
    outcomes: pl.DataFrame,
    features: pl.DataFrame,
    lookback_rows: int,
    members_only: bool,
) -> pl.DataFrame:
    """ticker, session, reason of the `expected` rows that are not in `predictions` (both ticker, session).

    `bars` are rows of daily_bars, `outcomes` of fetch_outcomes, `features` the ticker and session of the rows of
    stationary_features, of which the model in service reads the last `lookback_rows` of a ticker. The reason begins
    with one of the words above and a colon.
    """
    absent_rows = expected.join(predictions, on=KEYS, how="anti")
    stretches = absent_rows.join(outcomes.select("ticker", "first", "last", "outcome", "reason"), on="ticker").filter(
        pl.col("session").is_between("first", "last")
    )
    why_no_bar = stretches.sort("first").group_by(KEYS).agg(pl.col("outcome", "reason").last())
    marked_rows = (
        absent_rows.join(bars.select(*KEYS, "suspect", "is_member", bar=pl.lit(value=True)), on=KEYS, how="left")
        .join(why_no_bar, on=KEYS, how="left")
        .join(features.select(KEYS).unique().with_columns(featured=pl.lit(value=True)), on=KEYS, how="left")
    )
    without_bar = pl.when(pl.col("outcome").is_null()).then(pl.lit("no bar of the session"))
    without_bar = without_bar.otherwise(pl.concat_str("outcome", "reason", separator=", ", ignore_nulls=True))
    reason = (
        pl.when(pl.col("bar").is_null())
        .then(pl.format(f"{NO_BAR}: {{}}", without_bar))
        .when(pl.lit(members_only) & ~pl.col("is_member"))
        .then(pl.lit(f"{NO_MEMBER}: the universe does not hold it on that session"))
        .when(pl.col("suspect").is_not_null())
        .then(pl.format(f"{SUSPECT}: {{}}", pl.col("suspect")))
        .when(pl.col("featured").is_null())
        .then(pl.lit(f"{MISSING_HISTORY}: too few bars, or too many missing ones, for its features"))
        .otherwise(pl.lit(f"{MISSING_HISTORY}: fewer than {lookback_rows} rows of features without a gap"))
    )
    return marked_rows.select(*KEYS, reason=reason)


def bar_rows(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """`BARS_FILE` with `session`, sorted by session and ticker: rows of daily_bars with the company of `universe`.

    A figure that is not finite, as a suspect bar may hold, is null.
    """
    companies = universe.sort("from_session").unique("ticker", keep="last").select("ticker", "name", "sector")
    figures = [name for name, dtype in BARS_FILE.schema.items() if dtype.is_float()]
    finite = (pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in figures)
    return _file_rows(BARS_FILE.schema, bars.join(companies, on="ticker", how="left").with_columns(finite), "ticker")


def outcome_rows(labels: pl.DataFrame, usable: pl.DataFrame) -> pl.DataFrame:
    """`OUTCOMES_FILE` with `session`, sorted by session and ticker: known `labels`, and which of them are `usable`."""
    marked_labels = labels.join(usable.select(*KEYS, usable=pl.lit(value=True)), on=KEYS, how="left")
    return _file_rows(
        OUTCOMES_FILE.schema, marked_labels.with_columns(pl.col("usable").fill_null(value=False)), "ticker"
    )


def _file_rows(schema: pl.Schema, rows: pl.DataFrame, *keys: str) -> pl.DataFrame:
    columns = [pl.col(name).cast(dtype) for name, dtype in schema.items()]
    return rows.select("session", *columns).sort("session", *keys)
