"""The facts of an evening that the gates look at, from the store, the broker and the clock."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError
from stock_assets.lifecycle.champions import champion_at
from stock_assets.lifecycle.drift import INPUT, PREDICTION
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.lifecycle.materialize.champions import read_promotions, trained_versions
from stock_assets.lifecycle.materialize.retraining import drift_at
from stock_assets.lifecycle.retraining import INPUT_DRIFT, PREDICTION_DRIFT
from stock_assets.market.calendar import currency_of
from stock_assets.market.renames import RENAMES
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import model_of
from stock_assets.trading.broker.orders import calendar_problem
from stock_assets.trading.due import Window, newest_closed
from stock_assets.trading.gates import Facts
from stock_assets.trading.materialize.account import Desk, Standing, all_rows, is_halted
from stock_assets.trading.panel import Panel
from stock_assets.trading.plan import Plan
from stock_assets.trading.tables import ORDER_EVENTS, ORDERS, PAPER_EQUITY

#: Calendar days of the broker's calendar that are compared with ours.
AROUND = timedelta(days=10)
_PREDICTED = """
SELECT count(*) AS predicted, any_value(model_version) AS version, count(DISTINCT model_version) AS versions
FROM model.predictions WHERE model = ? AND session = ?
"""
#: What the alert of a run says that the alarm of leakage stopped.
LEAK_ALARM = "leak_alarm"


def facts_of(desk: Desk, plan: Plan, standing: Standing, *, window: Window, sleeves: int) -> Facts:
    """Everything that the gates look at, as of now. Raises BrokerError where the broker does not answer."""
    store, model, session = desk.store, model_of(desk.book), plan.session
    clock, tickers = desk.broker.clock(), [order.ticker for order in plan.orders]
    now = desk.clock()
    sessions = desk.broker.calendar(session - AROUND, window.fill_session)
    own_sessions = desk.calendar.between(session - AROUND, window.fill_session)
    closed_sessions = [day for day, (_, close) in sessions.items() if close <= clock.now]
    prediction_facts = store.read_sql("predictions", _PREDICTED, [model, session]).row(0, named=True)
    panel, t = standing.panel, len(standing.panel.sessions) - 1
    equity = desk.rows(PAPER_EQUITY).filter(pl.col("session") < session).sort("session")
    return Facts(
        plan=plan,
        book=desk.book,
        sleeves=sleeves,
        account=standing.shown.account,
        now=now,
        currency=currency_of(desk.settings),
        halted=is_halted(store),
        breaks=standing.breaks["subject"].to_list(),
        last_closed=newest_closed(desk.calendar, now),
        broker_now=clock.now,
        broker_last_closed=max(closed_sessions, default=None),
        broker_next_open=clock.next_open,
        opens_at=desk.calendar.opens[window.fill_session],
        calendar=calendar_problem(
            sessions, {day: (desk.calendar.opens[day], desk.calendar.closes[day]) for day in own_sessions}
        ),
        predicted_through=store.last_session("predictions"),
        predicted=prediction_facts["predicted"],
        expected=int((panel.member[t] & panel.trusted[t]).sum()),
        version=prediction_facts["version"] if prediction_facts["versions"] == 1 else None,
        champion=_champion(desk, model, session),
        fetched_at=_fetched_at(desk, session),
        closed_at=desk.calendar.closes[session],
        alarms=_alarms(desk, session),
        positions=_values_after(plan, standing),
        adv={ticker: float(panel.adv[t][panel.tickers.index(ticker)]) for ticker in tickers},
        prices=_prices(standing),
        untradable=_untradable(desk, plan, standing),
        actions=_actions(panel, tickers, t, fill_session=window.fill_session),
        changes=changes_at(standing, window),
        held=len(standing.shown.holdings),
        equity_before=float(equity["equity"][-1]) if equity.height else None,
        equity_peak=float(equity["equity"].max()) if equity.height else None,  # pyright: ignore[reportArgumentType]
        open_orders=_open_orders(standing, plan),
        live=desk.settings.trading == "live",
        stated_number=desk.settings.account_number,
    )


def _champion(desk: Desk, model: str, session: date) -> str | None:
    """The version of `model` that serves `session`; None where there is none."""
    try:
        return champion_at(read_promotions(desk.store), trained_versions(desk.store), model, session=session)
    except ArtifactError:
        return None


def _fetched_at(desk: Desk, session: date) -> datetime | None:
    """When the newest bar of `session` was fetched."""
    return desk.store.read("daily_bars", session, session, columns=["fetched_at"])["fetched_at"].max()  # pyright: ignore[reportReturnType]


def _alarms(desk: Desk, session: date) -> list[str]:
    """The alarms of drift and of leakage that are open."""
    alarms = [record.alert.title for record in open_alerts(desk.store) if LEAK_ALARM in record.alert.text]
    for kind, limit in ((INPUT, INPUT_DRIFT), (PREDICTION, PREDICTION_DRIFT)):
        drift = drift_at(desk.store, session, kind)
        if drift is not None and drift >= limit:
            alarms.append(f"drift of every {kind} of {drift:.2f}, limit {limit:.2f}")
    return alarms


def _values_after(plan: Plan, standing: Standing) -> dict[str, float]:
    """By ticker, the value of the positions once every order is filled, at the closes."""
    account, panel = standing.reconciled.record.account, standing.panel
    values = {panel.tickers[i]: float(account.values[i]) for i in np.flatnonzero(account.shares)}
    for order in plan.orders:
        values[order.ticker] = values.get(order.ticker, 0.0) + order.signed * order.reference_price
    return values


def _prices(standing: Standing) -> dict[str, tuple[float, float]]:
    """By ticker of a position, the broker's price and our mark."""
    marks = dict(zip(standing.panel.tickers, standing.reconciled.record.account.marks.tolist(), strict=True))
    return {
        holding.ticker: (float(holding.price), marks[holding.ticker])
        for holding in standing.shown.holdings
        if holding.price and marks.get(holding.ticker, 0) > 0
    }


