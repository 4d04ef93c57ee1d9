"""What a finding about a vendor's figures is, and which findings are new."""

from datetime import datetime

import polars as pl

from stock_assets.frames import KEYS
from stock_assets.market.tables import QUARANTINE_SCHEMA
from stock_assets.tables import UTC_TIME

#: The kinds of findings after which a bar is not trusted although its figures are repaired: `suspect` is vendor_error.
#: Of adjustments those that leave open which figure is right, that is, are not repaired.
CONTRADICTING = ("unit", "dividend", "split")
#: Two closes that differ by less, as a fraction, are the same.
SAME_CLOSE = 1e-6
_NAMED_BY = [*KEYS, "kind", "column", "found", "expected"]


def finding(
    kind: str, column: str, *, figure: pl.Expr, expected: pl.Expr | None = None, repaired: bool
) -> list[pl.Expr]:
    """The columns of a finding (`QUARANTINE_SCHEMA` without seen_at), to be selected from the rows that it is about.

    `expected` is None where the vendor's other figures imply none.
    """
    expected_figure = pl.lit(None, pl.Float64) if expected is None else expected.cast(pl.Float64)
    return [
        *map(pl.col, KEYS),
        pl.lit(kind).alias("kind"),
        pl.lit(column).alias("column"),
        figure.cast(pl.Float64).alias("found"),
        expected_figure.alias("expected"),
        pl.lit(repaired).alias("repaired"),
    ]


def no_findings() -> pl.DataFrame:
    """No row of `QUARANTINE_SCHEMA` without seen_at."""
    return QUARANTINE_SCHEMA.to_frame().drop("seen_at")


def with_contradicted(bars: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """`bars` with `contradicted` (Boolean): whether one of `findings`, CONTRADICTING it, is about the bar."""
    open_adjustment = (pl.col("kind") == "adjustment") & ~pl.col("repaired")
    of_bars = findings.filter(pl.col("kind").is_in(CONTRADICTING) | open_adjustment)
    if of_bars.is_empty():
        return bars.with_columns(contradicted=pl.lit(value=False))
    keys = of_bars.select(*KEYS, contradicted=pl.lit(value=True)).unique()
    rows = bars.join(keys, on=KEYS, how="left", maintain_order="left")
    return rows.with_columns(pl.col("contradicted").fill_null(value=False))


def same_closes(findings: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """The doubts among `findings` (rows of `quarantine`) about the close of a split whose bar still has that close."""
    doubts = findings.filter(pl.col("kind") == "split", pl.col("column") == "close", ~pl.col("repaired"))
    pairs = doubts.join(bars.select(*KEYS, "close"), on=KEYS)
    return pairs.filter((pl.col("found") / pl.col("close") - 1).abs() <= SAME_CLOSE).select(no_findings().columns)


def new_findings(stored_findings: pl.DataFrame, findings: pl.DataFrame, seen_at: datetime) -> pl.DataFrame:
    """The `findings` that are not in `stored_findings` (`QUARANTINE_SCHEMA`) yet, as rows to append."""
    return (
        findings.join(stored_findings, on=_NAMED_BY, how="anti", nulls_equal=True)
        .with_columns(seen_at=pl.lit(seen_at).cast(UTC_TIME))
        .select(QUARANTINE_SCHEMA.names())
        .sort("session", "ticker", "kind", "column")
    )
