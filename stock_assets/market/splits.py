"""Splits: which of them the vendor has applied to its closes, which it does not list, and which cannot be told.

A jump of the price near a split may be the split or a real move. It counts as the split where other evidence says so:
the adjusted closes, the ex-date itself, a jump back, or a return that cannot be true. Any other such jump stays as it
is, and its bar is suspect.
"""

import math

import polars as pl

from stock_assets.market.findings import finding, no_findings
from stock_assets.market.quality import ABSURD_GAIN

#: A split nearer to 1 than that looks like a move of the price where no adjusted close speaks for it.
SMALLEST_SPLIT = 1.3
#: Nearer to 1 than that, a split is a rounding of the vendor.
SMALLEST_ADJUSTED_SPLIT = 1.005
#: Bars before and after the ex-date at which a missing adjustment begins or ends.
SPLIT_WINDOW = (-10, 5)
#: A jump is that of a split within so many usual moves of the ticker, within a third of the split, and within the last.
USUAL_MOVES, SPLIT_TOLERANCE = 4.0, 0.18
#: Far from the ex-date and without a jump back it must be the very ratio.
LONE_TOLERANCE = 0.03
#: How near, as a share of the split, the gap between close and adjusted close must be to it on the ex-date, and how
#: near elsewhere, where a payment may make a gap of about that size.
GAP_SHARE, EXACT_GAP = 0.25, 0.005
#: How near, as a share of the split, a jump must be to raise a doubt, and a jump back to be one.
DOUBT_SHARE = 0.125
#: An unlisted split is at least that, and a gap above that is no payment.
SMALLEST_UNLISTED_SPLIT, LARGEST_SPLIT, TOO_LARGE_A_PAYMENT = 1.04, 1e4, 1.7
#: The ratios of splits that no list has to state, besides the whole numbers up to a hundred, and their inverses.
USUAL_RATIOS = (21 / 20, 11 / 10, 6 / 5, 5 / 4, 4 / 3, 7 / 5, 3 / 2, 8 / 5, 5 / 3, 7 / 4, 5 / 2, 7 / 2)
RATIO_TOLERANCE = 1e-3
SAME_BASIS = 1e-6


def applied_splits(bars: pl.DataFrame) -> pl.Series:
    """`later_splits` of `RAW_SCHEMA` [rows]: what the vendor has multiplied into each price, and no more.

    `bars` are one answer, sorted by ticker and session. It is the product of the later splits, but for those that the
    vendor has not applied (`_jumps`).
    """
    rows = _with_ratio(bars)
    factors = (
        _jumps(rows)
        .filter("evidence")
        .sort("place", pl.col("by_adjusted").not_(), pl.col("offset").abs())
        .group_by("place", maintain_order=True)
        .agg(factor=pl.col("basis").first().exp())
    )
    ratio = pl.col("ratio") * pl.col("factor").fill_null(1.0)
    later = ratio.shift(-1, fill_value=1.0).cum_prod(reverse=True).over("ticker")
    return rows.join(factors, on="place", how="left", maintain_order="left").select(later_splits=later)["later_splits"]


