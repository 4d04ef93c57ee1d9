"""How long after an event a reader could know of it, or how long before."""

from collections.abc import Mapping

import polars as pl

#: Days from the event to the moment at which it was known, at which bins begin and end; None without end.
EDGES = (None, -30.0, -14.0, -7.0, -1.0, 0.0, 1.0, 3.0, 7.0, 30.0, 90.0, None)

LAGS = pl.Schema(
    {
        "side_input": pl.String,
        "bin": pl.Int32,
        "low": pl.Float64,
        "high": pl.Float64,
        "share": pl.Float64,
        "rows": pl.Int64,
    }
)


def known_lags(of_inputs: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """`LAGS`: by side input that has rows (event_time, known_at), the share of them in each bin of EDGES.

    A lag below 0 was known ahead. A row on an edge belongs to the bin that begins there.

    >>> from datetime import UTC, datetime
    >>> row = {"event_time": [datetime(2024, 5, 2, tzinfo=UTC)], "known_at": [datetime(2024, 4, 20, tzinfo=UTC)]}
    >>> known_lags({"announcements": pl.DataFrame(row)}).filter(pl.col("rows") > 0).select("low", "high").row(0)
    (-14.0, -7.0)
    """
    parts = [pl.DataFrame(schema=LAGS)]
    for name, rows in of_inputs.items():
        if rows.is_empty():
            continue
        days = rows.select((pl.col("known_at") - pl.col("event_time")).dt.total_seconds() / 86_400).to_series()
        place = pl.Series([edge for edge in EDGES if edge is not None]).search_sorted(days, side="right")
        counts = dict(place.value_counts().iter_rows())
        bins = range(len(EDGES) - 1)
        columns = {
            "side_input": [name] * len(bins),
            "bin": [i + 1 for i in bins],
            "low": EDGES[:-1],
            "high": EDGES[1:],
            "share": [counts.get(i, 0) / rows.height for i in bins],
            "rows": [counts.get(i, 0) for i in bins],
        }
        parts.append(pl.DataFrame(columns, LAGS))
    return pl.concat(parts)
