"""A session of a simulated account: the ledger's step on what the file holds, and an activity for all that it did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from stock_assets.errors import TradingError
from stock_assets.trading.books import Book, Costs
from stock_assets.trading.broker.faults import Faults
from stock_assets.trading.broker.protocol import Activity
from stock_assets.trading.broker.simulated_file import Rows, Standing, StoredOrder, exact
from stock_assets.trading.ledger import Account, Booked, step
from stock_assets.trading.panel import FILLED, NO_BAR, NO_OPEN, REASONS, Bars

NOTHING = Decimal(0)


@dataclass(frozen=True)
class _Session:
    """What is booked: the account `before` and `after`, `booked` and `bars` in the order of `tickers`."""

    tickers: Sequence[str]
    bars: Bars
    before: Account
    after: Account
    booked: Booked
    at: datetime
    numbers: Iterator[int] = field(default_factory=count)

    def activity(self, kind: str, *, ticker: str | None = None, **facts: object) -> Activity:
        """The next activity of the session. Its id follows from what it is, and sorts as Alpaca's do."""
        number = next(self.numbers)
        name = uuid5(NAMESPACE_OID, f"{self.bars.session}/{number}/{kind}/{ticker}")
        values = {"shares": NOTHING, "price": None, "amount": NOTHING, **facts}
        return Activity(
            id=f"{self.at:%Y%m%d%H%M%S}{number:05d}::{name}", kind=kind, at=self.at, ticker=ticker, **values
        )  # type: ignore[arg-type]


def booked_session(
    rows: Rows, bars: Bars, tickers: Sequence[str], *, costs: Costs, opens: datetime, faults: Faults
) -> None:
    """Books the session of `bars`, whose arrays are in the order of `tickers`, and which opens at `opens`, UTC.

    Raises TradingError where `tickers` lack one that the account holds or are not as many as the bars.
    """
    standing = rows.standing()
    before = _aligned(standing, bars, tickers)
    due_orders = _due_orders(rows, bars, opens=opens, faults=faults)
    halted_tickers = {order.ticker for order in due_orders if faults.take("halt", order.ticker)}
    refusal = np.where([ticker in halted_tickers for ticker in tickers], NO_OPEN, bars.refusal).astype(np.int8)
    partial = {
        order.ticker: fault.share for order in due_orders if (fault := faults.take("partial fill", order.ticker))
    }
    place = {ticker: i for i, ticker in enumerate(tickers)}
    order_shares = np.zeros(len(tickers))
    for order in due_orders:
        if order.ticker in place:
            order_shares[place[order.ticker]] += np.trunc(order.signed * partial.get(order.ticker, 1.0))
    # an opening auction takes whole shares, and a fraction that a split leaves is paid out
    book = Book("-", "long_short", costs=costs, whole_shares=True)
    after, booking = step(before, order_shares, replace(bars, refusal=refusal), book=book)
    session = _Session(tickers, bars, before, after, booking, opens)

    is_ended = ~np.isnan(bars.ending)
    tradable_by_ticker = dict(zip(standing.tickers, standing.tradable.tolist(), strict=True))
    tradable = np.array([tradable_by_ticker.get(ticker, False) for ticker in tickers], dtype=bool)
    standing.session, standing.tickers, standing.ledger = bars.session, tuple(tickers), after
    standing.tradable = (tradable | bars.trusted) & ~is_ended
    standing.last_equity, standing.equity = standing.equity, float(after.equity)
    rows.keep_standing(standing)

    activities = list(_events(session))
    unfilled_shares = np.abs(booking.filled)  # several orders of one ticker are filled as they came
    for order in due_orders:
        i = place.get(order.ticker)
        filled_order = _filled_order(
            order, session, i, unfilled_shares=unfilled_shares, cause="halt" if order.ticker in halted_tickers else None
        )
        rows.keep_order(filled_order)
        if filled_order.filled and i is not None:
            activities += _fill(filled_order, session, i)
            activities += [activities[-1]] if faults.take("duplicate event", order.ticker) else []
    rows.add_activities(activities)


def _aligned(standing: Standing, bars: Bars, tickers: Sequence[str]) -> Account:
    """The account before the session in the order of `tickers`."""
    if len(tickers) != len(bars.close) or len(set(tickers)) != len(tickers):
        raise TradingError(
            f"{len(bars.close)} bars of {bars.session} for {len(set(tickers))} tickers, expected one each"
        )
    ledger, place = standing.ledger, {ticker: i for i, ticker in enumerate(standing.tickers)}
    if missing_tickers := sorted(t for t in set(place) - set(tickers) if ledger.shares[place[t]] != 0):
        raise TradingError(
            f"the account holds {len(missing_tickers)} tickers that the bars of {bars.session} lack, such as "
            f"{missing_tickers[0]}; expected every ticker that it holds, with an ending where its listing is over"
        )
    if tuple(tickers) == standing.tickers:
        return ledger
    shares, marks, frozen = np.zeros(len(tickers)), np.full(len(tickers), np.nan), np.zeros(len(tickers), np.int64)
    for i, ticker in enumerate(tickers):
        if (j := place.get(ticker)) is not None:
            shares[i], marks[i], frozen[i] = ledger.shares[j], ledger.marks[j], ledger.frozen[j]
    return Account(ledger.cash, shares, marks, frozen)


