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
    due = _due(rows, bars, opens=opens, faults=faults)
    halted = {order.ticker for order in due if faults.take("halt", order.ticker)}
    refusal = np.where([ticker in halted for ticker in tickers], NO_OPEN, bars.refusal).astype(np.int8)
    partial = {order.ticker: fault.share for order in due if (fault := faults.take("partial fill", order.ticker))}
    place = {ticker: i for i, ticker in enumerate(tickers)}
    wanted = np.zeros(len(tickers))
    for order in due:
        if order.ticker in place:
            wanted[place[order.ticker]] += np.trunc(order.signed * partial.get(order.ticker, 1.0))
    # an opening auction takes whole shares, and a fraction that a split leaves is paid out
    book = Book("-", "long_short", costs=costs, whole_shares=True)
    after, booked = step(before, wanted, replace(bars, refusal=refusal), book=book)
    session = _Session(tickers, bars, before, after, booked, opens)

    ended = ~np.isnan(bars.ending)
    listed = dict(zip(standing.tickers, standing.tradable.tolist(), strict=True))
    tradable = np.array([listed.get(ticker, False) for ticker in tickers], dtype=bool)
    standing.session, standing.tickers, standing.ledger = bars.session, tuple(tickers), after
    standing.tradable = (tradable | bars.trusted) & ~ended
    standing.last_equity, standing.equity = standing.equity, float(after.equity)
    rows.keep_standing(standing)

    activities = list(_events(session))
    left = np.abs(booked.filled)  # several orders of one ticker are filled as they came
    for order in due:
        i = place.get(order.ticker)
        done = _filled(order, session, i, left=left, cause="halt" if order.ticker in halted else None)
        rows.keep_order(done)
        if done.filled and i is not None:
            activities += _fill(done, session, i)
            activities += [activities[-1]] if faults.take("duplicate event", order.ticker) else []
    rows.add_activities(activities)


def _aligned(standing: Standing, bars: Bars, tickers: Sequence[str]) -> Account:
    """The account before the session in the order of `tickers`."""
    if len(tickers) != len(bars.close) or len(set(tickers)) != len(tickers):
        raise TradingError(
            f"{len(bars.close)} bars of {bars.session} for {len(set(tickers))} tickers, expected one each"
        )
    ledger, place = standing.ledger, {ticker: i for i, ticker in enumerate(standing.tickers)}
    if lost := sorted(t for t in set(place) - set(tickers) if ledger.shares[place[t]] != 0):
        raise TradingError(
            f"the account holds {len(lost)} tickers that the bars of {bars.session} lack, such as {lost[0]}; expected "
            "every ticker that it holds, with an ending where its listing is over"
        )
    if tuple(tickers) == standing.tickers:
        return ledger
    shares, marks, frozen = np.zeros(len(tickers)), np.full(len(tickers), np.nan), np.zeros(len(tickers), np.int64)
    for i, ticker in enumerate(tickers):
        if (j := place.get(ticker)) is not None:
            shares[i], marks[i], frozen[i] = ledger.shares[j], ledger.marks[j], ledger.frozen[j]
    return Account(ledger.cash, shares, marks, frozen)


def _due(rows: Rows, bars: Bars, *, opens: datetime, faults: Faults) -> list[StoredOrder]:
    """The orders of the session's opening auction; those that missed theirs, or are rejected late, are closed."""
    due = []
    for order in rows.open_orders():
        if order.session > bars.session:
            continue
        if order.session < bars.session:
            rows.keep_order(replace(order, status="expired", reason="its auction was never held", updated_at=opens))
        elif faults.take("late rejection", order.ticker):
            rows.keep_order(replace(order, status="rejected", reason="rejected by the exchange", updated_at=opens))
        else:
            due.append(order)
    return due


def _filled(
    order: StoredOrder, session: _Session, i: int | None, *, left: np.ndarray, cause: str | None
) -> StoredOrder:
    """`order` after the auction, in shares of after a split. It takes what it is filled with from `left`."""
    if i is None:
        return replace(order, status="expired", reason=REASONS[NO_BAR], updated_at=session.at)
    shares = np.trunc(np.round(float(order.shares) * session.bars.split_ratio[i], 6))
    filled = float(min(left[i], shares))
    left[i] -= filled
    code = int(session.booked.reason[i])
    rest = None if filled == shares else cause or (REASONS[code] if code != FILLED else "partial fill")
    return replace(
        order,
        shares=exact(shares),
        status="expired" if rest else "filled",
        filled=filled,
        average_price=_price(i, session) if filled else None,
        reason=rest,
        updated_at=session.at,
    )


def _price(i: int, session: _Session) -> float:
    """The price that was paid: that of the fill, with half the spread and the impact in it."""
    booked = session.booked
    return float(booked.fill_price[i] + (booked.spread[i] + booked.impact[i]) / booked.filled[i])


def _fill(order: StoredOrder, session: _Session, i: int) -> Iterator[Activity]:
    """The commission, and then the fill: the last one is what a broker may send twice."""
    booked = session.booked
    part = order.filled / abs(float(booked.filled[i]))
    signed = order.filled if order.side == "buy" else -order.filled
    if booked.commission[i]:
        amount = exact(-float(booked.commission[i]) * part)
        yield session.activity("FEE", ticker=order.ticker, amount=amount, client_order_id=order.client_order_id)
    spent = signed * float(booked.fill_price[i]) + float(booked.spread[i] + booked.impact[i]) * part
    yield session.activity(
        "FILL",
        ticker=order.ticker,
        shares=exact(signed),
        price=exact(order.average_price or 0.0),
        amount=exact(-spent),
        client_order_id=order.client_order_id,
    )


def _events(session: _Session) -> Iterator[Activity]:
    """What happened to the account without an order: interest, borrow, splits, dividends, endings."""
    booked, bars, before = session.booked, session.bars, session.before
    if booked.interest:
        yield session.activity("INT", amount=exact(float(booked.interest)))
    for i, ticker in enumerate(session.tickers):
        held = float(before.shares[i])
        if held == 0:
            continue
        if booked.borrow[i]:
            yield session.activity("FEE", ticker=ticker, amount=exact(-float(booked.borrow[i])))
        left = float(session.after.shares[i] - booked.filled[i])
        is_ended = not np.isnan(bars.ending[i])
        split, mark = held * float(bars.split_ratio[i]), float(before.marks[i] / bars.split_ratio[i])
        whole = float(np.trunc(np.round(split, 6)))
        if bars.split_ratio[i] != 1:  # one share and a half of it are one share and money
            paid = exact((split - whole) * mark)
            yield session.activity("SPLIT", ticker=ticker, shares=exact(whole - held), amount=paid)
        if booked.dividend[i]:
            yield session.activity("DIV", ticker=ticker, amount=exact(float(booked.dividend[i])))
        if is_ended:
            paid = exact(whole * mark + float(booked.ending[i]))
            yield session.activity("REORG", ticker=ticker, shares=exact(left - whole), amount=paid)
