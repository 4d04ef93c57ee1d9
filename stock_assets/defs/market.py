"""The market group: which tickers could be traded, what the vendor stated, and the one clean bar."""

import dagster as dg

from stock_assets.defs import checks
from stock_assets.defs.partitions import trading_days
from stock_assets.defs.tables import SIMULATED, Clock, chosen_sessions, preview, report_sessions, table_asset
from stock_assets.escape import one_line
from stock_assets.market.materialize.clean import CleanedBars, clean_daily_bars
from stock_assets.market.materialize.context import FetchedContext, fetch_context
from stock_assets.market.materialize.fetch import FetchedBars, fetch_bars
from stock_assets.market.materialize.universe import MadeUniverse, make_universe
from stock_assets.market.sources import Source
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


def market_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    note = SIMULATED if settings.source == "simulated" else f" Source: {settings.source}."
    return [asset(settings, note) for asset in (universe_asset, _raw_ohlcv, _daily_bars, _context_series)]


def universe_asset(settings: Settings, note: str) -> dg.AssetsDefinition:
    """The asset `universe`."""

    @table_asset("universe", description="Which tickers were members when, as far as the source knows." + note)
    def universe(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        new_universe = make_universe(warehouse, settings, source, now=clock())
        if new_universe.warning:
            context.log.warning(one_line(new_universe.warning))
        return dg.MaterializeResult(metadata=_about_universe(new_universe))

    return universe


def _about_universe(universe: MadeUniverse) -> dict[str, dg.MetadataValue | int | str]:
    rows = universe.rows
    return {
        "dagster/row_count": rows.height,
        "tickers": rows["ticker"].n_unique(),
        "still_members": rows["to_session"].null_count(),
        "sectors": rows["sector"].drop_nulls().n_unique(),
        "preview": preview(rows),
        **universe.counts,
        **({"warning": one_line(universe.warning)} if universe.warning else {}),
        **({"files": dg.MetadataValue.json(dict(universe.notes))} if universe.notes else {}),
    }


def _raw_ohlcv(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "raw_ohlcv",
        description=(
            "Every bar as the vendor stated it, and when it was fetched. Append-only: a bar the vendor restates "
            "becomes a new version with its own `fetched_at`, and the old one stays." + note
        ),
        deps=["universe"],
        partitions=trading_days(settings),
        checks=checks.specs("raw_ohlcv", checks.RAW_CHECKS, blocking=False),
    )
    def raw_ohlcv(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        fetched_bars = fetch_bars(warehouse, settings, source, sessions=sessions, now=clock())
        answer_check = checks.answered_result(fetched_bars.failures, fetched_bars.members)
        return report_sessions(
            context,
            fetched_bars.bars,
            sessions,
            checks=[answer_check],
            about_last=_about_fetch(fetched_bars, source.name),
        )

    return raw_ohlcv


def _about_fetch(fetched_bars: FetchedBars, source: str) -> dict[str, dg.MetadataValue]:
    return {
        "new_versions": dg.MetadataValue.int(fetched_bars.new_versions),
        "unchanged": dg.MetadataValue.int(fetched_bars.bars.height - fetched_bars.new_versions),
        "restated_before_the_range": dg.MetadataValue.int(fetched_bars.restated_earlier),
        "splits_not_applied": dg.MetadataValue.int(fetched_bars.unapplied_splits),
        "sessions_without_bars": dg.MetadataValue.json([str(session) for session in fetched_bars.skipped]),
        "rows_held_out": dg.MetadataValue.int(fetched_bars.held_out),
        "sessions_that_minutes_do_not_cover": dg.MetadataValue.int(fetched_bars.uncovered),
        "failed_tickers": dg.MetadataValue.json(dict(fetched_bars.failures)),
        "source": dg.MetadataValue.text(source),
    }


def _daily_bars(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "daily_bars",
        description=(
            "The one clean bar of every ticker and session, **as traded**: the version fetched last, multiplied back "
            "by every later split. `total_return` never changes again. A `suspect` bar stays here and in labels, but "
            "neither trains nor scores; what the vendor's own figures contradict is in the table `quarantine`. "
            "`provisional` until a later fetch confirms or changes it." + note
        ),
        deps=["raw_ohlcv", "universe"],
        partitions=trading_days(settings),
        checks=checks.daily_bar_specs(),
    )
    def daily_bars(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        clean_bars = clean_daily_bars(warehouse, settings, sessions, now=clock())
        results = checks.results_of(clean_bars.bars.findings_of_checks(clean_bars.findings))
        return report_sessions(context, clean_bars.bars, sessions, checks=results, about_last=_about_bars(clean_bars))

    return daily_bars


def _about_bars(clean_bars: CleanedBars) -> dict[str, dg.MetadataValue]:
    kinds = clean_bars.findings["kind"].value_counts(sort=True)
    return {
        "suspect_bars": dg.MetadataValue.json(dict(clean_bars.bars.suspect.most_common())),
        "tickers": dg.MetadataValue.int(len(clean_bars.bars.tickers)),
        "restated_figures": dg.MetadataValue.int(clean_bars.restated),
        "found_wrong": dg.MetadataValue.json(dict(kinds.iter_rows())),
        "provisional_bars": dg.MetadataValue.int(clean_bars.bars.provisional),
    }


def _context_series(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "context_series",
        description=(
            "Daily bars of what is no stock of the universe: the volatility index ^VIX, the index ^GSPC and SPY, a "
            "fund that holds it. Append-only, as raw_ohlcv; rows of days without a session are left out and counted. "
            "Features and the market comparison of the report read the newest versions; a source that has no series "
            "leaves the table empty." + note
        ),
        partitions=trading_days(settings),
        checks=checks.specs("context_series", checks.CONTEXT_CHECKS, blocking=False),
    )
    def context_series(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        fetched_context = fetch_context(warehouse, settings, source, sessions=sessions, now=clock())
        complete = checks.result("context_series", "complete", fetched_context.absent, blocking=False)
        return report_sessions(
            context, fetched_context.rows, sessions, checks=[complete], about_last=_about_context(fetched_context)
        )

    return context_series


def _about_context(fetched_context: FetchedContext) -> dict[str, dg.MetadataValue]:
    return {
        "series": dg.MetadataValue.json(fetched_context.rows["series"].unique().sort().to_list()),
        "new_versions": dg.MetadataValue.int(fetched_context.new_versions),
        "came_late": dg.MetadataValue.int(fetched_context.late),
        "restated_before_the_range": dg.MetadataValue.int(fetched_context.restated),
        "left_out_without_a_session": dg.MetadataValue.json(dict(fetched_context.off_session)),
        "failed_series": dg.MetadataValue.json(dict(fetched_context.failures)),
    }
