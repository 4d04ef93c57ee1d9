"""The market group: who could be traded, what the vendor said, and the one clean bar."""

from collections.abc import Callable, Sequence
from datetime import date, datetime

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import trading_days
from stock_assets.defs.tables import chosen_sessions, preview, report_sessions, table_asset
from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market import adjustments, quality
from stock_assets.market.sources import Source
from stock_assets.market.sources.factory import make_universe
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import MissingTableError, Warehouse

Clock = Callable[[], datetime]

#: Every fetch asks for so many sessions before its own once more, so that what the vendor restated within a week is
#: seen the next evening.
LOOK_AGAIN = 5

SIMULATED = " **SIMULATED: made-up prices with a planted signal, no market.**"


def market_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    days = trading_days(settings)
    source_note = SIMULATED if settings.source == "simulated" else f" Source: {settings.source}."

    @table_asset(
        "universe",
        description="Who was a member of the universe when, as far as the source knows." + source_note,
    )
    def universe(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        members, told = make_universe(settings, source, clock())
        members = members.sort("ticker", "from_session").with_columns(
            currency=pl.lit(settings.listing_currency, pl.String)
        )
        if "warning" in told:
            context.log.warning(told["warning"])
        require_one_source(warehouse, source)
        warehouse.replace_table("universe", members)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": members.height,
                "tickers": members["ticker"].n_unique(),
                "still_members": members["to_session"].null_count(),
                "sectors": members["sector"].drop_nulls().n_unique(),
                "preview": preview(members),
                **told,
            }
        )

    @table_asset(
        "raw_ohlcv",
        description=(
            "What the vendor said, word for word, and when. Append-only: a bar the vendor restates becomes a new "
            "version with its own `fetched_at`, and the old one stays." + source_note
        ),
        deps=["universe"],
        partitions=days,
    )
    def raw_ohlcv(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        first, last = sessions[0], sessions[-1]
        require_one_source(warehouse, source)
        tickers = warehouse.read("universe", columns=["ticker"])["ticker"].unique().sort().to_list()
        before = settings.calendar.before(first, LOOK_AGAIN)
        again = warehouse.sessions("raw_ohlcv", before[0], before[-1]) if before else set()
        since = min(again, default=first)
        fetched = source.fetch(tickers, since, last, clock()).filter(pl.col("session").is_in([*again, *sessions]))
        answer = fetched.filter(pl.col("session").is_in(sessions))
        if silent := sorted(set(sessions) - set(answer["session"])):
            raise EmptySourceError(
                f"{source.name} has no bar of any of {len(tickers)} tickers for {len(silent)} session(s): "
                f"{', '.join(map(str, silent[:5]))}{', …' if len(silent) > 5 else ''}; "
                f"{settings.exchange} was open, so every session should have some"
            )
        new = adjustments.new_versions(stored_versions(warehouse, since, last, fetched), fetched)
        of_range = new.filter(pl.col("session").is_in(sessions)).height
        if new.height:
            warehouse.append("raw_ohlcv", new)
        return report_sessions(
            context,
            answer,
            sessions,
            about_last={
                "new_versions": dg.MetadataValue.int(of_range),
                "unchanged": dg.MetadataValue.int(answer.height - of_range),
                "restated_before_the_range": dg.MetadataValue.int(new.height - of_range),
                "source": dg.MetadataValue.text(source.name),
            },
        )

    @table_asset(
        "daily_bars",
        description=(
            "The one clean bar of every ticker and session, **as traded**: the version fetched last, multiplied back "
            "by every later split. `total_return` never changes again. A `suspect` bar stays here and in labels, but "
            "neither trains nor scores." + source_note
        ),
        deps=["raw_ohlcv", "universe"],
        partitions=days,
        checks=checks.specs("daily_bars", checks.DAILY_BAR_CHECKS),
    )
    def daily_bars(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        first, last = sessions[0], sessions[-1]
        lookback = settings.calendar.before(first, quality.LOOKBACK_SESSIONS)
        warehouse.require(
            ["raw_ohlcv"],
            [*lookback, *sessions],
            "daily_bars",
            f"{quality.LOOKBACK_SESSIONS} sessions of look-back",
        )
        raw = warehouse.read("raw_ohlcv", (lookback or sessions)[0], last)
        members = warehouse.read("universe")
        known = settings.calendar.between(settings.calendar.sessions[0], last)
        bars = adjustments.clean_bars(raw, members, known).filter(pl.col("session").is_in(sessions))
        restated = adjustments.restatements(stored_bars(warehouse, sessions, bars), bars, clock())
        warehouse.replace_sessions(
            "daily_bars", sessions, bars, beside={"restatements": restated} if restated.height else None
        )
        suspect = bars["suspect"].drop_nulls().value_counts(sort=True)
        return report_sessions(
            context,
            bars,
            sessions,
            checks.daily_bar_results(bars, members),
            {
                "suspect_bars": dg.MetadataValue.json(dict(suspect.iter_rows())),
                "tickers": dg.MetadataValue.int(bars["ticker"].n_unique()),
                "restated_figures": dg.MetadataValue.int(restated.height),
            },
        )

    @table_asset(
        "context_series",
        description=(
            "Daily bars of what is no stock of the universe: the volatility index ^VIX, the index ^GSPC and SPY, a "
            "fund that holds it. Rows of days without a session are left out and counted. Features and the market "
            "comparison of the report read them; a source that has none leaves the table empty." + source_note
        ),
        partitions=days,
        checks=checks.specs(
            "context_series",
            {"complete": "every series that the source has, has a bar of every session"},
            blocking=False,
        ),
    )
    def context_series(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        require_one_source(warehouse, source)
        before = settings.calendar.before(sessions[0], LOOK_AGAIN)
        answer = source.context((*before, sessions[0])[0], sessions[-1], clock())
        rows = answer.rows.filter(pl.col("session").is_in(sessions))
        late = late_rows(warehouse, before, answer.rows)
        warehouse.replace_sessions(
            "context_series", sessions, rows, beside={"context_series": late} if late.height else None
        )
        expected = warehouse.read_sql("context_series", "SELECT DISTINCT series FROM market.context_series")
        absent = (
            expected.join(pl.DataFrame({"session": sessions}, schema={"session": pl.Date}), how="cross")
            .join(rows, on=["series", "session"], how="anti")
            .sort("session", "series")
        )
        return report_sessions(
            context,
            rows,
            sessions,
            [checks.result("context_series", "complete", absent, blocking=False)],
            {
                "series": dg.MetadataValue.json(rows["series"].unique().sort().to_list()),
                "came_late": dg.MetadataValue.int(late.height),
                "left_out_without_a_session": dg.MetadataValue.json(answer.off_session),
            },
        )

    return [universe, raw_ohlcv, daily_bars, context_series]


def require_one_source(warehouse: Warehouse, source: Source) -> None:
    """Raises SourceError when the store was filled from another source: prices of two must never mix."""
    try:
        filled_from = warehouse.read_sql("raw_ohlcv", "SELECT DISTINCT source FROM market.raw_ohlcv")["source"]
    except MissingTableError:
        return
    if other := sorted(set(filled_from) - {source.name}):
        raise SourceError(
            f"the store {warehouse.path.name} holds {other[0]} prices and STOCK_ASSETS_SOURCE is {source.name}; "
            "expected one source per store: set STOCK_ASSETS_DATA_DIR to another folder"
        )


def late_rows(warehouse: Warehouse, sessions: Sequence[date], answered: pl.DataFrame) -> pl.DataFrame:
    """The rows of `answered` that the vendor did not have yet when their session, one of `sessions`, was made."""
    keys = ["series", "session"]
    try:
        stored = warehouse.read("context_series", *(sessions[0], sessions[-1]), keys) if sessions else answered.clear()
    except MissingTableError:
        return answered.clear()
    made = answered.filter(pl.col("session").is_in(sessions)).join(stored, on="session", how="semi")
    return made.join(stored, on=keys, how="anti")


def stored_versions(warehouse: Warehouse, first: date, last: date, like: pl.DataFrame) -> pl.DataFrame:
    """The latest version of every bar stored from `first` to `last`; no row before the first write."""
    try:
        return adjustments.latest_versions(warehouse.read("raw_ohlcv", first, last))
    except MissingTableError:
        return like.clear()


def stored_bars(warehouse: Warehouse, sessions: Sequence[date], like: pl.DataFrame) -> pl.DataFrame:
    """The bars of `sessions` that are stored; no row before the first write."""
    try:
        return warehouse.read("daily_bars", sessions[0], sessions[-1]).filter(pl.col("session").is_in(sessions))
    except MissingTableError:
        return like.clear()
