"""What the checks of daily_bars find: per check the offending rows, and whether they are grave enough to block."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from stock_assets.frames import RowSummary, repeated
from stock_assets.market import quality
from stock_assets.market.findings import no_findings

#: A reason that flags more than this share of a session's tickers is a fault of the vendor and not of the tickers.
SYSTEMATIC = 0.10


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    offenders: pl.DataFrame
    """the rows that are wrong; none where the check passes"""
    blocking: bool
    """whether they keep what is made of the table from being made"""
    figures: Mapping[str, float | int] = field(default_factory=dict)
    """what the check measured, by name"""


def daily_bar_checks() -> dict[str, str]:
    """Name and text of every check on daily_bars, also of those that an extension registers."""
    return {
        "unique_bars": "one bar per (ticker, session)",
        "positive_prices": "every price is positive and finite, no volume is negative",
        "coverage": f"at least {quality.COVERAGE:.0%} of the members have a bar on every session; names the others",
        "adjusted_closes": "the vendor's adjusted closes imply the dividends and splits that it states",
        **{f"no_{check.name}": f"no bar is suspect because {check.text}" for check in quality.BAR_CHECKS.values()},
    }


def daily_bar_findings(bars: pl.DataFrame, universe: pl.DataFrame, findings: pl.DataFrame) -> list[Finding]:
    """Every check on `bars`, the rows just written, and on the `findings` (rows of quarantine without
    its moment) that repair made in them."""
    absences = quality.absent_members(bars, universe)
    thin = quality.thin_sessions(bars, absences)
    contradictions = findings.filter(pl.col("kind") == "adjustment").drop("kind", "repaired")
    return [
        Finding("unique_bars", repeated(bars), blocking=True),
        Finding("positive_prices", quality.impossible_prices(bars), blocking=True),
        Finding(
            "coverage",
            thin if thin.height else absences,
            blocking=thin.height > 0,
            figures={"threshold": quality.COVERAGE, "sessions_below": thin.height},
        ),
        Finding("adjusted_closes", contradictions, blocking=False),
        *(_suspect_finding(bars, check) for check in quality.BAR_CHECKS.values()),
    ]


@dataclass
class BarSummary(RowSummary):
    """What is said of bars that were stored, in one block or in several."""

    universe: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`UNIVERSE_SCHEMA`"""
    suspect: Counter[str] = field(default_factory=Counter)
    """bars by reason"""
    tickers: set[str] = field(default_factory=set)
    provisional: int = 0
    """how many bars are"""
    by_block: list[list[Finding]] = field(default_factory=list)

    def add(self, rows: pl.DataFrame) -> None:
        """Looks at the next rows."""
        super().add(rows)
        self.suspect.update(dict(rows["suspect"].drop_nulls().value_counts().iter_rows()))
        self.tickers.update(rows["ticker"].unique())
        self.provisional += int(rows["provisional"].sum())
        self.by_block.append(daily_bar_findings(rows, self.universe, no_findings()))

    def findings_of_checks(self, findings: pl.DataFrame) -> list[Finding]:
        """`daily_bar_findings` of all these bars, and of the `findings` that repair made in them."""
        of_repair = daily_bar_findings(self.last.clear(), self.universe, findings)
        return [_joint_finding(findings_of_check) for findings_of_check in zip(*self.by_block, of_repair, strict=True)]


def _joint_finding(blocks: Sequence[Finding]) -> Finding:
    """The results of one check on several blocks of sessions as one."""
    blocking = [finding for finding in blocks if finding.blocking]
    # what blocks is named, and nothing else, where a check has two kinds of offenders
    kinds = blocking if blocks[0].check == "coverage" and blocking else blocks
    offenders = pl.concat([finding.offenders for finding in kinds])
    if "bars" in offenders.columns and "first" in offenders.columns:
        sums = pl.col("bars").sum(), pl.col("first").min(), pl.col("last").max()
        offenders = offenders.group_by("ticker").agg(*sums).sort("bars", "ticker", descending=[True, False])
    figures = {
        name: (sum if name == "sessions_below" else max)(finding.figures[name] for finding in blocks)
        for name in blocks[0].figures
    }
    return Finding(blocks[0].check, offenders, blocking=bool(blocking), figures=figures)


def _suspect_finding(bars: pl.DataFrame, check: quality.BarCheck) -> Finding:
    """The tickers that are suspect by `check`, the most often flagged first."""
    suspect_bars = bars.filter(pl.col("suspect") == check.name)
    tickers = (
        suspect_bars.group_by("ticker")
        .agg(bars=pl.len(), first=pl.col("session").min(), last=pl.col("session").max())
        .sort("bars", "ticker", descending=[True, False])
    )
    size = bars.group_by("session").agg(bars=pl.len())
    shares = suspect_bars.group_by("session").len().join(size, on="session")
    shares = shares.with_columns(share=pl.col("len") / pl.col("bars"))
    # a few bad tickers stay out of training and scoring by their flag; a bad session must not travel on, and of a
    # handful of tickers a single one is no session
    systematic = shares.filter(pl.col("share") > SYSTEMATIC, pl.col("len") > 1)
    return Finding(
        f"no_{check.name}",
        tickers,
        blocking=systematic.height > 0 and check.against_vendor,
        figures={
            "highest_share_of_a_session": float(shares["share"].max() or 0.0),  # pyright: ignore[reportArgumentType]
            "blocks_above": SYSTEMATIC,
        },
    )