def _due_orders(rows: Rows, bars: Bars, *, opens: datetime, faults: Faults) -> list[StoredOrder]:
    """The orders of the session's opening auction; those that missed theirs, or are rejected late, are closed."""
    due_orders = []
    for order in rows.open_orders():
        if order.session > bars.session:
            continue
        if order.session < bars.session:
            rows.keep_order(replace(order, status="expired", reason="its auction was never held", updated_at=opens))
        elif faults.take("late rejection", order.ticker):
            rows.keep_order(replace(order, status="rejected", reason="rejected by the exchange", updated_at=opens))
        else:
            due_orders.append(order)
    return due_orders


def _filled_order(
    order: StoredOrder, session: _Session, i: int | None, *, unfilled_shares: np.ndarray, cause: str | None
) -> StoredOrder:
    """`order` after the auction, in shares of after a split. It takes what it is filled with from `unfilled_shares`."""
    if i is None:
        return replace(order, status="expired", reason=REASONS[NO_BAR], updated_at=session.at)
    shares = np.trunc(np.round(float(order.shares) * session.bars.split_ratio[i], 6))
    filled_shares = float(min(unfilled_shares[i], shares))
    unfilled_shares[i] -= filled_shares
    code = int(session.booked.reason[i])
    reason = None if filled_shares == shares else cause or (REASONS[code] if code != FILLED else "partial fill")
    return replace(
        order,
        shares=exact(shares),
        status="expired" if reason else "filled",
        filled=filled_shares,
        average_price=_price(i, session) if filled_shares else None,
        reason=reason,
        updated_at=session.at,
    )


def _price(i: int, session: _Session) -> float:
    """The price that was paid: that of the fill, with half the spread and the impact in it."""
    booking = session.booked
    return float(booking.fill_price[i] + (booking.spread[i] + booking.impact[i]) / booking.filled[i])


def _fill(order: StoredOrder, session: _Session, i: int) -> Iterator[Activity]:
    """The commission, and then the fill: the last one is what a broker may send twice."""
    booking = session.booked
    part = order.filled / abs(float(booking.filled[i]))
    signed = order.filled if order.side == "buy" else -order.filled
    if booking.commission[i]:
        amount = exact(-float(booking.commission[i]) * part)
        yield session.activity("FEE", ticker=order.ticker, amount=amount, client_order_id=order.client_order_id)
    amount_spent = signed * float(booking.fill_price[i]) + float(booking.spread[i] + booking.impact[i]) * part
    yield session.activity(
        "FILL",
        ticker=order.ticker,
        shares=exact(signed),
        price=exact(order.average_price or 0.0),
        amount=exact(-amount_spent),
        client_order_id=order.client_order_id,
    )


def _events(session: _Session) -> Iterator[Activity]:
    """What happened to the account without an order: interest, borrow, splits, dividends, endings."""
    booking, bars, before = session.booked, session.bars, session.before
    if booking.interest:
        yield session.activity("INT", amount=exact(float(booking.interest)))
    for i, ticker in enumerate(session.tickers):
        shares_before = float(before.shares[i])
        if shares_before == 0:
            continue
        if booking.borrow[i]:
            yield session.activity("FEE", ticker=ticker, amount=exact(-float(booking.borrow[i])))
        shares_after = float(session.after.shares[i] - booking.filled[i])
        is_ended = not np.isnan(bars.ending[i])
        split, mark = shares_before * float(bars.split_ratio[i]), float(before.marks[i] / bars.split_ratio[i])
        whole = float(np.trunc(np.round(split, 6)))
        if bars.split_ratio[i] != 1:  # one share and a half of it are one share and money
            payment = exact((split - whole) * mark)
            yield session.activity("SPLIT", ticker=ticker, shares=exact(whole - shares_before), amount=payment)
        if booking.dividend[i]:
            yield session.activity("DIV", ticker=ticker, amount=exact(float(booking.dividend[i])))
        if is_ended:
            payment = exact(whole * mark + float(booking.ending[i]))
            yield session.activity("REORG", ticker=ticker, shares=exact(shares_after - whole), amount=payment)
