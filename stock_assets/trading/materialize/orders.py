"""The step `orders`: reconcile, plan, gates, the whole plan into the store, and only then the first order."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.broker.send import Event, Outcome, send
from stock_assets.trading.due import Due, Evening, Window, newest_closed, orders_due, require_newest, too_early
from stock_assets.trading.gates import Gate, check_gates, rows_of_gates
from stock_assets.trading.materialize.account import Desk, Standing, all_rows, reconcile_account
from stock_assets.trading.materialize.facts import changes_at, facts_of, unsettled
from stock_assets.trading.plan import Plan, make_plan, require_same
from stock_assets.trading.tables import ORDER_EVENTS, ORDER_GATES, ORDERS, TARGET_WEIGHTS


@dataclass(frozen=True)
class Traded:
    """What an evening at the broker gave."""

    plan: Plan
    window: Window
    gates: tuple[Gate, ...]
    standing: Standing
    outcomes: tuple[Outcome, ...]
    """of every order of the plan; none where a gate failed"""
    rows: pl.DataFrame
    """the rows of `orders` of the session"""

    @property
    def refusals(self) -> tuple[Gate, ...]:
        """The gates that failed."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def figures(self) -> dict[str, float | int | str]:
        """The evening in figures, by name."""
        reconciliation, kinds = self.standing.reconciled, [outcome.kind for outcome in self.outcomes]
        return {
            "fill_session": str(self.plan.fill_session),
            "orders": len(self.plan.orders),
            "accepted": kinds.count("accepted"),
            "gates_failed": ", ".join(gate.name for gate in self.refusals) or "none",
            "equity": round(reconciliation.equity, 2),
            "difference_to_backtest": round(reconciliation.equity - reconciliation.record.backtest_equity, 2),
            "unexplained": round(reconciliation.unexplained, 2),
            "open_breaks": self.standing.breaks.height,
        }

    @property
    def lines(self) -> list[str]:
        """The evening in sentences: what failed, and what the broker did not take."""
        failure_lines = [
            f"{outcome.order.client_order_id}: {outcome.kind}, {outcome.text}"
            for outcome in self.outcomes
            if outcome.kind != "accepted"
        ]
        return [
            *(f"{name}: {value}" for name, value in self.figures.items()),
            *(g.reason for g in self.refusals),
            *(f"{ticker} is not traded: {text}" for ticker, text in sorted(self.plan.left_out.items())),
            *failure_lines,
        ]


def trade_evening(desk: Desk, session: date, *, pause: Callable[[float], None] = time.sleep) -> Traded:
    """Sends the orders that follow from the close of `session`, each once, however often this is called.

    The account is reconciled, the plan is made, and the gates are looked at; where all hold, the plan is committed
    before its first order is sent, and every event of an order before the next. Raises TradingError, with nothing sent,
    for a session that is not the newest or whose open does not lie ahead, for an account or a plan that is another than
    before, and for a session without targets; BrokerError where the broker does not answer.
    """
    with desk.alone():
        window = require_newest(desk.calendar, session, now=desk.clock())
        standing = reconcile_account(desk, session)
        targets = desk.store.read_or(TARGET_WEIGHTS.empty(), TARGET_WEIGHTS.name, session, last=session)
        targets = targets.filter(pl.col("book") == desk.book.name)
        plan = make_plan(
            standing.reconciled.record.account,
            targets,
            standing.panel.day(len(standing.panel.sessions) - 1),
            weights=standing.weights[-1],
            book=desk.book,
            tickers=standing.panel.tickers,
            fill_session=window.fill_session,
        ).without(changes_at(standing, window))
        stored_plan = plan_rows(desk, session)
        require_same(stored_plan, plan)
        sleeves = targets["sleeves"].drop_nulls().max() if "sleeves" in targets.columns else None
        gates = check_gates(facts_of(desk, plan, standing, window=window, sleeves=int(sleeves or 1)))  # pyright: ignore[reportArgumentType]
        all_passed, now = all(gate.passed for gate in gates), desk.clock()
        rows = plan.frame(now) if all_passed and stored_plan.is_empty() else stored_plan
        desk.store.write(
            [
                Change(ORDER_GATES.name, rows_of_gates(gates, plan, now)),
                # recorded as made, so that a run that dies before the account is published does not end there
                Change(ORDERS.name, rows, pl.DataFrame({"book": [plan.book], "session": [session]}), makes=[session]),
            ]
        )
        outcomes = send_plan(desk, plan, window, pause=pause) if all_passed else ()
        return Traded(plan, window, gates, standing, outcomes, rows)


def send_plan(desk: Desk, plan: Plan, window: Window, *, pause: Callable[[float], None]) -> tuple[Outcome, ...]:
    """The outcome of every order of `plan`, which is in the store already."""
    events = all_rows(desk.store, ORDER_EVENTS)
    counts = dict(events.group_by("client_order_id").agg(pl.col("number").max() + 1).iter_rows())

    def record(event: Event) -> None:
        desk.store.append(ORDER_EVENTS.name, _row_of(event))

    return tuple(
        send(
            desk.broker,
            [order.order(plan.fill_session) for order in plan.orders],
            clock=desk.clock,
            deadline=window.last,
            pause=pause,
            record=record,
            first_numbers=lambda name: counts.get(name, 0),
        )
    )


def plan_rows(desk: Desk, session: date) -> pl.DataFrame:
    """The rows of the stored plan of the book and `session`; none without one."""
    return desk.rows(ORDERS).filter(pl.col("session") == session)


def due_now(store: Warehouse, settings: Settings, *, now: datetime) -> Due:
    """The session whose orders are to be sent at `now`, by what the store holds. It asks no broker."""
    if settings.broker == "off":
        return Due(None, "STOCK_ASSETS_BROKER=off: there is no account")
    calendar, book = calendar_of(settings), settings.paper_book
    if waits := too_early(calendar, now=now):
        return Due(None, waits)
    session = newest_closed(calendar, now)
    assert session is not None  # as it is not too early
    gates = all_rows(store, ORDER_GATES).filter(pl.col("session") == session, pl.col("book") == book)
    last = gates.filter(pl.col("decided_at") == pl.col("decided_at").max())
    evening = Evening(
        store.last_session(TARGET_WEIGHTS.name),
        last["decided_at"].max() if last.height else None,  # pyright: ignore[reportArgumentType]: a moment
        bool(last.height and last["passed"].all()),
        unsettled(store, book, session),
    )
    return orders_due(calendar, evening, now=now)


def _row_of(event: Event) -> pl.DataFrame:
    filled_shares = None if event.filled is None else float(event.filled)
    price = None if event.average_price is None else float(event.average_price)
    row = (event.client_order_id, event.at, event.number, event.event, event.status, filled_shares, price, event.text)
    return pl.DataFrame([row], ORDER_EVENTS.schema, orient="row")
