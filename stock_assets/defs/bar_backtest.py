"""What acting on the scores of bars would have earned: the asset `backtest` of a market of bars."""

import dagster as dg

from stock_assets.defs.tables import Clock, preview, table_asset
from stock_assets.publication.materialize.bar_backtest import publish_bar_backtest
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.bar_backtest import SESSIONS


def bar_backtest_asset(settings: Settings, note: str) -> dg.AssetsDefinition:
    """The asset `backtest`."""

    @table_asset(
        "backtest",
        description=(
            f"Every book over the newest {SESSIONS} sessions at most: decided at the end of a bar, filled at the open "
            "of the next one, or one bar later, at 0, 1, 2 and 4 times the spread; beside it what holding every ticker "
            "earns. The paths are in `bar_equity`, the newest orders in `bar_fills`, and all of it on a page." + note
        ),
        deps=["bar_predictions", "bars", "universe"],
        kinds=("html",),
        order="beside",
    )
    def backtest(warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]) -> dg.MaterializeResult:
        published = publish_bar_backtest(warehouse, settings, now=clock())
        shown = published.made.table.select("book", "variant", "net_return", "net_sharpe", "turnover", "drawdown")
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(str(published.page)),
                "dagster/row_count": published.made.table.height,
                "back_tests": preview(shown, rows=20),
            }
        )

    return backtest