def _with_ratio(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(
        "ticker",
        "open",
        "close",
        "adj_close",
        place=pl.int_range(pl.len()),
        dividend=pl.col("dividend").fill_null(0.0),
        ratio=pl.col("split_ratio").fill_null(1.0),
    )


def _jumps(rows: pl.DataFrame) -> pl.DataFrame:
    """Where the close jumps by the ratio of a split at most `SPLIT_WINDOW` away, one row per jump and split.

    `place` of the jump, its `offset` from the ex-date in bars, `basis`, the logarithm of the ratio that the close
    jumps by if it is a matter of its basis, and whether there is `evidence` for that:

    - `by_adjusted`: the adjusted close does not jump, and moves less,
    - or it jumps too, and the bar is the ex-date and opened so, or the close jumps back within the window, or the
      return would be absurd and the jump is the very ratio.
    """
    first, last = SPLIT_WINDOW
    events = rows.filter(pl.col("ratio").log().abs() >= math.log(SMALLEST_ADJUSTED_SPLIT))
    jump_rows = (
        events.select("ratio", "ticker", event="place", offset=pl.int_ranges(first, last + 1))
        .explode("offset")
        .with_columns(place=pl.col("event") + pl.col("offset"), split=pl.col("ratio").log())
        .join(_moves(rows) if events.height else _moves(rows.clear()), on=["ticker", "place"])
        .with_columns(basis=(pl.col("jump") * pl.col("split")).sign() * pl.col("split"))
    )
    jump, basis, size = pl.col("jump"), pl.col("basis"), pl.col("split").abs()
    at_event = pl.col("offset") == 0
    # a dividend that was paid on the ex-date is a part of the gap, in the basis of the price that it was paid from
    paid_log_return = -(
        1 - (pl.col("paid_share") * pl.when(at_event).then(pl.col("ratio")).otherwise(1.0)).clip(0, 0.99)
    ).log()
    precision = pl.when(at_event).then(GAP_SHARE * size).otherwise(pl.min_horizontal(GAP_SHARE * size, EXACT_GAP))
    gap_is_split = (pl.col("gap") - paid_log_return + basis).abs() <= precision
    by_adjusted = gap_is_split & (pl.col("adjusted_jump").abs() < jump.abs())
    tolerance = pl.min_horizontal(SPLIT_TOLERANCE, size / 3, 0.01 + USUAL_MOVES * pl.col("usual"))
    # with the dividend and without it: one that was paid with the split may make the price fall as the split would
    fits = pl.all_horizontal((pl.col(name) - basis).abs() <= tolerance for name in ("jump", "paid_jump"))
    alike = (fits & (size >= math.log(SMALLEST_SPLIT))).fill_null(value=False)
    jump_rows = jump_rows.with_columns(alike=alike, by_adjusted=by_adjusted.fill_null(value=False))
    exact = pl.col("alike") & ((jump - basis).abs() <= DOUBT_SHARE * size)
    up, down = (exact & (sign * basis > 0) for sign in (1, -1))
    jumps_back = exact & (up.any() & down.any()).over("event")
    impossible = (jump.abs() > math.log(1 + ABSURD_GAIN)) & ((jump - basis).abs() <= LONE_TOLERANCE)
    # a new basis is there from the opening on; what happens during the day is a move
    opens_like_split = (basis - pl.col("opened")).abs() <= size / 2
    of_both = pl.col("alike") & ((at_event & opens_like_split.fill_null(value=True)) | jumps_back | impossible)
    return jump_rows.with_columns(evidence=pl.col("by_adjusted") | of_both).filter(
        pl.col("alike") | pl.col("by_adjusted")
    )


def _moves(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each row after a ticker's first, in logarithms: jump of the close, opened, that of the open, paid_jump,
    with the dividend, adjusted_jump, gap between the adjusted and the close; the share of the price that was paid; the
    ticker's usual move."""

    def before(name: str) -> pl.Expr:
        return pl.col(name).shift().forward_fill().over("ticker")  # a row without a price is no bar

    jump, adjusted_move = (pl.col("close") / before("close")).log(), (pl.col("adj_close") / before("adj_close")).log()
    return rows.select(
        "ticker",
        "place",
        jump=jump,
        opened=(pl.col("open") / before("close")).log(),
        paid_jump=((pl.col("close") + pl.col("dividend")) / before("close")).log(),
        adjusted_jump=adjusted_move,
        gap=adjusted_move - jump,
        paid_share=pl.col("dividend") / before("close"),
        usual=1.4826 * jump.abs().median().over("ticker"),
    )


def unapplied_splits(answered_bars: pl.DataFrame) -> pl.DataFrame:
    """The findings of kind split in one answer (`RAW_SCHEMA`): the rows whose `later_splits` leaves one out."""
    plain = pl.col("split_ratio").fill_null(1.0).shift(-1, fill_value=1.0).cum_prod(reverse=True)
    rows = answered_bars.sort("ticker", "session").with_columns(
        stated=(plain * pl.col("later_splits").last()).over("ticker")
    )
    left_out = rows.filter((pl.col("stated") / pl.col("later_splits") - 1).abs() > SAME_BASIS)
    figure, expected = pl.col("stated"), pl.col("later_splits")
    return left_out.select(*finding("split", "later_splits", figure=figure, expected=expected, repaired=True))


def with_unlisted_splits(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` with the splits that the adjusted closes alone state, and a finding for each.

    A step of `repair.in_steps`, after `in_listings`. From one bar to the next the gap between close and adjusted close
    is a usual ratio, or too large for a payment, and the close moves more than the adjusted close does.
    """
    price = pl.col("before") / pl.col("split_ratio")
    adjusted_ratio, price_ratio = pl.col("adj_close") / pl.col("previous_adj_close"), pl.col("close") / price
    whole_gap = adjusted_ratio / price_ratio
    gap = whole_gap * (1 - pl.col("dividend") / price)  # without the dividend's part, as Yahoo takes it out
    follows = pl.col("position").diff().over("listing") == 1
    far_apart = [
        ratio.log().abs().is_between(math.log(SMALLEST_UNLISTED_SPLIT), math.log(LARGEST_SPLIT))
        for ratio in (gap, whole_gap)
    ]
    moved_alone = adjusted_ratio.log().abs() < price_ratio.log().abs() / 2
    rows = (
        bars.with_row_index("row")
        .with_columns(gap=gap.log())
        .filter(pl.all_horizontal(follows, *far_apart, moved_alone).fill_null(value=False))
    )
    if rows.is_empty():
        return bars, no_findings()
    whole = range(2, 101)
    usual = sorted(math.log(ratio) * sign for ratio in (*USUAL_RATIOS, *whole) for sign in (1, -1))
    usual_ratios = pl.DataFrame({"usual": usual}, schema={"usual": pl.Float64})
    splits = (
        rows.sort("gap")
        .join_asof(usual_ratios, left_on="gap", right_on="usual", strategy="nearest", coalesce=False)
        .with_columns(named=(pl.col("gap") - pl.col("usual")).abs() <= RATIO_TOLERANCE + rounding())
        .filter(pl.col("named") | (pl.col("gap").abs() >= math.log(TOO_LARGE_A_PAYMENT)))
        .with_columns(
            unlisted=pl.col("split_ratio") * pl.when("named").then(pl.col("usual")).otherwise(pl.col("gap")).exp()
        )
    )
    figure, expected = pl.col("split_ratio"), pl.col("unlisted")
    findings = splits.select(*finding("split", "split_ratio", figure=figure, expected=expected, repaired=True))
    bars_with_splits = bars.with_row_index("row").join(splits.select("row", "unlisted"), on="row", how="left")
    bars_with_splits = bars_with_splits.sort("row").with_columns(split_ratio=pl.coalesce("unlisted", "split_ratio"))
    return bars_with_splits.drop("row", "unlisted"), findings


def uncertain_splits(answered_bars: pl.DataFrame) -> pl.DataFrame:
    """The findings of kind split in one answer (`RAW_SCHEMA`) about jumps shortly before an ex-date that may be the
    split or a real move: both figures of the vendor state them, so they stay."""
    rows = answered_bars.sort("ticker", "session")
    jumps = _jumps(_with_ratio(rows))
    sure = jumps.filter(pl.col("evidence") | (pl.col("offset") >= 0))["place"]
    doubts = jumps.filter(~pl.col("place").is_in(sure.implode())).group_by("place").agg(pl.col("basis").first())
    close = pl.col("close") * pl.col("later_splits")
    return (
        rows.with_columns(place=pl.int_range(pl.len()))
        .join(doubts, on="place", maintain_order="left")
        .select(*finding("split", "close", figure=close, expected=close / pl.col("basis").exp(), repaired=False))
    )


def uncertain_jumps(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` as they are, and a finding for every jump on or after an ex-date that may be the split or a real move.

    A step of `repair.in_steps`, after `in_listings`: the evening's half of `uncertain_splits`.
    """
    price_move = (pl.col("close") * pl.col("split_ratio") / pl.col("before")).log()
    split = pl.col("split_ratio").fill_null(1.0).log()

    def alike(size: pl.Expr, share: float) -> pl.Expr:
        return (size >= math.log(SMALLEST_SPLIT)) & ((price_move.abs() - size).abs() <= share * size)

    open_move = (pl.col("open") * pl.col("split_ratio") / pl.col("before")).log()
    today = alike(split.abs(), 1 / 3) & ((open_move.abs() - split.abs()).abs() <= split.abs() / 2)
    earlier = [split.shift(ago).over("listing").abs() for ago in range(1, SPLIT_WINDOW[1] + 1)]
    lately = (split == 0) & pl.any_horizontal(alike(size, DOUBT_SHARE) for size in earlier)
    doubts = bars.filter((today | lately).fill_null(value=False))
    figure, expected = pl.col("close"), pl.col("before")
    return bars, doubts.select(*finding("split", "close", figure=figure, expected=expected, repaired=False))


def rounding() -> pl.Expr:
    """How far the gap between close and adjusted close may be off for want of decimals, as a fraction.

    A figure with two to six decimals may be off by half of the last; one with more is exact.
    """
    close = pl.col("close") / pl.col("later_splits")
    return sum(
        (_half_unit(value) for value in (close, close, pl.col("adj_close"), pl.col("previous_adj_close"))), pl.lit(0.0)
    )


def _half_unit(value: pl.Expr) -> pl.Expr:
    share = pl.lit(0.0)
    for decimals in range(6, 1, -1):
        exact = (value.round(decimals) - value).abs() <= 1e-9 * value.abs()
        share = pl.when(exact).then(0.5 * 10.0**-decimals / value.abs()).otherwise(share)
    return share
