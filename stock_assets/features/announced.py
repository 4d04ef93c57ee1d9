"""The calendar of announcements as a person reads it: what comes, and how far past ones moved a ticker."""

from datetime import date, timedelta

import polars as pl

from stock_assets.features.reactions import RECENT

#: Days ahead of the calendar, and back to the oldest reaction that is listed.
AHEAD, BACK = timedelta(days=45), timedelta(days=760)

ANNOUNCED = pl.Schema(
    {
        "ticker": pl.String,
        "reaction_session": pl.Date,
        "day": pl.Date,
        "moment": pl.String,
        "origin": pl.String,
        "known_from": pl.Date,
        "happened": pl.Boolean,
        "total_return": pl.Float64,
        "residual_return": pl.Float64,
    }
)


def announced_rows(schedule: pl.DataFrame, moves: pl.DataFrame, session: date) -> pl.DataFrame:
    """`ANNOUNCED`, sorted by ticker and reaction_session: of the `schedule` (`side_inputs.schedule`) as it stood at the
    close of `session`, the last RECENT reactions of each ticker and what comes within AHEAD.

    `moves` has ticker, session, total_return and residual_return, the return less the mean of the session's tickers.
    """
    stands = (pl.col("known_from") <= session) & (pl.col("known_until").is_null() | (pl.col("known_until") > session))
    is_near = pl.col("reaction_session").is_between(session - BACK, session + AHEAD)
    rows = schedule.filter(stands & is_near).sort("ticker", "reaction_session")
    rows = rows.with_columns(happened=pl.col("reaction_session") <= session)
    is_listed = ~pl.col("happened") | (pl.int_range(pl.len()).reverse().over("ticker", "happened") < RECENT)
    of_session = moves.select("ticker", "total_return", "residual_return", reaction_session="session")
    return (
        rows.filter(is_listed)
        .join(of_session, on=["ticker", "reaction_session"], how="left", maintain_order="left")
        .select(pl.col(name).cast(dtype) for name, dtype in ANNOUNCED.items())
    )
