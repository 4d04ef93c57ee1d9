"""What the vendor's own figures contradict: found, mended where arithmetic alone can, told in `quarantine`.

Two errors are mended where they enter. Whether a split has been applied to an old price is a question about the
vendor's basis on the day of the answer, so `applied_splits` may look at the whole answer. Everything else is judged
in the evening of the bar, by the bar itself and those before it.
"""

import math
from datetime import datetime

import polars as pl

from stock_assets.market.bars import QUARANTINE_SCHEMA, UTC_TIME

#: Pence for pounds, cents for dollars, and how far a price that moved meanwhile may be off that factor.
UNIT, UNIT_TOLERANCE = 100.0, 1.25
#: Bars after which a level that stays in the other unit is the vendor's new unit.
UNIT_MEMORY = 20
#: Splits nearer to 1 than that cannot be told from a move of the price; a jump is theirs within a third of it.
SMALLEST_SPLIT, SPLIT_TOLERANCE = 1.3, 0.18
#: Bars before and after the ex-date at which a missing adjustment begins or ends.
SPLIT_WINDOW = (-10, 5)
SAME_BASIS = 1e-6
#: Above this share of the price a dividend must show in the price, at least by half.
LARGE_DIVIDEND = 0.10
#: Difference between the stated dividend and that of the adjusted closes, as a share of the price; settled
#: answers of Yahoo agree to 1e-6.
DIVIDEND_TOLERANCE = 2e-4
#: Sessions within which the same dividend does not come twice.
DIVIDEND_APART = 15

#: What a finding may be, as told in `quarantine.kind`.
KINDS = {
    "no_price": "a price that is not positive and finite, or a volume below 0: the bar is held out",
    "unit": "prices a hundred times too high or too low: mended, the bar is suspect",
    "split": "a split that the vendor records but has not applied to this price: mended",
    "dividend": "a dividend against the adjusted closes, the price or those before: mended where expected is told",
    "adjustment": "an adjusted close that misses a dividend: no figure of ours is made of it",
    "frozen": "nothing traded and nothing moved: the bar is suspect",
    "absurd_return": "a return that no corporate action explains: the bar is suspect",
    "ohlc": "open or close outside [low, high]: the bar is suspect",
}


def applied_splits(bars: pl.DataFrame) -> pl.Series:
    """`later_splits` of `RAW_SCHEMA` [rows]: what the vendor has multiplied into each price, and no more.

    `bars` are one answer, sorted by ticker and session. It is the product of the later splits, but for the rows that
    the vendor has forgotten: there the close jumps by the very ratio of a split, within `SPLIT_WINDOW` of its ex-date.
    """
    rows = bars.select(
        "ticker",
        place=pl.int_range(pl.len()),
        close=pl.col("close"),
        paid=pl.col("close") + pl.col("dividend").fill_null(0.0),
        ratio=pl.col("split_ratio").fill_null(1.0),
    )
    events = rows.filter(pl.col("ratio").log().abs() >= math.log(SMALLEST_SPLIT))
    if events.height:
        rows = rows.with_columns(ratio=pl.col("ratio") * _forgotten(rows, events))
    later = pl.col("ratio").shift(-1, fill_value=1.0).cum_prod(reverse=True).over("ticker")
    return rows.select(later_splits=later)["later_splits"]


