"""What our checks find in broken vendor histories, against what yfinance made of them with hindsight.

    python -m benchmarks repair

Every case is one history as Yahoo answered it, and the same as yfinance's own repair left it. Ours is judged bar by
bar, in the evening of each, but for the basis of old prices. A *false* figure is a total return that differs from the
repaired one by more than 1 %; of dividends, an amount that yfinance changed; an *adjustment* is false where the return
between two adjusted closes differs on an ex-date. Zero and frozen bars are not among the cases: every 40th bar of the
histories without an error is made one.
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.common import DATA, preamble, table
from stock_assets.market.adjustments import clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.answers import BARS, with_history
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.market.splits import unapplied_splits
from stock_assets.market.tables import RAW_SCHEMA

CASES = DATA / "yfinance_repair_cases.parquet"
HEALTHY = DATA / "yahoo_102_tickers_with_actions_2016_2026.parquet"
FETCHED = datetime(2030, 1, 1, tzinfo=UTC)
FALSE_RETURN, FALSE_ADJUSTMENT = 0.01, 5e-4
#: A dividend told twice is one error, whichever of the two is called false.
ONE_EVENT = 15
BROKEN_EVERY = 40


class Score(NamedTuple):
    kind: str
    false: int
    found: int
    right: int
    mended: int
    """false returns that are the repaired ones within 0.1 %"""
    kept_out: int
    """false figures on bars that are mended or suspect, or that no figure of ours is made of"""

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.false if self.false else 1.0


def measured(path: Path = CASES) -> list[Score]:
    """The scores of every kind over all cases."""
    rows = [row for dirty, repaired in cases(path) for row in compared(dirty, repaired)]
    return [score(kind, rows) for kind in ("unit", "split", "dividend", "adjustment")] + [
        injected(kind, path) for kind in ("no_price", "frozen")
    ]


def cases(path: Path) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """(as answered, as repaired) of every case; a case without an error is its own repair."""
    frames = {name: frame for (name,), frame in pl.read_parquet(path).group_by("case", maintain_order=True)}
    for name, frame in frames.items():
        if not str(name).endswith("-fixed"):
            yield history(frame), history(frames.get(f"{name}-fixed", frame))


def history(case: pl.DataFrame) -> pl.DataFrame:
    """The rows of `case` with a price as `RAW_SCHEMA`; the n-th stands on the n-th session of the calendar."""
    bars_in_order = case.filter(pl.col("close").is_not_null()).with_columns(
        moment=pl.col("ts_raw").str.to_datetime(time_zone="UTC")
    )
    bars_in_order = bars_in_order.sort("moment")
    bars = bars_in_order.select(
        place=pl.lit("case"),
        ticker=pl.col("case").str.strip_suffix("-fixed"),
        session=pl.Series(SESSIONS[: bars_in_order.height], dtype=pl.Date),
        **{name: pl.col(name) for name in ("open", "high", "low", "close", "adj_close", "volume")},
        dividend=pl.col("dividends"),
        split_ratio=pl.col("stock_splits").replace(0.0, 1.0),
    ).with_columns(pl.col("volume").fill_null(0.0))
    return (
        with_history(bars.match_to_schema(BARS))
        .with_columns(source=pl.lit("case"), fetched_at=pl.lit(FETCHED, pl.Datetime("us", "UTC")))
        .select(RAW_SCHEMA.names())
    )


def judged(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    universe = raw.select("ticker", from_session="session", to_session=pl.lit(None, pl.Date)).head(1)
    return clean_bars_and_findings(raw, universe, SESSIONS[: raw.height])


class Row(NamedTuple):
    kind: str
    false: bool
    found: bool
    mended: bool
    kept_out: bool


def compared(dirty: pl.DataFrame, repaired: pl.DataFrame) -> list[Row]:
    """The bars of one case of which a figure is false or called so."""
    bars, findings = judged(dirty)
    name = dirty["ticker"][0]
    price_kind = "unit" if "100x" in name or "bad-unit" in name else "split"
    price_case = price_kind == "unit" or "stock-split" in name
    close, split = pl.col("close"), pl.col("split_ratio")

    def naive(frame: pl.DataFrame) -> pl.DataFrame:
        # in the vendor's basis all prices are adjusted for splits, or are meant to be
        return frame.select(
            "session",
            "dividend",
            plain=(close + pl.col("dividend")) / close.shift() - 1,
            adjusted=pl.col("adj_close") / pl.col("adj_close").shift() - 1,
            split=split,
        )

    reported_sessions = {
        kind: set(findings.filter(pl.col("kind") == kind)["session"]) for kind in ("unit", "dividend", "adjustment")
    }
    joint_bars = (
        naive(dirty)
        .join(naive(repaired), on="session", suffix="_true")
        .join(bars.select("session", "total_return", "suspect"), on="session", how="left")
        .with_columns(
            false_return=(pl.col("plain") - pl.col("plain_true")).abs() > FALSE_RETURN,
            changed=(pl.col("total_return") - pl.col("plain")).abs() > FALSE_RETURN,
            mended=((1 + pl.col("total_return")) / (1 + pl.col("plain_true")) - 1).abs() < 1e-3,
            false_dividend=(pl.col("dividend") - pl.col("dividend_true")).abs() > 1e-9,
            false_adjustment=((1 + pl.col("adjusted")) / (1 + pl.col("adjusted_true")) - 1).abs() > FALSE_ADJUSTMENT,
        )
        .fill_null(value=False)
        .with_row_index("place")
    )
    if price_case:
        return [
            Row(price_kind, row["false_return"], row["changed"], row["mended"], row["mended"] or row["suspect"] != "")
            for row in joint_bars.with_columns(suspect=pl.col("suspect").cast(pl.String).fill_null("")).iter_rows(
                named=True
            )
            if row["false_return"] or row["changed"]
        ]
    rows = []
    false = joint_bars.filter("false_dividend")
    named_bars = joint_bars.filter(pl.col("session").is_in(list(reported_sessions["dividend"])))
    taken_places: set[int] = set()
    for row in false.iter_rows(named=True):
        near_places = [
            at for at in named_bars["place"] if abs(at - row["place"]) <= ONE_EVENT and at not in taken_places
        ]
        hit = min(near_places, key=lambda at: abs(at - row["place"]), default=None)
        taken_places |= {hit} if hit is not None else set()
        is_held = row["mended"] or hit == row["place"]
        rows.append(Row("dividend", True, hit is not None, row["mended"], is_held))
    rows += [Row("dividend", False, True, False, False) for at in named_bars["place"] if at not in taken_places]
    for row in joint_bars.filter(~pl.col("false_dividend")).iter_rows(named=True):
        is_found = row["session"] in reported_sessions["adjustment"]
        if (row["dividend"] > 0 or row["dividend_true"] > 0) and (row["false_adjustment"] or is_found):
            rows.append(Row("adjustment", row["false_adjustment"], is_found, row["mended"], True))
    return rows


def score(kind: str, rows: list[Row]) -> Score:
    of_kind = [row for row in rows if row.kind == kind]
    return Score(
        kind,
        false=sum(row.false for row in of_kind),
        found=sum(row.found for row in of_kind),
        right=sum(row.false and row.found for row in of_kind),
        mended=sum(row.false and row.mended for row in of_kind),
        kept_out=sum(row.false and row.kept_out for row in of_kind),
    )


def injected(kind: str, path: Path) -> Score:
    """Histories without an error, with every 40th bar made one of `kind`."""
    false = found_count = right = 0
    for dirty, repaired in cases(path):
        if not dirty.equals(repaired):
            continue
        broken = pl.int_range(pl.len()) % BROKEN_EVERY == BROKEN_EVERY - 1
        flat = {
            name: pl.when(broken).then(pl.col("close").shift()).otherwise(name)
            for name in ("open", "high", "low", "close")
        }
        faults = {"no_price": {"close": pl.when(broken).then(0.0).otherwise("close")}, "frozen": flat}[kind]
        volume = pl.when(broken).then(0.0).otherwise("volume") if kind == "frozen" else pl.col("volume")
        worse = dirty.with_columns(**faults, volume=volume)
        truth = set(worse.filter(broken)["session"])
        reported_sessions = set(judged(worse)[1].filter(pl.col("kind") == kind)["session"])
        # what was frozen from the start is no error of ours
        reported_sessions -= set(judged(dirty)[1].filter(pl.col("kind") == kind)["session"]) - truth
        false, found_count, right = (
            false + len(truth),
            found_count + len(reported_sessions),
            right + len(truth & reported_sessions),
        )
    return Score(kind, false, found_count, right, 0, right)


def healthy(path: Path = HEALTHY) -> tuple[int, pl.DataFrame]:
    """The bars of ten ordinary years of 102 tickers, and what is found in them."""
    first, last = date(2016, 3, 14), date(2026, 3, 13)
    calendar = trading_calendar("XNYS", first)
    source = SnapshotSource(path, calendar)
    universe = source.universe()
    raw = source.fetch(universe["ticker"].to_list(), first, last, fetched_at=FETCHED).bars
    _, findings = clean_bars_and_findings(raw, universe, calendar.between(first, last))
    return raw.height, pl.concat([unapplied_splits(raw), findings])


SESSIONS = trading_calendar("XNYS", date(1995, 1, 3)).sessions


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    preamble()
    rows = [
        (s.kind, s.false, s.found, f"{s.precision:.2f}", f"{s.recall:.2f}", s.mended, s.kept_out) for s in measured()
    ]
    print(table(("kind", "false", "found", "precision", "recall", "mended", "kept out"), rows))
    bars, findings = healthy()
    kinds = findings["kind"].value_counts().sort("kind").rows()
    kind_counts = ", ".join(
        f"{kind} {count}" for kind, count in kinds if kind in ("unit", "split", "dividend", "adjustment")
    )
    print(f"On the {bars:,} bars of {HEALTHY.name}, which nobody repaired: {kind_counts}.\n")


if __name__ == "__main__":
    main()