def _untradable(desk: Desk, plan: Plan, standing: Standing) -> list[str]:
    """The tickers of orders that the broker does not trade, or does not lend where a short would grow."""
    tradable = desk.broker.tradable([order.ticker for order in plan.orders])
    after = _values_after(plan, standing)
    untradable_tickers = []
    for order in plan.orders:
        asset = tradable.get(order.ticker)
        grows_short = order.side == "sell" and after[order.ticker] < 0
        if asset is None or not asset.tradable or (grows_short and not asset.shortable):
            untradable_tickers.append(order.ticker)
    return untradable_tickers


def changes_at(standing: Standing, window: Window) -> dict[str, str]:
    """By ticker, what the broker announces for the open of the fill session. Bars show a split with its session."""
    actions = standing.shown.actions
    return {action.ticker: str(action) for action in actions if window.session < action.day <= window.fill_session}


def _actions(panel: Panel, tickers: Sequence[str], t: int, *, fill_session: date) -> list[str]:
    """The tickers of orders whose listing ended, or that `RENAMES` gives another name at the next open."""
    ended_tickers = {panel.tickers[i] for i in np.flatnonzero(~np.isnan(panel.day(t).ending))}
    renamed_tickers = {
        name for rename in RENAMES if rename.session == fill_session for name in (rename.old, rename.new)
    }
    return sorted((ended_tickers | renamed_tickers).intersection(tickers))


def _open_orders(standing: Standing, plan: Plan) -> int:
    """Orders that the broker holds open and that are none of this plan."""
    own_ids = {order.client_order_id for order in plan.orders}
    return sum(not state.is_terminal and state.client_order_id not in own_ids for state in standing.shown.orders)


def unsettled(store: Warehouse, book: str, session: date) -> int:
    """The orders of the stored plan of `session` of which no answer of the broker is stored."""
    orders = all_rows(store, ORDERS).filter(pl.col("book") == book, pl.col("session") == session)
    events = all_rows(store, ORDER_EVENTS).filter(pl.col("event").is_in(["accepted", "refused", "state"]))
    return orders.join(events, on="client_order_id", how="anti").height