def _forgotten(rows: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """By how much the basis changes at each row [rows] for want of an adjustment, 1.0 nearly everywhere."""
    first, last = SPLIT_WINDOW
    split = pl.col("ratio").log()
    before = pl.when(pl.col("ticker") == pl.col("ticker").shift()).then(pl.col("close").shift())
    # with the dividend and without it: one that was paid with the split may make the price fall as the split would
    jumps = rows.select("ticker", "place", jump=(pl.col("close") / before).log(), paid=(pl.col("paid") / before).log())
    times = (pl.col("jump") / split).round()
    tolerance = pl.min_horizontal(SPLIT_TOLERANCE, split.abs() / 3)
    missed = (
        events.select("ticker", "ratio", place=pl.int_ranges(pl.col("place") + first, pl.col("place") + last + 1))
        .explode("place")
        .join(jumps, on=["ticker", "place"])
        .filter(times.abs() == 1, *[(pl.col(name) - times * split).abs() <= tolerance for name in ("jump", "paid")])
        .group_by("place")
        .agg(factor=(times * split).first().exp())
    )
    return rows.join(missed, on="place", how="left", maintain_order="left")["factor"].fill_null(1.0)


def unapplied_splits(answered: pl.DataFrame) -> pl.DataFrame:
    """The findings of kind split in one answer (`RAW_SCHEMA`): the rows whose `later_splits` leaves one out."""
    plain = pl.col("split_ratio").fill_null(1.0).shift(-1, fill_value=1.0).cum_prod(reverse=True)
    told = answered.sort("ticker", "session").with_columns(told=(plain * pl.col("later_splits").last()).over("ticker"))
    left_out = told.filter((pl.col("told") / pl.col("later_splits") - 1).abs() > SAME_BASIS)
    return left_out.select(*_finding("split", "later_splits", pl.col("told"), pl.col("later_splits"), repaired=True))


def priced(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars with possible figures, and a finding for every figure of the others."""
    prices = ("open", "high", "low", "close")
    wrong = {name: ~(pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(value=False) for name in prices}
    wrong["volume"] = ~(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).fill_null(value=False)
    impossible = pl.any_horizontal(*wrong.values())
    if not bars.select(impossible.any()).item():
        return bars, no_findings()
    nothing = pl.lit(None, pl.Float64)
    told = [
        bars.filter(bad).select(*_finding("no_price", name, pl.col(name), nothing, repaired=False))
        for name, bad in wrong.items()
    ]
    return bars.filter(~impossible), pl.concat(told)


def in_one_unit(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` with every price in the unit of the bars before, and a finding for every price that was in another.

    `bars` are as traded, sorted, with `listing` and `before`, the close of the preceding bar. A close that jumps by
    a hundred begins or ends another unit; after `UNIT_MEMORY` bars it is the new one. An open, high or low a hundred
    times off its close is mended alone.
    """
    jump = _units(pl.col("close") * pl.col("split_ratio").fill_null(1.0) / pl.col("before")).fill_null(0)
    sides = ("open", "high", "low")
    alone = pl.any_horizontal(_units(pl.col(name) / pl.col("close")) != 0 for name in sides)
    if not bars.select(((jump != 0) | alone).any()).item():
        return bars, no_findings()
    states = bars.with_columns(jump=jump).with_row_index("row")
    states = states.join(_other_units(states), on="row", how="left", maintain_order="left").with_columns(
        pl.col("state").fill_null(0)
    )
    unit, passed = UNIT ** pl.col("state").cast(pl.Float64), UNIT ** pl.col("jump").cast(pl.Float64)
    mended = states.with_columns(
        close=pl.col("close") / unit,
        before=pl.col("before") * passed / unit,
        previous_adj_close=pl.col("previous_adj_close") * passed,
    ).with_columns(pl.col(name) / UNIT ** _units(pl.col(name) / pl.col("close")).cast(pl.Float64) for name in sides)
    told = [_changed(bars, mended, name, "unit") for name in (*sides, "close")]
    return mended.drop("row", "jump", "state"), pl.concat(told)


def _other_units(bars: pl.DataFrame) -> pl.DataFrame:
    """row, state (Int64): by how many hundreds a bar is off the unit that most of the bars before it are in."""
    jumped = bars.filter(pl.col("jump") != 0)["listing"].unique()
    level = bars.filter(pl.col("listing").is_in(jumped.implode())).with_columns(
        level=pl.col("jump").cum_sum().cast(pl.Float64).over("listing")
    )
    usual = pl.col("level").shift(1).rolling_quantile(0.5, "lower", window_size=2 * UNIT_MEMORY - 1, min_samples=1)
    state = pl.col("level") - usual.over("listing")
    return level.select("row", state=state.fill_null(0.0).round().cast(pl.Int64))


def plausible_dividends(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` with the dividends that the other figures of the vendor can mean, and the findings.

    With p = close before / split ratio, the adjusted closes of one answer imply the dividend
    p - close * (adjusted close before / adjusted close). In order:

    - more than `LARGE_DIVIDEND` of the price, of which not half shows in the price: what the adjusted closes imply
      if that is small; nothing if a split on the same day says it already; a hundredth otherwise,
    - a hundredth, or the day's split ratio times, of what they imply: what they imply,
    - a hundredth of the dividend before: a hundred times as much,
    - the dividend of `DIVIDEND_APART` sessions ago once more: which of the two is the true one cannot be known,
      so it stays, and the bar is suspect,
    - any other contradiction: the adjusted close is wrong.
    """
    price = pl.col("before") / pl.col("split_ratio")
    implied = price - pl.col("close") * pl.col("previous_adj_close") / pl.col("adj_close")
    apart = (pl.col("dividend") - implied).abs() > DIVIDEND_TOLERANCE * price
    # after a bar that is missing, the adjusted close before is not that of the close before
    follows = pl.col("position").diff().over("listing") == 1
    # an adjusted close may be infinite: then it implies nothing, and contradicts
    contradicts = (follows & (apart | ~implied.is_finite())).fill_null(value=False)
    rows = (
        bars.with_row_index("row")
        .with_columns(price=price, implied=implied, contradicts=contradicts)
        .filter((pl.col("dividend") > 0) | pl.col("contradicts"), pl.col("price").is_not_null())
        .with_columns(
            last=_before(pl.col("dividend")),
            apart=pl.col("position") - _before(pl.col("position")),
        )
        .with_columns(
            share=pl.col("dividend") / pl.col("price"),
            fell=1 - pl.col("close") / pl.col("price"),
            ratio=pl.col("dividend") / pl.col("implied"),
        )
    )
    dividend, implied, ratio = pl.col("dividend"), pl.col("implied"), pl.col("ratio")
    split_today = (pl.col("split_ratio") - 1).abs() > 1e-3
    modest = (implied >= 0) & (implied <= LARGE_DIVIDEND * pl.col("price"))
    unseen = (pl.col("share") > LARGE_DIVIDEND) & (pl.col("fell") < pl.col("share") / 2)
    mended = (
        pl.when(unseen & pl.col("contradicts") & modest)
        .then(implied)
        .when(unseen & split_today)
        .then(0.0)
        .when(unseen)
        .then(dividend / UNIT)
        .when(
            pl.col("contradicts")
            & modest
            & ((_units(ratio) == -1) | (split_today & _near(ratio, pl.col("split_ratio"))))
        )
        .then(implied)
        .when((dividend > 0) & _near(pl.col("last"), dividend * UNIT))
        .then(dividend * UNIT)
    )
    same = _near(pl.col("last"), dividend) | (_units(pl.col("last") / dividend) != 0)
    again = (dividend > 0) & mended.is_null() & (pl.col("apart") <= DIVIDEND_APART) & same
    judged = rows.with_columns(mended=mended, again=again.fill_null(value=False))
    nothing = pl.lit(None, pl.Float64)
    wrong, twice = judged.filter(pl.col("mended").is_not_null()), judged.filter("again")
    other = judged.filter(pl.col("mended").is_null(), ~pl.col("again"), pl.col("contradicts"))
    expected = pl.col("previous_adj_close") * pl.col("close") / (pl.col("price") - dividend)
    findings = pl.concat(
        [
            wrong.select(*_finding("dividend", "dividend", dividend, pl.col("mended"), repaired=True)),
            twice.select(*_finding("dividend", "dividend", dividend, nothing, repaired=False)),
            other.select(*_finding("adjustment", "adj_close", pl.col("adj_close"), expected, repaired=True)),
        ]
    )
    if wrong.is_empty():
        return bars, findings
    right = bars.with_row_index("row").join(wrong.select("row", "mended"), on="row", how="left", maintain_order="left")
    return right.with_columns(dividend=pl.coalesce("mended", "dividend")).drop("row", "mended"), findings


def untrusted(bars: pl.DataFrame) -> pl.DataFrame:
    """A finding for every bar that is frozen, leads to an absurd return or contradicts itself on the day itself.

    `bars` are judged (`suspect`); those that are suspect for what happened before them are not told again.
    """
    from stock_assets.market.quality import absurd, frozen

    nothing = pl.lit(None, pl.Float64)
    own = {
        "frozen": ((pl.col("suspect") == "frozen") & frozen(), "volume"),
        "absurd_return": ((pl.col("suspect") == "absurd_return") & absurd(), "total_return"),
        "ohlc": (pl.col("suspect") == "ohlc", "close"),
    }
    return pl.concat(
        [
            bars.filter(flag).select(*_finding(kind, column, pl.col(column), nothing, repaired=False))
            for kind, (flag, column) in own.items()
        ]
    )


def contradicted(bars: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """`bars` with `contradicted`: whether one of `findings` is about it."""
    if findings.is_empty():
        return bars.with_columns(contradicted=pl.lit(value=False))
    keys = findings.select("ticker", "session", contradicted=pl.lit(value=True)).unique()
    joined = bars.join(keys, on=["ticker", "session"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("contradicted").fill_null(value=False))


def no_findings() -> pl.DataFrame:
    return QUARANTINE_SCHEMA.to_frame().drop("seen_at")


def new_findings(stored: pl.DataFrame, findings: pl.DataFrame, seen_at: datetime) -> pl.DataFrame:
    """The `findings` that `stored` (`QUARANTINE_SCHEMA`) does not tell yet, as rows to append."""
    keys = ["ticker", "session", "kind", "column", "found", "expected"]
    return (
        findings.join(stored, on=keys, how="anti", nulls_equal=True)
        .with_columns(seen_at=pl.lit(seen_at).cast(UTC_TIME))
        .select(QUARANTINE_SCHEMA.names())
        .sort("session", "ticker", "kind", "column")
    )


def _finding(kind: str, column: str, found: pl.Expr, expected: pl.Expr, *, repaired: bool) -> list[pl.Expr]:
    return [
        pl.col("ticker"),
        pl.col("session"),
        pl.lit(kind).alias("kind"),
        pl.lit(column).alias("column"),
        found.cast(pl.Float64).alias("found"),
        expected.cast(pl.Float64).alias("expected"),
        pl.lit(repaired).alias("repaired"),
    ]


def _changed(before: pl.DataFrame, after: pl.DataFrame, column: str, kind: str) -> pl.DataFrame:
    both = before.select("ticker", "session", column).with_columns(mended=after[column])
    far = (pl.col("mended") / pl.col(column)).log().abs() > 1
    return both.filter(far).select(*_finding(kind, column, pl.col(column), pl.col("mended"), repaired=True))


def _units(ratio: pl.Expr) -> pl.Expr:
    """1 where `ratio` is about a hundred, -1 where about a hundredth, 0 elsewhere (Int32)."""
    off = ratio.log() / math.log(UNIT)
    near = (off.abs() - 1).abs() <= math.log(UNIT_TOLERANCE) / math.log(UNIT)
    return pl.when(near).then(off.sign()).otherwise(0).cast(pl.Int32)


def _near(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (one / other - 1).abs() <= 0.1


def _before(value: pl.Expr) -> pl.Expr:
    """`value` on the last row of the listing above that has a dividend; null where there is none."""
    return pl.when(pl.col("dividend") > 0).then(value).shift(1).forward_fill().over("listing")
