"""The market group: who could be traded, what the vendor said, and the one clean bar."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import trading_days
from stock_assets.defs.tables import chosen_sessions, preview, report_sessions, table_asset
from stock_assets.errors import EmptySourceError, MissingTableError, SourceError
from stock_assets.market import adjustments, quality, repair
from stock_assets.market.bars import BAR_SCHEMA, OUTCOME_SCHEMA, QUARANTINE_SCHEMA
from stock_assets.market.calendar import calendar_of, currency_of
from stock_assets.market.outcomes import expected, outcomes, owed, too_many, updated
from stock_assets.market.renames import continued
from stock_assets.market.sources import Answer, Source
from stock_assets.market.sources.factory import make_universe
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

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
        members = members.sort("ticker", "from_session").with_columns(currency=pl.lit(currency_of(settings), pl.String))
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
        checks=checks.specs("raw_ohlcv", checks.RAW_CHECKS, blocking=False),
    )
    def raw_ohlcv(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        require_one_source(warehouse, source)
        universe, now = warehouse.read("universe"), clock()
        told = stored_outcomes(warehouse)
        asks = asked_for(settings, warehouse, universe, sessions, told)
        members = expected(universe, sessions[0])
        answers, reasons = answered(settings, source, asks, members, now)
        news = news_of(settings, warehouse, universe, asks, answers, told, now)
        bars = answers[0].bars.filter(pl.col("session").is_in(sessions))
        if silent := sorted(set(sessions) - set(bars["session"])):
            raise EmptySourceError(
                f"{source.name} has no bar of any of {universe['ticker'].n_unique()} tickers for {len(silent)} "
                f"session(s): {', '.join(map(str, silent[:5]))}{', …' if len(silent) > 5 else ''}; "
                f"{settings.exchange} was open, so every session should have some"
            )
        of_range = news.versions.filter(pl.col("session").is_in(sessions)).height
        for table, rows in (("raw_ohlcv", news.versions), ("quarantine", news.unapplied_splits)):
            if rows.height:
                warehouse.append(table, rows)
        warehouse.replace_table("fetch_outcomes", news.outcomes)
        for answer in answers:
            answer.settle()
        offenders = pl.DataFrame(list(reasons.items()), {"ticker": pl.String, "reason": pl.String}, orient="row")
        return report_sessions(
            context,
            bars,
            sessions,
            [checks.result("raw_ohlcv", "answered", offenders, blocking=False, metadata={"asked": len(members)})],
            about_last={
                "new_versions": dg.MetadataValue.int(of_range),
                "unchanged": dg.MetadataValue.int(bars.height - of_range),
                "restated_before_the_range": dg.MetadataValue.int(news.versions.height - of_range),
                "splits_not_applied": dg.MetadataValue.int(news.unapplied_splits.height),
                "failed_tickers": dg.MetadataValue.json(reasons),
                "source": dg.MetadataValue.text(source.name),
            },
        )

    @table_asset(
        "daily_bars",
        description=(
            "The one clean bar of every ticker and session, **as traded**: the version fetched last, multiplied back "
            "by every later split. `total_return` never changes again. A `suspect` bar stays here and in labels, but "
            "neither trains nor scores; what the vendor's own figures contradict stands in the table `quarantine`. "
            "`provisional` until a later fetch confirms or changes it." + source_note
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
        lookback = calendar_of(settings).before(first, quality.LOOKBACK_SESSIONS)
        warehouse.require(
            ["raw_ohlcv"],
            [*lookback, *sessions],
            "daily_bars",
            f"{quality.LOOKBACK_SESSIONS} sessions of look-back",
        )
        raw = warehouse.read("raw_ohlcv", (lookback or sessions)[0], last)
        members = warehouse.read("universe")
        known = calendar_of(settings).between(calendar_of(settings).sessions[0], last)
        closes = calendar_of(settings).closes
        bars, findings = (
            frame.filter(pl.col("session").is_in(sessions))
            for frame in adjustments.clean_bars_and_findings(continued(raw, members), members, known, closes)
        )
        beside = {
            "restatements": adjustments.restatements(stored_bars(warehouse, sessions, bars), bars, clock()),
            "quarantine": new_findings(warehouse, findings, clock()),
        }
        warehouse.replace_sessions(
            "daily_bars", sessions, bars, {table: rows for table, rows in beside.items() if rows.height}
        )
        confirm(warehouse, raw, calendar_of(settings).before(first, LOOK_AGAIN), closes)
        suspect = bars["suspect"].drop_nulls().value_counts(sort=True)
        return report_sessions(
            context,
            bars,
            sessions,
            checks.daily_bar_results(bars, members, findings),
            {
                "suspect_bars": dg.MetadataValue.json(dict(suspect.iter_rows())),
                "tickers": dg.MetadataValue.int(bars["ticker"].n_unique()),
                "restated_figures": dg.MetadataValue.int(beside["restatements"].height),
                "found_wrong": dg.MetadataValue.json(dict(findings["kind"].value_counts(sort=True).iter_rows())),
                "provisional_bars": dg.MetadataValue.int(int(bars["provisional"].sum())),
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
        before = calendar_of(settings).before(sessions[0], LOOK_AGAIN)
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
                "failed_series": dg.MetadataValue.json(dict(answer.failures)),
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


#: Tickers, and the sessions that they are asked for.
Ask = tuple[list[str], list[date]]


class News(NamedTuple):
    """What the answers of a source change in the store."""

    versions: pl.DataFrame
    """bars that are new, or other than stored (`RAW_SCHEMA`)"""
    outcomes: pl.DataFrame
    """all of `fetch_outcomes` (`OUTCOME_SCHEMA`)"""
    unapplied_splits: pl.DataFrame
    """findings that are new (`QUARANTINE_SCHEMA`)"""


def asked_for(
    settings: Settings, warehouse: Warehouse, universe: pl.DataFrame, sessions: Sequence[date], told: pl.DataFrame
) -> list[Ask]:
    """The `questions` for `sessions`, the week before them, and what `told`, the stored outcomes, says is owed."""
    tickers = universe["ticker"].unique().sort().to_list()
    before = calendar_of(settings).before(sessions[0], LOOK_AGAIN)
    again = warehouse.sessions("raw_ohlcv", before[0], before[-1]) if before else set()
    return questions(
        tickers, sorted({*again, *sessions}), owed(told, tickers), partial(warehouse.sessions, "raw_ohlcv")
    )


def answered(
    settings: Settings, source: Source, asks: Sequence[Ask], members: set[str], now: datetime
) -> tuple[list[Answer], dict[str, str]]:
    """The answers to `asks`, and why there is none of some of `members`. Raises SourceError naming them when too many
    of them fail the first, of all."""
    answers = [source.fetch(names, asked[0], asked[-1], now) for names, asked in asks]
    reasons, *of_owed = (
        {name: failure.reason for name, failure in answer.failures.items() if name in members} for answer in answers
    )
    if message := too_many(reasons, len(members), settings.max_failed_share):
        raise SourceError(f"{source.name}: {message}")
    for more in of_owed:
        reasons |= more
    return answers, reasons


def news_of(
    settings: Settings,
    warehouse: Warehouse,
    universe: pl.DataFrame,
    asks: Sequence[Ask],
    answers: Sequence[Answer],
    told: pl.DataFrame,
    now: datetime,
) -> News:
    """What `answers` to `asks` change in the store, whose outcomes are `told`."""
    versions: list[pl.DataFrame] = []
    splits: list[pl.DataFrame] = []
    for (names, asked), answer in zip(asks, answers, strict=True):
        rows = answer.bars.filter(pl.col("session").is_in(asked))
        stored = stored_versions(warehouse, asked[0], asked[-1], rows)
        found = outcomes(answer, stored, names, universe, asked, calendar_of(settings), now)
        told = updated(told, found, names, asked, calendar_of(settings))
        versions.append(adjustments.new_versions(stored, rows, calendar_of(settings).closes))
        splits.append(repair.unapplied_splits(answer.bars).join(rows, on=["ticker", "session"], how="semi"))
    return News(pl.concat(versions), told, new_findings(warehouse, pl.concat(splits), now))


def questions(
    tickers: list[str],
    sessions: list[date],
    owed: Mapping[str, date],
    past: Callable[[date, date], Iterable[date]],
) -> list[Ask]:
    """Who is asked for which sessions: first all for `sessions`, then those who owe an answer for earlier ones for
    these (`past` lists those that are stored), so that what a few owe is not asked of all, and does not stand in the
    way of what they say today."""
    asks = [(tickers, sessions)]
    if late := sorted(ticker for ticker, since in owed.items() if since < sessions[0]):
        earlier = sorted(set(past(min(owed[ticker] for ticker in late), sessions[0])) - {sessions[0]})
        asks += [(late, earlier)] if earlier else []
    return asks


def stored_outcomes(warehouse: Warehouse) -> pl.DataFrame:
    """The table `fetch_outcomes`; no row before the first write."""
    return warehouse.read_or(OUTCOME_SCHEMA.to_frame(), "fetch_outcomes").cast(dict(OUTCOME_SCHEMA))  # pyright: ignore[reportArgumentType]


def late_rows(warehouse: Warehouse, sessions: Sequence[date], answered: pl.DataFrame) -> pl.DataFrame:
    """The rows of `answered` that the vendor did not have yet when their session, one of `sessions`, was made."""
    if not sessions:
        return answered.clear()
    keys = ["series", "session"]
    stored = warehouse.read_or(answered.clear().select(keys), "context_series", sessions[0], sessions[-1], keys)
    made = answered.filter(pl.col("session").is_in(sessions)).join(stored, on="session", how="semi")
    return made.join(stored, on=keys, how="anti")


def stored_versions(warehouse: Warehouse, first: date, last: date, like: pl.DataFrame) -> pl.DataFrame:
    """The latest version of every bar stored from `first` to `last`; no row before the first write."""
    return adjustments.latest_versions(warehouse.read_or(like.clear(), "raw_ohlcv", first, last))


def new_findings(warehouse: Warehouse, findings: pl.DataFrame, seen_at: datetime) -> pl.DataFrame:
    """Those of `findings` that `quarantine` does not tell yet."""
    if findings.is_empty():
        return QUARANTINE_SCHEMA.to_frame()
    first, last = findings["session"].min(), findings["session"].max()
    stored = warehouse.read_or(QUARANTINE_SCHEMA.to_frame(), "quarantine", first, last)  # pyright: ignore[reportArgumentType]: dates
    return repair.new_findings(stored, findings, seen_at)


def confirm(warehouse: Warehouse, raw: pl.DataFrame, sessions: Sequence[date], closes: Mapping[date, datetime]) -> None:
    """Marks the provisional bars of `sessions` as settled that what was fetched since confirms."""
    if not sessions:
        return
    bars = stored_bars(warehouse, sessions, BAR_SCHEMA.to_frame())
    if "provisional" not in bars.columns or not bars["provisional"].any():
        return
    settled = adjustments.confirmed(bars, raw.filter(pl.col("session").is_in(sessions)), closes)
    if settled.height:
        warehouse.replace_rows("daily_bars", settled.select("ticker", "session"), settled)


def stored_bars(warehouse: Warehouse, sessions: Sequence[date], like: pl.DataFrame) -> pl.DataFrame:
    """The bars of `sessions` that are stored; no row before the first write."""
    stored = warehouse.read_or(like.clear(), "daily_bars", sessions[0], sessions[-1])
    return stored.filter(pl.col("session").is_in(sessions))
