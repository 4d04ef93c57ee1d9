"""What a person is alerted to about the account, through the channels that all alerts go through."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from stock_assets.lifecycle.alerts import Alert, Channel
from stock_assets.lifecycle.materialize.alerts import raise_alarm, resolve
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.orders import Traded

BREAKS, GATES, ORDERS = "trading/breaks", "trading/gates", "trading/orders"
#: Lines of an alert before the rest is counted.
SHOWN = 8


def tell_trading(store: Warehouse, channels: Sequence[Channel], evening_trade: Traded, *, now: datetime) -> list[str]:
    """Alerts to open breaks, failed gates and orders that the broker did not take, and ends the alerts of those that
    are over; what was done, in words."""
    messages = []
    for key, title, lines in _troubles(evening_trade):
        if not lines:
            messages += [f"the alert {key} is over"] if resolve(store, key, now=now) else []
            continue
        further_lines = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        alert = Alert(key, title, "\n".join([*lines[:SHOWN], *further_lines]), None, now)
        messages.append(f"{title}: {raise_alarm(store, channels, alert, now=now)}")
    return messages


def _troubles(evening_trade: Traded) -> Iterator[tuple[str, str, list[str]]]:
    """(key, title, a line for each) of every kind of trouble."""
    book, session = evening_trade.plan.book, evening_trade.plan.session
    rows = evening_trade.standing.breaks.iter_rows(named=True)
    breaks = [f"{row['subject']}: ours {row['ours']:,.2f}, theirs {row['theirs']:,.2f}; {row['cause']}" for row in rows]
    gates = [gate.reason for gate in evening_trade.refusals if gate.name != "breaks"]
    failed_outcomes = [outcome for outcome in evening_trade.outcomes if outcome.kind != "accepted"]
    orders = [
        f"{failed_outcome.order.client_order_id}: {failed_outcome.kind}, {failed_outcome.text}"
        for failed_outcome in failed_outcomes
    ]
    yield BREAKS, f"the account of {book} differs from the ledger: nothing is traded", breaks
    yield GATES, f"no order of {book} for {session} was sent", gates
    yield ORDERS, f"{len(failed_outcomes)} order(s) of {book} for {session} are not at the broker", orders
