"""Dividends that the vendor's other figures contradict."""

import polars as pl

from stock_assets.market.findings import finding
from stock_assets.market.repair import UNIT, in_units

#: Above this share of the price a dividend must show in the price, at least by half.
LARGE_DIVIDEND = 0.10
#: Difference between the stated dividend and that of the adjusted closes, as a share of the price; settled
#: answers of Yahoo agree to 1e-6.
DIVIDEND_TOLERANCE = 2e-4
#: Sessions within which the same dividend does not come twice.
DIVIDEND_APART = 15


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
    judged = _judged(_with_implied(bars))
    dividend, price = pl.col("dividend"), pl.col("price")
    wrong, twice = judged.filter(pl.col("plausible").is_not_null()), judged.filter("again")
    other = judged.filter(pl.col("plausible").is_null(), ~pl.col("again"), pl.col("contradicts"))
    adjusted = pl.col("previous_adj_close") * pl.col("close") / (price - dividend)
    findings = pl.concat(
        [
            wrong.select(*finding("dividend", "dividend", found=dividend, expected=pl.col("plausible"), repaired=True)),
            twice.select(*finding("dividend", "dividend", found=dividend, repaired=False)),
            other.select(
                *finding("adjustment", "adj_close", found=pl.col("adj_close"), expected=adjusted, repaired=True)
            ),
        ]
    )
    if wrong.is_empty():
        return bars, findings
    right = wrong.select("row", "plausible")
    rows = bars.with_row_index("row").join(right, on="row", how="left", maintain_order="left")
    return rows.with_columns(dividend=pl.coalesce("plausible", "dividend")).drop("row", "plausible"), findings


def _with_implied(bars: pl.DataFrame) -> pl.DataFrame:
    """The rows with a dividend, or whose adjusted closes contradict that there is none, and what they are judged by.

    `row` is the place in `bars`, `price` the p of `plausible_dividends`, `implied` the dividend of the adjusted closes,
    `contradicts` whether they mean another, `last` the listing's dividend before, `apart` sessions ago, `share` the
    dividend's of the price, `fell` by which share the price fell, `ratio` the dividend over the implied one.
    """
    price = pl.col("before") / pl.col("split_ratio")
    implied = price - pl.col("close") * pl.col("previous_adj_close") / pl.col("adj_close")
    apart = (pl.col("dividend") - implied).abs() > DIVIDEND_TOLERANCE * price
    # after a bar that is missing, the adjusted close before is not that of the close before
    follows = pl.col("position").diff().over("listing") == 1
    # an adjusted close may be infinite: then it implies nothing, and contradicts
    contradicts = (follows & (apart | ~implied.is_finite())).fill_null(value=False)
    return (
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


def _judged(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of `_with_implied` with `plausible`, the dividend in place of a wrong one (else null), and `again`,
    whether it is the dividend before once more."""
    dividend, implied, ratio = pl.col("dividend"), pl.col("implied"), pl.col("ratio")
    split_today = (pl.col("split_ratio") - 1).abs() > 1e-3
    modest = (implied >= 0) & (implied <= LARGE_DIVIDEND * pl.col("price"))
    unseen = (pl.col("share") > LARGE_DIVIDEND) & (pl.col("fell") < pl.col("share") / 2)
    of_another_unit = (in_units(ratio) == -1) | (split_today & _near(ratio, pl.col("split_ratio")))
    plausible = (
        pl.when(unseen & pl.col("contradicts") & modest)
        .then(implied)
        .when(unseen & split_today)
        .then(0.0)
        .when(unseen)
        .then(dividend / UNIT)
        .when(pl.col("contradicts") & modest & of_another_unit)
        .then(implied)
        .when((dividend > 0) & _near(pl.col("last"), dividend * UNIT))
        .then(dividend * UNIT)
    )
    same = _near(pl.col("last"), dividend) | (in_units(pl.col("last") / dividend) != 0)
    again = (dividend > 0) & plausible.is_null() & (pl.col("apart") <= DIVIDEND_APART) & same
    return rows.with_columns(plausible=plausible, again=again.fill_null(value=False))


def _near(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (one / other - 1).abs() <= 0.1


def _before(value: pl.Expr) -> pl.Expr:
    """`value` on the last row of the listing above that has a dividend; null where there is none."""
    return pl.when(pl.col("dividend") > 0).then(value).shift(1).forward_fill().over("listing")
