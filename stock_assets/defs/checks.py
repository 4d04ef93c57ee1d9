"""From a pure finding to an asset check: whether it passed, how grave it is, and which rows offend.

The asset that writes the rows reports its own checks, on exactly the sessions it wrote. An error blocks the assets
downstream in the same run; a warning is for a person to look at.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl

from stock_assets.escape import one_line
from stock_assets.features.absent import Absent
from stock_assets.frames import RowSummary, markdown_table, rows_not_finite
from stock_assets.market.checks import Finding, daily_bar_checks, daily_bar_findings
from stock_assets.market.context import VOLATILITY

OFFENDERS_SHOWN, OFFENDERS_NAMED = 20, 600

RAW_CHECKS = {"answered": "the vendor answered for every ticker; names the others, which the next run asks for again"}
CONTEXT_CHECKS = {"complete": "every series that the source has, has a bar of every session"}


def daily_bar_specs() -> list[dg.AssetCheckSpec]:
    """The specifications of the checks on `daily_bars`, one for every bar check that is registered."""
    return specs("daily_bars", daily_bar_checks())


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
            **({} if offenders.is_empty() else _named_offenders(offenders)),
            **(metadata or {}),
        },
    )


def _named_offenders(offenders: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    """The offenders as a line of names and as a table."""
    key = "ticker" if "ticker" in offenders.columns else offenders.columns[0]
    names = offenders[key].unique(maintain_order=True).cast(pl.String).to_list()
    further_offenders = f" and {len(names) - OFFENDERS_NAMED} more" if len(names) > OFFENDERS_NAMED else ""
    return {
        "named": dg.MetadataValue.text(one_line(", ".join(names[:OFFENDERS_NAMED]) + further_offenders)),
        "sample": dg.MetadataValue.md(markdown_table(offenders.head(OFFENDERS_SHOWN))),
    }


def answered_result(failures: Mapping[str, str], members: int, table: str = "raw_ohlcv") -> dg.AssetCheckResult:
    """The check `answered` on the answers about `members` tickers; `failures` holds why there is none, by ticker."""
    offenders = pl.DataFrame(list(failures.items()), {"ticker": pl.String, "reason": pl.String}, orient="row")
    return result(table, "answered", offenders, blocking=False, metadata={"asked": members})


def context_result(gaps: pl.DataFrame, absent_series: Sequence[Absent]) -> dg.AssetCheckResult:
    """The check `market_context`: warns of `gaps` (session, columns), and of a market context that is not there."""
    without = [str(series) for series in absent_series if series.name == VOLATILITY]
    offenders = pl.DataFrame({"missing": without}) if without else gaps
    metadata = {"the_models_lack": "; ".join(series.name for series in absent_series)} if absent_series else {}
    return result("stationary_features", "market_context", offenders, blocking=False, metadata=metadata)


def daily_bar_results(bars: pl.DataFrame, universe: pl.DataFrame, findings: pl.DataFrame) -> list[dg.AssetCheckResult]:
    """All of `daily_bar_specs` on the rows just written and on what `repair` found in them."""
    return results_of(daily_bar_findings(bars, universe, findings))


def results_of(findings: Sequence[Finding]) -> list[dg.AssetCheckResult]:
    """What the checks of daily_bars found, as Dagster takes it."""
    return [
        result("daily_bars", finding.check, finding.offenders, blocking=finding.blocking, metadata=finding.figures)
        for finding in findings
    ]


def finite_result(table: str, rows: pl.DataFrame | RowSummary, columns: Sequence[str]) -> dg.AssetCheckResult:
    """Blocks where a number of `rows` is null, NaN or infinite, and names the ticker, session and column."""
    summary = isinstance(rows, RowSummary)
    return result(
        table, "finite", pl.concat(rows.not_finite) if summary else rows_not_finite(rows, columns), blocking=True
    )
