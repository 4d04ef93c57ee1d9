"""The tables of the market room: what a raw answer, a clean bar and a universe look like.

Prices are in the currency of the listing, returns are fractions, `fetched_at` is UTC.
"""

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")

#: What a source said, verbatim, in the vendor's own (split-adjusted as of `fetched_at`) basis.
#: `later_splits` is the product of every split after the bar and up to `fetched_at`: multiply a price or
#: a dividend by it (divide a volume) to get the as-traded figure. A source without corporate actions has
#: null `dividend` and `split_ratio`, 1.0 `later_splits`, and is read through `previous_adj_close`, the
#: adjusted close of the same ticker's preceding bar *in the same answer* (null for its first bar).
#: `split_ratio` is 1.0 on ordinary days, 4.0 for a 4-for-1 split on its ex-date.
RAW_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "session": pl.Date,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "adj_close": pl.Float64,
        "volume": pl.Float64,
        "dividend": pl.Float64,
        "split_ratio": pl.Float64,
        "later_splits": pl.Float64,
        "previous_adj_close": pl.Float64,
        "source": pl.String,
        "fetched_at": UTC_TIME,
    }
)

#: The one clean bar of a (session, ticker), as traded on that day. `total_return` is null on a ticker's
#: first bar. `suspect` is null or the reason why the row neither trains nor scores. `fetched_at` is that of the raw
#: version the bar was made from, which is `provisional` where the vendor had not settled it by then.
BAR_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "session": pl.Date,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,
        "dividend": pl.Float64,
        "split_ratio": pl.Float64,
        "total_return": pl.Float64,
        "is_member": pl.Boolean,
        "suspect": pl.String,
        "provisional": pl.Boolean,
        "fetched_at": UTC_TIME,
    }
)

#: A figure of a stored bar that the vendor, or a bar before it, has changed since. `before` or `after` is null
#: where the bar or the figure was not there.
RESTATEMENT_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "session": pl.Date,
        "column": pl.String,
        "before": pl.Float64,
        "after": pl.Float64,
        "seen_at": UTC_TIME,
    }
)

#: A figure of the vendor that other figures of the vendor contradict. `expected` is null where none can be told;
#: `repaired` where `daily_bars` holds it, or needs no such figure.
QUARANTINE_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "session": pl.Date,
        "kind": pl.String,
        "column": pl.String,
        "found": pl.Float64,
        "expected": pl.Float64,
        "repaired": pl.Boolean,
        "seen_at": UTC_TIME,
    }
)

#: Who belonged to the universe when; `to_session` is null while the membership lasts (inclusive otherwise).
UNIVERSE_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "name": pl.String,
        "sector": pl.String,
        "from_session": pl.Date,
        "to_session": pl.Date,
    }
)

#: Why a ticker has no bar from session `first` to `last` (`market/outcomes.py`), as of `fetched_at`.
OUTCOME_SCHEMA = pl.Schema(
    {
        "ticker": pl.String,
        "first": pl.Date,
        "last": pl.Date,
        "outcome": pl.String,
        "reason": pl.String,
        "fetched_at": UTC_TIME,
    }
)
