"""What the answers of all vendors have in common: the checks of their bars and the raw rows made of them.

*Bars* here are a frame of `BARS`: a vendor's rows as typed columns, with the place they come from. Every
check raises SourceError, which names place, ticker, session, column, what was found and what was expected.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.escape import shortened
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.repair import impossible
from stock_assets.market.sources.row_checks import is_missing
from stock_assets.market.splits import applied_splits
from stock_assets.market.tables import RAW_SCHEMA
from stock_assets.tickers import EXPECTED as TICKER_EXPECTED
from stock_assets.tickers import no_tickers

PRICES = ("open", "high", "low", "close", "adj_close")

#: `dividend` and `split_ratio` are both null where the vendor states no corporate actions.
BARS = pl.Schema(
    {
        "place": pl.String,
        "ticker": pl.String,
        "session": pl.Date,
        **dict.fromkeys((*PRICES, "volume", "dividend", "split_ratio"), pl.Float64),
    }
)


def _number(column: str, low: pl.Expr) -> pl.Expr:
    return ~pl.col(column).is_finite() | low


#: column, where it is wrong, what was expected; in the order in which they are reported.
_RULES: tuple[tuple[str, pl.Expr, str], ...] = (
    ("session", pl.col("session").is_null(), "a date such as 2020-01-02 or 20200102"),
    *(
        (price, pl.col(price).is_null() | _number(price, pl.col(price) <= 0), "a finite price above 0")
        for price in PRICES
    ),
    ("volume", pl.col("volume").is_null() | _number("volume", pl.col("volume") < 0), "a number not below 0"),
    ("dividend", _number("dividend", pl.col("dividend") < 0), "an amount not below 0"),
    ("split_ratio", _number("split_ratio", pl.col("split_ratio") <= 0), "a ratio above 0"),
)


def check_request(first: date, last: date, fetched_at: datetime) -> None:
    """Raises SourceError for a reversed range, ValueError for a `fetched_at` without a time zone."""
    if first > last:
        raise SourceError(f"the first session asked for, {first}, lies after the last, {last}")
    if fetched_at.tzinfo is None:
        raise ValueError(f"fetched_at={fetched_at} has no time zone; expected UTC")


def check_values(bars: pl.DataFrame, file_values: Mapping[str, pl.Series] | None = None) -> None:
    """Raises SourceError for the first value that no bar may have, but for a missing or impossible price or volume,
    which is held out later.

    `file_values` holds the cells of a file, by column and row by row, so that text where a number belongs is reported
    as it stands there, with the number of its row.
    """
    # of the tickers, which are few, rather than of the rows
    wrong_ticker = pl.col("ticker").is_null() | pl.col("ticker").is_in(no_tickers(bars["ticker"].unique()))
    for column, is_wrong, expected in (("ticker", wrong_ticker, f"a ticker of {TICKER_EXPECTED}"), *_RULES):
        broken = bars.with_row_index("row").filter(is_wrong)
        if column in (*PRICES, "volume"):
            broken = _of_text(broken, column, file_values)
        if broken.is_empty():
            continue
        row = broken.row(0, named=True)
        place, value = row["place"], row[column]
        if file_values is not None:
            place = f"{place}, row {row['row'] + 1}"
            value = file_values[column][row["row"]] if column in file_values else value
        raise SourceError(
            f"{place}, ticker {shortened(str(row['ticker']), 80)}, session {row['session']}, column {column}: "
            f"found {'nothing' if value is None else shortened(repr(value), 80)}, expected {expected}"
        )


def _of_text(broken: pl.DataFrame, column: str, file_values: Mapping[str, pl.Series] | None) -> pl.DataFrame:
    """The `broken` rows whose cell of `column` holds a text that does not say that there is no number."""
    if file_values is None or column not in file_values or file_values[column].dtype != pl.String:
        return broken.clear()
    unread_rows = broken.filter(pl.col(column).is_null())
    texts = file_values[column].gather(unread_rows["row"]) if unread_rows.height else []
    return unread_rows.filter(pl.Series([not is_missing(text) for text in texts], dtype=pl.Boolean))


def in_order(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars` sorted by ticker and session.

    Raises SourceError where a ticker has a session twice, or its rows did not ascend by session.
    """
    ticker, session = pl.col("ticker"), pl.col("session")
    # most files are sorted by ticker and session already: one cheap look instead of grouping and sorting
    later = (ticker > ticker.shift()) | ((ticker == ticker.shift()) & (session > session.shift()))
    if bars.select(later.all()).item():
        return bars
    previous = session.shift().over("ticker")
    if not bars.select((session <= previous).any()).item():
        return bars.sort("ticker", "session")
    twice = bars.filter(~pl.struct("ticker", "session").is_first_distinct())
    if not twice.is_empty():
        row = twice.row(0, named=True)
        fault, expected = "a second row of this session", "one row per ticker and session"
    else:
        row = bars.with_columns(previous=previous).filter(session < previous).row(0, named=True)
        fault, expected = f"it after {row['previous']}", "the rows of a ticker to ascend by session"
    raise SourceError(
        f"{row['place']}, ticker {row['ticker']}, session {row['session']}, column session: "
        f"found {fault}, expected {expected}"
    )


