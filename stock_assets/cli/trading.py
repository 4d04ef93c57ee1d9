"""stock-assets trading: the account at the broker, the kill switch and breaks, without a server."""

from datetime import UTC, datetime
from getpass import getuser
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from stock_assets.errors import TradingError
from stock_assets.escape import one_line

if TYPE_CHECKING:
    from stock_assets.trading.materialize.account import Desk

trading_commands = typer.Typer(help="The account at the broker: status, halt, resume, reconcile, accept-break.")
out = Console(emoji=False)

By = Annotated[str | None, typer.Option(help="who it is; the user of this shell when unset")]
Reason = Annotated[str, typer.Option(help="why, for the history")]


def utc_now() -> datetime:
    return datetime.now(UTC)


def _desk() -> "Desk":
    from stock_assets.extensions import load_extensions
    from stock_assets.settings import read_settings
    from stock_assets.storage.warehouse import Warehouse
    from stock_assets.trading.materialize.account import open_desk

    settings = read_settings()
    load_extensions(settings)
    return open_desk(Warehouse.of(settings), settings, clock=utc_now)


def _print(line: str) -> None:
    out.print(one_line(line), highlight=False, markup=False, soft_wrap=True)


@trading_commands.command("status")
def status_command() -> None:
    """Shows equity, difference to the back-test, orders, limits, breaks and the kill switch; exit code 1 for trouble.

    It reads the store alone, and asks no broker.
    """
    from stock_assets.trading.materialize.overview import lines_of, overview

    desk = _desk()
    book_overview = overview(desk.store, desk.book.name)
    for line in lines_of(book_overview):
        _print(line)
    raise typer.Exit(1 if book_overview.troubles else 0)


@trading_commands.command("halt")
def halt_command(by: By = None, reason: Reason = "halted from the shell") -> None:
    """The kill switch: cancels the open orders, and no order is sent until a person resumes."""
    from stock_assets.trading.materialize.account import halt_trading

    order_count = halt_trading(_desk(), by=by or getuser(), reason=reason)
    _print(f"trading is halted; {order_count} open order(s) are cancelled. To go on: stock-assets trading resume")


@trading_commands.command("resume")
def resume_command(by: By = None, reason: Reason = "resumed from the shell") -> None:
    """Clears the kill switch."""
    from stock_assets.trading.materialize.account import resume_trading

    resume_trading(_desk(), by=by or getuser(), reason=reason)
    _print("trading is resumed; orders are sent from the next evening on")


@trading_commands.command("reconcile")
def reconcile_command() -> None:
    """Compares the broker's account with the ledger at the newest closed session, and sends nothing."""
    from stock_assets.trading.due import newest_closed
    from stock_assets.trading.materialize.account import reconcile_account

    desk = _desk()
    session = newest_closed(desk.calendar, desk.clock())
    if session is None:
        raise TradingError("no session of the calendar has closed yet; expected one")
    with desk.alone():
        standing = reconcile_account(desk, session)
    reconciliation = standing.reconciled
    _print(
        f"{desk.book.name} at {session}: equity {reconciliation.equity:,.2f}, "
        f"{reconciliation.equity - reconciliation.record.backtest_equity:+,.2f} to the back-test, of which "
        f"{reconciliation.unexplained:+,.2f} are unexplained"
    )
    for row in standing.breaks.iter_rows(named=True):
        _print(f"break {row['subject']}: ours {row['ours']:,.2f}, theirs {row['theirs']:,.2f}; {row['cause']}")
    raise typer.Exit(1 if standing.breaks.height else 0)


@trading_commands.command("accept-break")
def accept_command(
    subject: Annotated[str, typer.Argument(help="what differs, as `status` shows it: cash, a ticker or an order")],
    by: By = None,
) -> None:
    """Takes the broker's figure over into the ledger, so that trading may go on."""
    from stock_assets.trading.materialize.account import accept_break

    row = accept_break(_desk(), subject, by=by or getuser()).row(0, named=True)
    _print(f"{row['subject']} of {row['book']} is {row['theirs']:,.2f} from the next reconciliation on")
