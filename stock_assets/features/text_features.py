"""How much is written about a ticker, and in which tone, over the last sessions.

A text counts in the session by whose close it was first known, with the tone that it had then. Models do not read these
columns: no texts of the years of the study were there to measure them on.
"""

from collections.abc import Mapping

import polars as pl

from stock_assets.features.side_features import SideColumn, SideFrames, SideGroup, register_side_group
from stock_assets.side_inputs.tables import TEXTS

WINDOWS = (1, 5, 22)
COLUMNS: Mapping[str, SideColumn] = {
    **{f"texts_{n}": SideColumn(f"ln(1 + texts) of the last {n} sessions", 0.0, 10.0) for n in WINDOWS},
    **{f"tone_{n}": SideColumn(f"mean tone of the texts of the last {n} sessions", -1.0, 1.0) for n in WINDOWS},
}


def text_columns(frames: SideFrames) -> pl.DataFrame:
    """ticker, session and `COLUMNS` of every bar of the sessions of `frames`.

    The number is null before the first text of any ticker, 0 where none is about this one, and then the tone is null.
    """
    places = pl.DataFrame(
        {"session": list(frames.calendar.sessions)}, {"session": pl.Date}
    ).with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))  # fmt: skip
    texts = (
        frames.rows[TEXTS.name]
        .sort("known_at", "fetched_at", maintain_order=True)
        .unique(["subject", "kind", "name"], keep="first", maintain_order=True)
    )
    daily = (
        texts.join(places, on="session")
        .group_by("subject", "place")
        .agg(texts=pl.len().cast(pl.Int64), tones=pl.col("tone").sum())
        .sort("subject", "place")
        .with_columns(pl.col("texts", "tones").cum_sum().over("subject"))
        .sort("place")
    )
    bars = frames.bars.select("ticker", "session").filter(pl.col("session").is_in(list(frames.sessions)))
    rows = bars.join(places, on="session").sort("place")
    now = _until(rows, daily, 0)
    for n in WINDOWS:
        before = _until(rows, daily, n)
        count = now["texts"] - before["texts"]
        tone = (now["tones"] - before["tones"]) / count
        rows = rows.with_columns(
            count.cast(pl.Float64).log1p().alias(f"texts_{n}"), tone.set(count == 0, None).alias(f"tone_{n}")
        )
    first = texts["session"].min()
    is_known = pl.col("session") >= first if first is not None else pl.lit(value=False)
    return rows.select("ticker", "session", *(pl.when(is_known).then(pl.col(name)).alias(name) for name in COLUMNS))


def _until(rows: pl.DataFrame, daily: pl.DataFrame, sessions_ago: int) -> pl.DataFrame:
    """texts and tones of the ticker of each of `rows` up to so many sessions before it, added up."""
    places = rows.select(pl.col("ticker").alias("subject"), pl.col("place") - sessions_ago)
    return places.join_asof(daily, on="place", by="subject", check_sortedness=False).select(
        pl.col("texts").fill_null(0), pl.col("tones").fill_null(0.0)
    )


GROUP = register_side_group(
    SideGroup(
        name="texts",
        reads=(TEXTS.name,),
        columns=COLUMNS,
        compute=text_columns,
        lookback=0,
        in_model=False,
        bar_columns=(),
    )
)