def check_sessions(bars: pl.DataFrame, calendar: TradingCalendar) -> None:
    """Raises SourceError for a date on which the exchange was closed; dates beyond the calendar pass."""
    within = pl.col("session").is_between(calendar.sessions[0], calendar.sessions[-1])
    dates = bars.lazy().filter(within).select(pl.col("session").unique()).collect()["session"]
    closed_days = sorted(set(dates) - set(calendar.sessions))
    if closed_days:
        row = bars.filter(pl.col("session") == closed_days[0]).row(0, named=True)
        further_dates = f" and {len(closed_days) - 1} more such dates" if len(closed_days) > 1 else ""
        raise SourceError(
            f"{row['place']}, ticker {row['ticker']}, session {closed_days[0]}, column session: found a "
            f"{closed_days[0]:%A} on which {calendar.name} was closed{further_dates}, expected a session of "
            f"{calendar.name}"
        )


def with_history(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars`, sorted by ticker and session, with `previous_adj_close` and `later_splits` of `RAW_SCHEMA`.

    `later_splits` multiplies every split that the bars know, the last bar's included: the vendor has adjusted the
    prices for all of them, but where `applied_splits` finds one forgotten.
    """
    bars = in_order(bars)
    # a row without a price is no bar: what follows it leads on from the one before
    usable = ~pl.any_horizontal(*impossible().values())
    usable_adj_close = pl.when(usable).then("adj_close")
    has_actions = bars["split_ratio"].null_count() < bars.height
    return bars.with_columns(
        previous_adj_close=usable_adj_close.shift().forward_fill().over("ticker"),
        later_splits=applied_splits(bars.with_columns(close=pl.when(usable).then("close")))
        if has_actions
        else pl.lit(1.0),
    )


def answer(
    bars: pl.DataFrame,
    *,
    calendar: TradingCalendar,
    tickers: Sequence[str],
    first: date,
    last: date,
    source: str,
    fetched_at: datetime,
) -> pl.DataFrame:
    """The rows of `bars` (as `with_history` returns them) that were asked for, as `RAW_SCHEMA`.

    Rows after the day of `fetched_at` (UTC) are left out. No row is an EmptySourceError, unless the
    exchange was closed all the time.
    """
    through = min(last, fetched_at.astimezone(UTC).date())
    rows = bars.filter(pl.col("session").is_between(first, through), pl.col("ticker").is_in(list(tickers)))
    if rows.is_empty() and calendar.between(first, last):
        raise EmptySourceError(
            f"{source} has no bar from {first} to {last} of {some(tickers)} (as of {fetched_at}), expected at least one"
        )
    return rows.select(
        pl.lit(source).alias("source")
        if column == "source"
        else pl.lit(fetched_at.astimezone(UTC)).cast(kind).alias(column)
        if column == "fetched_at"
        else column
        for column, kind in RAW_SCHEMA.items()
    )


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names and how many there are, for a message."""
    listing = ", ".join(names[:limit])
    return f"{listing}, … ({len(names)} in all)" if len(names) > limit else listing or "no ticker"
