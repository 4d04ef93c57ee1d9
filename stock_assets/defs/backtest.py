"""What acting on the scores would have earned: the assets `backtest` and `tear_sheet`."""

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.defs.tables import SIMULATED, Clock, preview, table_asset
from stock_assets.publication.materialize.replays import make_replayed_tear_sheets
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.backtest import MadeBacktest, make_backtest
from stock_assets.trading.materialize.tear_sheet import MadeTearSheets
from stock_assets.trading.tear_sheet import HEAD
from stock_assets.trading.trials import BASE


class BacktestConfig(dg.Config):
    """What a run of `backtest` may add."""

    models: list[str] = Field(
        default_factory=list,
        description="further models to try in every book, such as a member of the ensemble; each is counted for ever",
    )


def backtest_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of this file, in flow order."""
    return [backtest_asset(settings), tear_sheet_asset(settings)]


def backtest_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `backtest`."""

    @table_asset(
        "backtest",
        description=(
            "Every book with its own model, the ensemble and the best naive model: at K = 1, 3, 7, 14 and its own, at "
            "0, 1, 2 and 4 times the spread, at capitals of 1 to 1,000 million, filled at the close or the second "
            "open, with dearer borrow, other endings and a volatility target. Every back-test is added to `backtests` "
            "and counts in the deflated Sharpe ratio." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["predictions", "labels", "universe", "daily_bars", "context_series"],
        order="last",
    )
    def backtest(
        config: BacktestConfig, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        new_backtest = make_backtest(warehouse, settings, now=clock(), models=config.models)
        return dg.MaterializeResult(metadata=backtest_metadata(new_backtest))

    return backtest


def tear_sheet_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `tear_sheet`."""

    @table_asset(
        "tear_sheet",
        description=(
            "A self-contained HTML page per book: net Sharpe ratio with its interval, deflated by the trials that the "
            "store has counted, break-even cost and capacity; then costs, years, the correlation of the score with "
            "later opens, holdings, what was not filled, and other assumptions."
            + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["equity", "fills", "positions", "target_weights", "backtest", "daily_bars", "universe"],
        kinds=("html",),
        order="last",
    )
    def tear_sheet(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=tear_sheet_metadata(make_replayed_tear_sheets(warehouse, settings)))

    return tear_sheet


def backtest_metadata(backtest: MadeBacktest) -> dict[str, dg.MetadataValue | int | str]:
    """What the page of the asset shows."""
    base = backtest.table.filter(pl.col("variant") == BASE).sort("net_sharpe", descending=True, nulls_last=True)
    columns = ("book", "model", "sleeves", "net_sharpe", "net_sharpe_low", "net_sharpe_high", "deflated_sharpe")
    return {
        "dagster/row_count": backtest.table.height,
        "trials": backtest.trials.count,
        "other_models": ", ".join(backtest.models) or "none",
        "as_configured": preview(base.select(*columns, "break_even", "turnover"), rows=20),
    }


def tear_sheet_metadata(tear_sheets: MadeTearSheets) -> dict[str, dg.MetadataValue | int]:
    """A link to the pages, and the figures that open each."""
    figures = {
        f"{sheet.findings.inputs.book.name}: {figure.name}": dg.MetadataValue.text(
            f"{figure.shown} ({figure.interval})" if figure.interval else figure.shown
        )
        for sheet in tear_sheets.sheets
        for figure in sheet.figures[:HEAD]
    }
    page = dg.MetadataValue.path(str(tear_sheets.index))
    return {
        "page": page,
        "dagster/row_count": tear_sheets.table.height,
        **figures,
        "figures": preview(tear_sheets.table, rows=60),
    }
