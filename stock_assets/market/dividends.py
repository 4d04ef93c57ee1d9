"""Dividends that the vendor's other figures contradict."""

import polars as pl

from stock_assets.market.findings import finding
from stock_assets.market.quality import frozen
from stock_assets.market.repair import UNIT, in_units
from stock_assets.market.splits import rounding

#: Above this share of the price a dividend must show in the price, at least by half.
LARGE_DIVIDEND = 0.10
#: Difference between the stated dividend and that of the adjusted closes, as a share of the price; settled
#: answers of Yahoo agree to 1e-6.
DIVIDEND_TOLERANCE = 2e-4
#: Sessions within which the same dividend does not come twice, unless it comes in that rhythm, give or take RHYTHM.
DIVIDEND_APART, RHYTHM = 15, 2
#: Sessions by which adjusted closes may count a dividend too late.
LATE = 2
#: Shares of the price: from the first on a payment that the adjusted closes alone state is no rounding, above the
#: second a contradiction leaves open which of the figures is right.
PAYMENT, DOUBT = 1e-3, 0.02
#: A fund's capital gain that the adjusted closes count twice is at most the dividend, so they state twice as much.
COUNTED_TWICE = 2.02
#: Above so many times a stated dividend the price must have fallen with what the adjusted closes state.
FAR_MORE = 20.0
#: What is paid in one day is at most that share of the price, as far as the adjusted closes alone are believed.
LARGEST_SPECIAL = 0.5


