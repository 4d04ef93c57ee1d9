"""The trading group: what every book wants to hold, and its ledger of fills, positions and equity."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import predicted_days
from stock_assets.defs.tables import SIMULATED, chosen_sessions, report_sessions, table_asset, tables_asset
from stock_assets.escape import one_line
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import books_of
from stock_assets.trading.books import Book
from stock_assets.trading.limits import HONEST_SHARPE, above_limits, drifted, too_good, unexplained
from stock_assets.trading.materialize.ledger import make_ledger
from stock_assets.trading.materialize.targets import make_target_weights

TARGET_CHECKS = {"within_limits": "no target of a book is above its limits of position, sector and gross"}
LEDGER_CHECKS = {
    "attribution_closes": "the change of every equity is the sum of its gains less that of its costs, to 0.00",
    "leak_alarm": f"no book has a gross Sharpe ratio above {HONEST_SHARPE:g} a session: its score would have seen them",
}
DRIFT_CHECKS = {
    "near_limits": "prices, and positions that cannot be sold, carry no position and no gross far above its limit"
}
#: What both steps are made of besides the bars.
MARKET = ("universe", "daily_bars", "context_series")


def trading_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the books, in flow order. Raises SettingsError for books that are configured wrongly."""
    books = books_of(settings)
    return [target_weights_asset(settings, books), ledger_asset(settings, books)]


def target_weights_asset(settings: Settings, books: tuple[Book, ...]) -> dg.AssetsDefinition:
    """The asset `target_weights`."""
    names = ", ".join(f"`{book.name}`" for book in books)

    @table_asset(
        "target_weights",
        description=(
            f"What every book wants to hold after a close, before its orders are sized: {names}. A book ranks "
            "by the scores of its model; the target is the mean of the own targets of the last K sessions. What cannot "
            "be judged is held, not sold." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["predictions", *MARKET],
        partitions=predicted_days(settings),
        checks=checks.specs("target_weights", TARGET_CHECKS),
    )
    def target_weights(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        targets = make_target_weights(warehouse, settings, sessions)
        for note in targets.notes:
            context.log.info(one_line(note))
        above = above_limits(targets.rows, targets.sectors, books)
        within = checks.result("target_weights", "within_limits", above, blocking=True)
        rows = targets.rows.filter(pl.col("session").is_in(sessions))
        return report_sessions(context, rows, sessions, checks=[within])

    return target_weights


def ledger_asset(settings: Settings, books: tuple[Book, ...]) -> dg.AssetsDefinition:
    """The assets `fills`, `positions` and `equity`, which one step makes."""
    note = SIMULATED if settings.source == "simulated" else ""
    timing = f"Orders are decided at a close and filled at the next open; what is not filled expires.{note}"
    descriptions = {
        "fills": f"What became of every order of a book, at which price and cost, or why it was not filled. {timing}",
        "positions": f"What every book holds at a close, what it earned and what it cost. {timing}",
        "equity": f"What every book is worth at a close, net of all costs, and where the change came from. {timing}",
    }

    @tables_asset(
        "ledger",
        descriptions,
        deps=["target_weights", *MARKET],
        partitions=predicted_days(settings),
        checks=[
            *checks.specs("equity", LEDGER_CHECKS),
            *checks.specs("positions", DRIFT_CHECKS, blocking=False),
        ],
    )
    def ledger(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> Iterator[dg.MaterializeResult]:
        sessions = chosen_sessions(context)
        new_ledger = make_ledger(warehouse, settings, sessions)
        closes = checks.result("equity", "attribution_closes", unexplained(new_ledger.rows["equity"]), blocking=True)
        honest = checks.result("equity", "leak_alarm", too_good(new_ledger.returns), blocking=True)
        positions_near_limits = checks.result(
            "positions", "near_limits", drifted(new_ledger.rows, books), blocking=False
        )
        results = {"fills": [], "positions": [positions_near_limits], "equity": [closes, honest]}
        for table in (key.to_user_string() for key in context.selected_asset_keys):
            rows = new_ledger.rows[table].filter(pl.col("session").is_in(sessions))
            yield report_sessions(context, rows, sessions, table=table, checks=results[table])

    return ledger
