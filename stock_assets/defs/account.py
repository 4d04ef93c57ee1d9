"""The account at the broker: its orders, when they are due, and the kill switch as jobs that the UI starts."""

import dagster as dg
from pydantic import Field

from stock_assets.defs.partitions import predicted_days
from stock_assets.defs.runs import request_or_wait
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.defs.tables import DUCKDB_POOL, SIMULATED, Clock, chosen_sessions, report_sessions, table_asset
from stock_assets.escape import one_line
from stock_assets.lifecycle.alerts import Channel
from stock_assets.lifecycle.evening import Work
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.due import newest_of
from stock_assets.trading.materialize.account import halt_trading, open_desk, resume_trading
from stock_assets.trading.materialize.alarms import tell_trading
from stock_assets.trading.materialize.orders import due_now, trade_evening

#: What is made of a session once its orders are due; the pages show the account after them.
ACCOUNT = ("orders", "operations", "publication")


class SwitchConfig(dg.Config):
    """Who halts or resumes trading, and why; shown in the launchpad."""

    by: str = Field(description="your name: a rule may halt trading, and only a person resumes it")
    reason: str = Field(default="switched in the UI", description="why; kept in the table trading_switch")


def orders_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `orders`."""

    @table_asset(
        "orders",
        description=(
            f"The orders of the account of the book `{settings.paper_book}` for the next open, sent to the broker "
            f"`{settings.broker}`. The account is reconciled with the ledger, every gate of `order_gates` has to pass, "
            "and the whole plan is stored before the first order is sent; made again, nothing is sent twice. It "
            "refuses every session but the newest one whose open lies ahead, so it has no backfill."
            + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["target_weights", "daily_bars", "predictions"],
        partitions=predicted_days(settings),
        kinds=("python",),
    )
    def orders(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        channels: dg.ResourceParam[list[Channel]],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        desk = open_desk(warehouse, settings, clock=clock)
        session = newest_of(chosen_sessions(context))
        evening_trade = trade_evening(desk, session)
        for line in (*evening_trade.lines, *tell_trading(warehouse, channels, evening_trade, now=clock())):
            context.log.info(one_line(line))
        return report_sessions(context, evening_trade.rows, [session], about_last=metadata_of(evening_trade.figures))

    return orders


def metadata_of(figures: dict[str, float | int | str]) -> dict[str, dg.MetadataValue]:
    """What the UI shows of an evening at the broker."""
    return {
        name: dg.MetadataValue.text(value) if isinstance(value, str) else dg.MetadataValue.float(float(value))
        for name, value in figures.items()
    }


def orders_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `opening_orders`."""

    @platform_sensor(
        settings,
        "opening_orders",
        makes=ACCOUNT,
        description=(
            "Sends the orders of the newest session once a broker takes orders for the next opening auction: from "
            "19:05 in New York on, later than the predictions. What a gate refused gets a second chance an hour before "
            "the open; orders whose fate is unknown are looked up again until two minutes before it."
        ),
    )
    def opening_orders(tick: Tick) -> Answer:
        due_orders = due_now(tick.store, settings, now=tick.now)
        if due_orders.session is None:
            return dg.SkipReason(due_orders.reason)
        if tick.state.under_way:
            return dg.SkipReason(f"{tick.state.under_way} is under way")
        work = Work(due_orders.work, ACCOUNT, str(due_orders.session), str(due_orders.session), due_orders.reason)
        return request_or_wait(tick.context, work, "opening_orders", now=tick.now)

    return opening_orders


def switch_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """The jobs `halt_trading` and `resume_trading`."""

    @dg.op(description="Adds a row to the table trading_switch, and cancels the open orders.", pool=DUCKDB_POOL)
    def halt(
        context: dg.OpExecutionContext,
        config: SwitchConfig,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        order_count = halt_trading(open_desk(warehouse, settings, clock=clock), by=config.by, reason=config.reason)
        context.log.warning(f"trading is halted; {order_count} open order(s) are cancelled")
        context.add_output_metadata({"by": config.by, "reason": config.reason, "canceled": order_count})

    @dg.op(description="Adds a row to the table trading_switch.", pool=DUCKDB_POOL)
    def resume(
        context: dg.OpExecutionContext,
        config: SwitchConfig,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        resume_trading(open_desk(warehouse, settings, clock=clock), by=config.by, reason=config.reason)
        context.log.warning("trading is resumed")
        context.add_output_metadata({"by": config.by, "reason": config.reason})

    @dg.job(
        name="halt_trading",
        description=(
            "The kill switch: cancels the open orders at the broker, and no order is sent until a person resumes. In "
            "the launchpad, under `ops: halt: config:`, name yourself in `by`. From a shell: `stock-assets trading "
            "halt`."
        ),
    )
    def halt_all() -> None:
        halt()

    @dg.job(
        name="resume_trading",
        description=(
            "Clears the kill switch. In the launchpad, under `ops: resume: config:`, name yourself in `by`. From a "
            "shell: `stock-assets trading resume`."
        ),
    )
    def resume_all() -> None:
        resume()

    return [halt_all, resume_all]
