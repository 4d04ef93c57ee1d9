"""What the vendor's own figures contradict: found, repaired where arithmetic alone can, and listed in `quarantine`.

Whether a split has been applied to an old price is a question about the vendor's basis on the day of the answer, so
`splits.applied_splits` may look at the whole answer. Everything else is judged in the evening of the bar, by the bar
itself and those before it: as steps from a frame to the repaired frame and what was found in it, which `in_steps` takes
one after the other.
"""

import math
from collections.abc import Callable, Sequence

import polars as pl

from stock_assets.market.findings import finding, no_findings
from stock_assets.market.quality import absurd, frozen

#: From bars to the repaired bars and the findings (`findings.no_findings`).
Step = Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]

#: Pence for pounds, cents for dollars, and how far a price that moved meanwhile may be off that factor.
UNIT, UNIT_TOLERANCE = 100.0, 1.25
#: Bars after which a level that stays in the other unit is the vendor's new unit.
UNIT_MEMORY = 20


def in_steps(bars: pl.DataFrame, steps: Sequence[Step]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is left of `bars` after all `steps`, in their order, and what they found."""
    findings = [no_findings()]
    for step in steps:
        bars, step_findings = step(bars)
        findings.append(step_findings)
    return bars, pl.concat(findings)


def impossible() -> dict[str, pl.Expr]:
    """By figure, whether it stands in the way of a bar: a price that is not positive and finite, a volume below 0."""
    prices = ("open", "high", "low", "close")
    faults = {name: ~(pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(value=False) for name in prices}
    faults["volume"] = ~(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).fill_null(value=False)
    # without corporate actions the return is that of the adjusted closes
    is_adjusted = pl.col("adj_close").is_finite() & (pl.col("adj_close") > 0)
    faults["adj_close"] = pl.col("split_ratio").is_null() & ~is_adjusted.fill_null(value=False)
    return faults


def priced(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars with possible figures, and a finding for every figure of the others."""
    faults = impossible()
    unpriced = pl.any_horizontal(*faults.values())
    if not bars.select(unpriced.any()).item():
        return bars, no_findings()
    findings = [
        bars.filter(bad).select(*finding("no_price", name, figure=pl.col(name), repaired=False))
        for name, bad in faults.items()
    ]
    return bars.filter(~unpriced), pl.concat(findings)


def in_one_unit(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` with every price in the unit of the bars before, and a finding for every price that was in another.

    `bars` are as traded, sorted, with `listing` and `before`, the close of the preceding bar. A close that jumps by
    a hundred begins or ends another unit; after `UNIT_MEMORY` bars it is the new one. An open, high or low a hundred
    times off its close is repaired alone.
    """
    jump = in_units(pl.col("close") * pl.col("split_ratio").fill_null(1.0) / pl.col("before")).fill_null(0)
    sides = ("open", "high", "low")
    one_sided = pl.any_horizontal(in_units(pl.col(name) / pl.col("close")) != 0 for name in sides)
    if not bars.select(((jump != 0) | one_sided).any()).item():
        return bars, no_findings()
    states = bars.with_columns(jump=jump).with_row_index("row")
    states = states.join(_otherin_units(states), on="row", how="left", maintain_order="left").with_columns(
        pl.col("state").fill_null(0)
    )
    unit, passed_factor = UNIT ** pl.col("state").cast(pl.Float64), UNIT ** pl.col("jump").cast(pl.Float64)
    repaired_bars = states.with_columns(
        close=pl.col("close") / unit,
        before=pl.col("before") * passed_factor / unit,
        previous_adj_close=pl.col("previous_adj_close") * passed_factor,
    ).with_columns(pl.col(name) / UNIT ** in_units(pl.col(name) / pl.col("close")).cast(pl.Float64) for name in sides)
    findings = [_repriced(bars, repaired_bars, name) for name in (*sides, "close")]
    return repaired_bars.drop("row", "jump", "state"), pl.concat(findings)


def _otherin_units(bars: pl.DataFrame) -> pl.DataFrame:
    """row, state (Int64): by how many hundreds a bar is off the unit that most of the bars before it are in."""
    jumped_listings = bars.filter(pl.col("jump") != 0)["listing"].unique()
    level = bars.filter(pl.col("listing").is_in(jumped_listings.implode())).with_columns(
        level=pl.col("jump").cum_sum().cast(pl.Float64).over("listing")
    )
    usual = pl.col("level").shift(1).rolling_quantile(0.5, "lower", window_size=2 * UNIT_MEMORY - 1, min_samples=1)
    state = pl.col("level") - usual.over("listing")
    return level.select("row", state=state.fill_null(0.0).round().cast(pl.Int64))


def _repriced(before: pl.DataFrame, after: pl.DataFrame, column: str) -> pl.DataFrame:
    """The findings of kind unit: the rows whose `column` is another price `after` the repair."""
    sides = before.select("ticker", "session", column).with_columns(repaired=after[column])
    far = (pl.col("repaired") / pl.col(column)).log().abs() > 1
    figure, expected = pl.col(column), pl.col("repaired")
    return sides.filter(far).select(*finding("unit", column, figure=figure, expected=expected, repaired=True))


def untrusted(bars: pl.DataFrame) -> pl.DataFrame:
    """A finding for every bar that is frozen, leads to an absurd return or contradicts itself on the day itself.

    `bars` are judged (`suspect`); those that are suspect for what happened before them are no new findings.
    """
    own = {
        "frozen": ((pl.col("suspect") == "frozen") & frozen(), "volume"),
        "absurd_return": ((pl.col("suspect") == "absurd_return") & absurd(), "total_return"),
        "ohlc": (pl.col("suspect") == "ohlc", "close"),
    }
    return pl.concat(
        [
            bars.filter(flag).select(*finding(kind, column, figure=pl.col(column), repaired=False))
            for kind, (flag, column) in own.items()
        ]
    )


def in_units(ratio: pl.Expr) -> pl.Expr:
    """1 where `ratio` is about a hundred, -1 where about a hundredth, 0 elsewhere (Int32)."""
    off = ratio.log() / math.log(UNIT)
    is_near = (off.abs() - 1).abs() <= math.log(UNIT_TOLERANCE) / math.log(UNIT)
    return pl.when(is_near).then(off.sign()).otherwise(0).cast(pl.Int32)