def plausible_dividends(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` with the dividends that the other figures of the vendor can mean, and the findings.

    With p = close before / split ratio, the adjusted closes of one answer imply the dividend
    p - close * (adjusted close before / adjusted close). In order:

    - more than `LARGE_DIVIDEND` of the price, of which not half shows in the price: what the adjusted closes imply
      if that is small; nothing if a split on the same day says it already; a hundredth otherwise, unless the price
      rose or the listing has paid before, the adjusted closes agree, and it is the first of its size: then it stays,
      and the bar is suspect,
    - a hundredth, or the day's or the later splits' ratio times, of what they imply: what they imply,
    - a hundredth of the dividend before: a hundred times as much,
    - more than twice the stated one is implied (a capital gain, a dividend that is not listed): what they imply,
    - the dividend of at most `DIVIDEND_APART` sessions ago once more, and in no such rhythm: which of the two is the
      true one cannot be known, so it stays, and the bar is suspect,
    - any other contradiction: the adjusted close is wrong. Where it is large, or implies more than is stated, which of
      the two is wrong cannot be known, and the bar is suspect.
    """
    judged_rows = _with_plausible(_with_implied(bars))
    dividend, price = pl.col("dividend"), pl.col("price")
    wrong_dividends, doubtful = (
        judged_rows.filter(pl.col("plausible").is_not_null()),
        judged_rows.filter(pl.col("again") | pl.col("special")),
    )
    other = judged_rows.filter(pl.col("plausible").is_null(), ~pl.col("again"), pl.col("contradicts"))
    adjusted_close = pl.col("previous_adj_close") * pl.col("close") / (price - dividend)
    excess = pl.col("implied") - dividend
    open_question = pl.col("implied").is_finite() & ((excess.abs() > DOUBT * price) | (excess > PAYMENT * price))
    findings = pl.concat(
        [
            wrong_dividends.select(
                *finding("dividend", "dividend", figure=dividend, expected=pl.col("plausible"), repaired=True)
            ),
            doubtful.select(*finding("dividend", "dividend", figure=dividend, repaired=False)),
            *(
                other.filter(sides).select(
                    *finding(
                        "adjustment",
                        "adj_close",
                        figure=pl.col("adj_close"),
                        expected=adjusted_close,
                        repaired=is_repaired,
                    )
                )
                for sides, is_repaired in ((~open_question, True), (open_question, False))
            ),
        ]
    )
    if wrong_dividends.is_empty():
        return bars, findings
    right = wrong_dividends.select("row", "plausible")
    rows = bars.with_row_index("row").join(right, on="row", how="left", maintain_order="left")
    return rows.with_columns(dividend=pl.coalesce("plausible", "dividend")).drop("row", "plausible"), findings


def _with_implied(bars: pl.DataFrame) -> pl.DataFrame:
    """The rows with a dividend, or whose adjusted closes contradict that there is none, and what they are judged by.

    `row` is the place in `bars`, `price` the p of `plausible_dividends`, `implied` the dividend of the adjusted closes,
    `contradicts` whether they mean another, `last` the listing's dividend before, `apart` sessions ago, `share` the
    dividend's of the price, `fell` by which share the price fell, `ratio` the dividend over the implied one,
    `apart_before` how far apart the two dividends before were, `late` whether the adjusted closes missed the last one
    and may count it now.
    """
    price = pl.col("before") / pl.col("split_ratio")
    adjusted_ratio = pl.col("adj_close") / pl.col("previous_adj_close")
    implied_dividend = price - pl.col("close") / adjusted_ratio
    # taken out of the price before, as Yahoo does, or put into the return, as others do
    taken_out = (pl.col("dividend") - implied_dividend).abs() / price
    put_in = (adjusted_ratio - (pl.col("close") + pl.col("dividend")) / price).abs()
    is_apart = pl.min_horizontal(taken_out, put_in) > DIVIDEND_TOLERANCE + rounding()
    # after a bar that is missing, the adjusted close before is not that of the close before
    follows = pl.col("position").diff().over("listing") == 1
    # a price that was carried over says nothing about the adjusted close of its day
    stale = frozen() & (pl.col("close") == pl.col("before")) & (pl.col("dividend") == 0)
    # an adjusted close may be infinite: then it implies nothing, and contradicts
    contradicts = (follows & ~stale & (is_apart | ~implied_dividend.is_finite())).fill_null(value=False)
    return (
        bars.with_row_index("row")
        .with_columns(price=price, implied=implied_dividend, contradicts=contradicts)
        .filter((pl.col("dividend") > 0) | pl.col("contradicts"), pl.col("price").is_not_null())
        .with_columns(
            last=_before(pl.col("dividend")),
            apart=pl.col("position") - _before(pl.col("position")),
        )
        .with_columns(
            late=_before(pl.col("contradicts")) & (pl.col("apart") <= LATE),
            last_share=_before(pl.col("dividend") / pl.col("price")),
            apart_before=_before(pl.col("apart")),
            share=pl.col("dividend") / pl.col("price"),
            fell=1 - pl.col("close") / pl.col("price"),
            ratio=pl.col("dividend") / pl.col("implied"),
        )
    )


def _with_plausible(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of `_with_implied` with `plausible`, the dividend in place of a wrong one (else null), `again`, whether it
    is the dividend before once more, and `special`, whether it is large and stays though the price rose."""
    dividend, implied_dividend, ratio = pl.col("dividend"), pl.col("implied"), pl.col("ratio")
    split_today = (pl.col("split_ratio") - 1).abs() > 1e-3
    modest = (implied_dividend >= 0) & (implied_dividend <= LARGE_DIVIDEND * pl.col("price"))
    is_unseen = (pl.col("share") > LARGE_DIVIDEND) & (pl.col("fell") < pl.col("share") / 2)
    of_its_size = _is_near(pl.col("last"), dividend) | (in_units(pl.col("last") / dividend) != 0)
    another = (pl.col("fell") < 0) | pl.col("last").is_not_null()
    special = is_unseen & ~pl.col("contradicts") & another & ~of_its_size.fill_null(value=False)
    special &= ~split_today & (pl.col("share") <= LARGEST_SPECIAL)
    later_splits = ((pl.col("later_splits") - 1).abs() > 0.1) & _is_near(ratio, pl.col("later_splits"))
    of_another_unit = (in_units(ratio) == -1) | (split_today & _is_near(ratio, pl.col("split_ratio"))) | later_splits
    is_unlisted = pl.col("contradicts") & ~pl.col("late").fill_null(value=False)
    fits_price = (pl.col("fell") - implied_dividend / pl.col("price")).abs() < (pl.col("fell") - pl.col("share")).abs()
    modest_enough = modest | (dividend > 0)
    is_unlisted &= (modest_enough & ((dividend == 0) | (implied_dividend <= FAR_MORE * dividend))) | fits_price
    is_unlisted &= implied_dividend.is_between(PAYMENT * pl.col("price"), LARGEST_SPECIAL * pl.col("price"))
    plausible = (
        pl.when(is_unseen & pl.col("contradicts") & modest)
        .then(implied_dividend)
        .when(is_unseen & split_today)
        .then(0.0)
        .when(is_unseen & ~special)
        .then(dividend / UNIT)
        .when(pl.col("contradicts") & modest & of_another_unit)
        .then(implied_dividend)
        .when(
            (dividend > 0)
            & _is_near(pl.col("last"), dividend * UNIT)
            & (pl.col("last_share") > UNIT / 2 * pl.col("share"))
        )
        .then(dividend * UNIT)
        .when(is_unlisted & (implied_dividend > COUNTED_TWICE * dividend))
        .then(implied_dividend)
    )
    in_rhythm = (pl.col("apart") - pl.col("apart_before")).abs() <= RHYTHM
    is_repeated = (dividend > 0) & plausible.is_null() & (pl.col("apart") <= DIVIDEND_APART) & of_its_size
    is_repeated &= ~in_rhythm.fill_null(value=False)
    return rows.with_columns(
        plausible=plausible, again=is_repeated.fill_null(value=False), special=special.fill_null(value=False)
    )


def _is_near(ratio: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (ratio / other - 1).abs() <= 0.1


def _before(value: pl.Expr) -> pl.Expr:
    """`value` on the last row of the listing above that has a dividend; null where there is none."""
    return pl.when(pl.col("dividend") > 0).then(value).shift(1).forward_fill().over("listing")
