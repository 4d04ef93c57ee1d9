"""What has to hold of the rows that a book's steps made: the limits of its targets, and the sum of its ledger."""

from collections.abc import Mapping, Sequence

import polars as pl

from stock_assets.trading.books import Book

#: Above a limit by rounding alone.
ROUNDING = 1e-9
#: How far prices may carry a position or the gross above its limit before a person should look.
DRIFT_OF_POSITION, DRIFT_OF_GROSS = 1.5, 1.2
#: A gross Sharpe ratio a session above it is too good to be honest, over so many sessions or more. The best that the
#: simulated market allows is 0.42, with its laws known and at no cost; 0.6 is 9.5 a year.
HONEST_SHARPE, FEWEST_JUDGED = 0.6, 60
#: Half a cent, and what 1e15 of equity cannot hold of it.
CENT, OF_EQUITY = 0.005, 1e-9


def above_limits(targets: pl.DataFrame, sectors: pl.DataFrame, books: Sequence[Book]) -> pl.DataFrame:
    """book, session, limit, found, allowed: where rows of target_weights are above a limit of their book.

    `sectors` has ticker and sector, one row a ticker; those without a sector are one of their own. What is held in a
    sector has no target and may be the other side of its net: it counts with the limit of a position.
    """
    rows = targets.join(sectors, on="ticker", how="left").with_columns(pl.col("sector").fill_null(""))
    size = pl.col("weight").abs()
    limits = [(book.name, book.limits.position) for book in books]
    position = pl.DataFrame(limits, {"book": pl.String, "position": pl.Float64}, orient="row")
    by_sector = rows.group_by("book", "session", "sector").agg(
        pl.col("weight").sum(), held=pl.col("weight").is_null().sum()
    )
    net = by_sector.join(position, on="book").with_columns(found=size - pl.col("held") * pl.col("position"))
    figures_of_limits = {
        "position": rows.group_by("book", "session").agg(found=size.max()),
        "gross": rows.group_by("book", "session").agg(found=size.sum()),
        "sector_net": net.group_by("book", "session").agg(pl.col("found").max()),
    }
    return _above(figures_of_limits, books, {"position": 1.0, "gross": 1.0, "sector_net": 1.0})


def drifted(rows: Mapping[str, pl.DataFrame], books: Sequence[Book]) -> pl.DataFrame:
    """book, session, limit, found, allowed: where positions or the gross are further above their limit than
    DRIFT_OF_POSITION and DRIFT_OF_GROSS allow. `rows` are those of positions and equity."""
    positions, equity = rows["positions"], rows["equity"]
    figures_of_limits = {
        "position": positions.group_by("book", "session").agg(found=pl.col("weight").abs().max()),
        "gross": equity.select("book", "session", found=pl.col("long") + pl.col("short")),
    }
    return _above(figures_of_limits, books, {"position": DRIFT_OF_POSITION, "gross": DRIFT_OF_GROSS})


def _above(
    figures_of_limits: Mapping[str, pl.DataFrame], books: Sequence[Book], drift: Mapping[str, float]
) -> pl.DataFrame:
    parts = [
        pl.DataFrame(schema={"book": pl.String, "session": pl.Date, "limit": pl.String, "found": pl.Float64}),
        *(
            rows.select("book", "session", pl.lit(limit).alias("limit"), "found")
            for limit, rows in figures_of_limits.items()
        ),
    ]
    limit_rows = [
        (book.name, limit, getattr(book.limits, limit) * drift[limit]) for book in books for limit in figures_of_limits
    ]
    limits = pl.DataFrame(limit_rows, {"book": pl.String, "limit": pl.String, "allowed": pl.Float64}, orient="row")
    rows = pl.concat(parts).join(limits, on=["book", "limit"])
    return rows.filter(pl.col("found") > pl.col("allowed") + ROUNDING).sort("book", "session", "limit")


def too_good(returns: pl.DataFrame) -> pl.DataFrame:
    """book, sessions, sharpe, allowed: the books whose gross returns a session suggest that a score has seen them.

    `returns` has book, session and gross_return. A book with fewer than FEWEST_JUDGED returns is not judged.
    """
    gross = pl.col("gross_return").drop_nulls()
    by_book = returns.group_by("book").agg(sessions=gross.len(), sharpe=gross.mean() / gross.std())
    long_books = by_book.filter(pl.col("sessions") >= FEWEST_JUDGED, pl.col("sharpe").is_finite())
    return long_books.filter(pl.col("sharpe") > HONEST_SHARPE).with_columns(allowed=HONEST_SHARPE).sort("book")


def unexplained(equity: pl.DataFrame) -> pl.DataFrame:
    """book, session, change, explained: the rows of equity whose change is not the sum of its parts, to half a cent."""
    gains = pl.sum_horizontal("price_gain", "dividend", "ending", "interest")
    explained_change = gains - pl.sum_horizontal("spread", "impact", "commission", "borrow")
    change = pl.col("equity") * pl.col("net_return") / (1 + pl.col("net_return"))
    rows = equity.filter(pl.col("net_return") > -1).select(
        "book", "session", "equity", change=change, explained=explained_change
    )
    tolerance = CENT + OF_EQUITY * pl.col("equity").abs()
    differs = (pl.col("change") - pl.col("explained")).abs() > tolerance
    return rows.filter(differs).drop("equity").sort("book", "session")
