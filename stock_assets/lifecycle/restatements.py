"""What has to be made again when the vendor changes a bar that is stored already."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.market.adjustments import as_traded, differs, latest_versions
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.repair import priced

#: The sessions after a changed bar that its features reach: their look-back, in which a model's context begins.
REACH = LOOKBACK_SESSIONS + 120


@dataclass(frozen=True)
class Affected:
    """The ranges to make again, ends included."""

    chain: tuple[date, date]
    """from daily_bars to predictions"""
    labels: tuple[date, date] | None
    """None where no label of the changed bars is known yet"""


def stale_bars(raw: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """ticker, session of the bars that the newest versions in `raw` (`RAW_SCHEMA`) contradict, or that are not there.

    `bars` (`BAR_SCHEMA`) are those stored of the same sessions. A bar that was made from the newest version is not
    stale, though repair may have changed its figures; one made before bars told their version is judged by them. A
    version without a possible price makes no bar, so none is missing.
    """
    figures = ["open", "high", "low", "close", "volume", "dividend", "split_ratio"]
    without_actions = pl.when(pl.col("split_ratio").is_null()).then(pl.col("adj_close") / pl.col("previous_adj_close"))
    said = as_traded(latest_versions(priced(raw)[0])).with_columns(total_return=without_actions - 1)
    made_from = ["fetched_at"] if "fetched_at" in bars.columns else []
    pairs = said.select("ticker", "session", *figures, "total_return", "fetched_at").join(
        bars.select("ticker", "session", *figures, "total_return", *made_from),
        on=["ticker", "session"],
        how="left",
        suffix="_stored",
    )
    # the return of a source with corporate actions follows from the closes of two bars, which are compared
    changed = [
        *(differs(name, f"{name}_stored") for name in figures),
        pl.col("total_return").is_not_null() & differs("total_return", "total_return_stored"),
    ]
    if made_from:
        pairs = pairs.filter((pl.col("fetched_at") > pl.col("fetched_at_stored")).fill_null(value=True))
    return pairs.filter(pl.any_horizontal(changed)).select("ticker", "session").sort("session", "ticker")


def affected(
    calendar: TradingCalendar,
    changed: pl.DataFrame,
    labels: pl.DataFrame,
    predicted_through: date,
    labelled_through: date,
) -> Affected:
    """What the bars of `changed` (ticker, session; at least one row) reach: features and predictions forward as far as
    a look-back goes, labels backward as far as a horizon does.

    `labels` are rows of that table (ticker, session, horizon_end) around the changed sessions; both `_through` are the
    last sessions that are made.
    """
    first, last = changed["session"].min(), changed["session"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    end = min(calendar.shift(last, REACH) or calendar.sessions[-1], predicted_through)
    touched = labels.join(changed.rename({"session": "changed"}), on="ticker").filter(
        pl.col("changed").is_between("session", "horizon_end")
    )["session"]
    begin = min([first, *touched.to_list()])
    through = min(last, labelled_through)
    return Affected((first, max(first, end)), (begin, through) if begin <= through else None)
