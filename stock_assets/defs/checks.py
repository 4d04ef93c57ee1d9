"""From a pure finding to an asset check: what passed, how grave it is, and who the offenders are.

The asset that writes the rows reports its own checks, on exactly the sessions it wrote. An error blocks
what stands downstream in the same run; a warning is for a person to look at.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl

from stock_assets.defs.tables import markdown_table
from stock_assets.frames import repeated
from stock_assets.market import quality

#: A check that finds more than this share of a session's tickers wrong has found the vendor wrong.
SYSTEMATIC = 0.10
OFFENDERS_SHOWN, OFFENDERS_NAMED = 20, 600

RAW_CHECKS = {"answered": "the vendor answered for every ticker; names the others, which the next run asks for again"}
CONTEXT_CHECKS = {"complete": "every series that the source has, has a bar of every session"}


def daily_bar_specs() -> list[dg.AssetCheckSpec]:
    """The specifications of the checks on `daily_bars`, one for every bar check that is registered."""
    texts = {
        "unique_bars": "one bar per (ticker, session)",
        "positive_prices": "every price is positive and finite, no volume is negative",
        "coverage": f"at least {quality.COVERAGE:.0%} of the members have a bar on every session; names the others",
        "adjusted_closes": "the vendor's adjusted closes imply the dividends and splits that it states",
        **{f"no_{check.name}": f"no bar is suspect because {check.text}" for check in quality.BAR_CHECKS.values()},
    }
    return specs("daily_bars", texts)


def specs(table: str, checks: Mapping[str, str], *, blocking: bool = True) -> list[dg.AssetCheckSpec]:
    """The specifications of `checks` (name: description) on `table`."""
    return [
        dg.AssetCheckSpec(name=name, asset=table, description=text, blocking=blocking) for name, text in checks.items()
    ]


def result(
    table: str,
    name: str,
    offenders: pl.DataFrame,
    *,
    blocking: bool,
    metadata: Mapping[str, dg.MetadataValue | float | int | str] | None = None,
) -> dg.AssetCheckResult:
    """Passed where there are no `offenders`; else failed, an error where `blocking`, with the first of them."""
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(table),
        check_name=name,
        passed=offenders.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        metadata={
            "offenders": offenders.height,
            **({} if offenders.is_empty() else _named(offenders)),
            **(metadata or {}),
        },
    )


def _named(offenders: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    """Who it is, at a glance and as a table."""
    key = "ticker" if "ticker" in offenders.columns else offenders.columns[0]
    names = offenders[key].unique(maintain_order=True).cast(pl.String).to_list()
    more = f" and {len(names) - OFFENDERS_NAMED} more" if len(names) > OFFENDERS_NAMED else ""
    return {
        "named": dg.MetadataValue.text(", ".join(names[:OFFENDERS_NAMED]) + more),
        "sample": dg.MetadataValue.md(markdown_table(offenders.head(OFFENDERS_SHOWN))),
    }


def answered_result(failures: Mapping[str, str], members: int) -> dg.AssetCheckResult:
    """The check of RAW_CHECKS on the answers about `members` tickers; `failures` holds why there is none, by ticker."""
    offenders = pl.DataFrame(list(failures.items()), {"ticker": pl.String, "reason": pl.String}, orient="row")
    return result("raw_ohlcv", "answered", offenders, blocking=False, metadata={"asked": members})


def daily_bar_results(bars: pl.DataFrame, universe: pl.DataFrame, findings: pl.DataFrame) -> list[dg.AssetCheckResult]:
    """All of `daily_bar_specs` on the rows just written and on what `repair` found in them."""
    table = "daily_bars"
    absent = quality.absent_members(bars, universe)
    thin = quality.thin_sessions(bars, absent)
    results = [
        result(table, "unique_bars", repeated(bars), blocking=True),
        result(table, "positive_prices", quality.impossible_prices(bars), blocking=True),
        result(
            table,
            "coverage",
            thin if thin.height else absent,
            blocking=thin.height > 0,
            metadata={"threshold": quality.COVERAGE, "sessions_below": thin.height},
        ),
    ]
    contradicted = findings.filter(pl.col("kind") == "adjustment").drop("kind", "repaired")
    results.append(result(table, "adjusted_closes", contradicted, blocking=False))
    size = bars.group_by("session").agg(bars=pl.len())
    for check in quality.BAR_CHECKS.values():
        flagged = bars.filter(pl.col("suspect") == check.name)
        shares = flagged.group_by("session").len().join(size, on="session")
        shares = shares.with_columns(share=pl.col("len") / pl.col("bars"))
        tickers = (
            flagged.group_by("ticker")
            .agg(bars=pl.len(), first=pl.col("session").min(), last=pl.col("session").max())
            .sort("bars", "ticker", descending=[True, False])
        )
        # a few bad tickers stay out of training and scoring by their flag; a bad session must not travel on, and of a
        # handful of tickers a single one is no session
        systematic = shares.filter(pl.col("share") > SYSTEMATIC, pl.col("len") > 1)
        highest = float(shares["share"].max() or 0.0)  # pyright: ignore[reportArgumentType]: a number
        blocking = systematic.height > 0 and check.against_vendor
        results.append(
            result(
                table,
                f"no_{check.name}",
                tickers,
                blocking=blocking,
                metadata={"highest_share_of_a_session": highest, "blocks_above": SYSTEMATIC},
            )
        )
    return results


def finite_result(table: str, frame: pl.DataFrame, columns: Sequence[str]) -> dg.AssetCheckResult:
    """Blocks where a number of `frame` is null, NaN or infinite, and names the ticker, session and column."""
    finite = {name: pl.col(name).is_finite().fill_null(value=False) for name in columns}
    whole = frame.select(**{name: test.all() for name, test in finite.items()}).row(0, named=True)
    # one by one only where something is wrong; the first for its schema
    wrong = [name for name in columns if not whole[name]] or columns[:1]
    bad = pl.concat(
        frame.filter(~finite[name]).select("ticker", "session", column=pl.lit(name), value=pl.col(name))
        for name in wrong
    )
    return result(table, "finite", bad, blocking=True)
