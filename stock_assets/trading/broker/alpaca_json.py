"""Alpaca's JSON, both ways: what `AlpacaBroker` reads is what `http_face` writes.

Numbers are texts, times have an offset, and a calendar is in New York's own time.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import NAMESPACE_DNS, uuid5
from zoneinfo import ZoneInfo

from stock_assets.trading.broker.protocol import (
    TERMINAL,
    Activity,
    BrokerAccount,
    Clock,
    CorporateAction,
    Holding,
    OrderState,
    Tradable,
)

Json = Mapping[str, Any]
NEW_YORK = ZoneInfo("America/New_York")


def symbol_of(ticker: str, class_separator: str) -> str:
    """A ticker as Alpaca writes it.

    >>> symbol_of("BRK-B", "-"), ticker_of("BRK.B", "-")
    ('BRK.B', 'BRK-B')
    """
    return ticker.replace(class_separator, ".") if class_separator else ticker


def ticker_of(symbol: str, class_separator: str) -> str:
    """A ticker as the source writes it."""
    return symbol.replace(".", class_separator) if class_separator else symbol


def _number(value: Any) -> Decimal:
    """Raises ValueError where it is none. Alpaca writes numbers as texts."""
    number = Decimal(str(value))
    if isinstance(value, bool) or not number.is_finite():
        raise ValueError(f"{value} is no number")
    return number


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.astimezone(UTC)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value} is neither true nor false")
    return value


def clock_of(row: Json) -> Clock:
    """Of `GET /v2/clock`. These readers raise KeyError, TypeError, ValueError or ArithmeticError for what they lack."""
    return Clock(_time(row["timestamp"]), _flag(row["is_open"]), _time(row["next_open"]), _time(row["next_close"]))


def calendar_of(rows: Iterable[Json]) -> dict[date, tuple[datetime, datetime]]:
    """Of `GET /v2/calendar`."""

    def moment(day: date, text: str) -> datetime:
        return datetime.combine(day, time.fromisoformat(text), NEW_YORK).astimezone(UTC)

    days = {date.fromisoformat(row["date"]): row for row in rows}
    return {day: (moment(day, row["open"]), moment(day, row["close"])) for day, row in days.items()}


def account_of(row: Json, *, is_paper: bool) -> BrokerAccount:
    """Of `GET /v2/account`: none of the fields about day trading, which left the answers in July 2026."""
    return BrokerAccount(
        number=str(row["account_number"]),
        currency=str(row["currency"]),
        cash=_number(row["cash"]),
        equity=_number(row["equity"]),
        last_equity=_number(row["last_equity"]),
        buying_power=_number(row["buying_power"]),
        status=str(row["status"]),
        blocked=_flag(row["trading_blocked"])
        or _flag(row["account_blocked"])
        or _flag(row.get("trade_suspended_by_user", False)),
        may_short=_flag(row["shorting_enabled"]),
        is_paper=is_paper,
    )


def holding_of(row: Json, class_separator: str) -> Holding:
    """Of a row of `GET /v2/positions`."""
    shares, price = abs(_number(row["qty"])), row.get("current_price")
    if row["side"] not in ("long", "short"):
        raise ValueError(f"the side of a position is {row['side']}")
    return Holding(
        ticker_of(str(row["symbol"]), class_separator),
        shares if row["side"] == "long" else -shares,
        None if price is None else _number(price),
    )


def asset_of(row: Json, *, ticker: str) -> Tradable:
    """Of a row of `GET /v2/assets`."""
    return Tradable(
        ticker,
        tradable=_flag(row["tradable"]) and row["status"] == "active",
        shortable=_flag(row["shortable"]) and _flag(row["easy_to_borrow"]),
        fractionable=_flag(row["fractionable"]),
    )


def order_of(row: Json, *, class_separator: str) -> OrderState:
    """Of an order. Its status stays in Alpaca's word, which may be one that nobody has seen before."""
    price = row.get("filled_avg_price")
    if row["side"] not in ("buy", "sell"):
        raise ValueError(f"the side of an order is {row['side']}")
    return OrderState(
        client_order_id=str(row["client_order_id"]),
        broker_id=str(row["id"]),
        ticker=ticker_of(str(row["symbol"]), class_separator),
        side=row["side"],
        shares=_number(row["qty"]),
        status=str(row["status"]),
        filled=_number(row.get("filled_qty") or 0),
        average_price=None if price in (None, "") else _number(price),
        updated_at=_time(row["updated_at"]),
    )


def activity_of(row: Json, *, ids: Mapping[str, str], class_separator: str) -> Activity:
    """Of a row of `GET /v2/account/activities`. `ids` gives the client_order_id of the broker's id of an order.

    What is not a fill has a day and no time: it is that of its midnight in New York.
    """
    symbol = row.get("symbol")
    ticker = ticker_of(str(symbol), class_separator) if symbol else None
    if row["activity_type"] == "FILL":
        shares, price = _number(row["qty"]), _number(row["price"])
        signed = shares if row["side"] == "buy" else -shares
        at, name = _time(row["transaction_time"]), ids.get(str(row["order_id"]))
        return Activity(str(row["id"]), "FILL", at, ticker, signed, price, -signed * price, name)
    at = datetime.combine(date.fromisoformat(row["date"]), time(), NEW_YORK).astimezone(UTC)
    shares = _number(row.get("qty") or 0)
    return Activity(
        str(row["id"]), str(row["activity_type"]), at, ticker, shares, None, _number(row.get("net_amount") or 0)
    )


def actions_of(answer: Json, *, class_separator: str) -> list[CorporateAction]:
    """Of a page of `GET /v1/corporate-actions`: a list for every kind, of which there may be new ones.

    A row is of the tickers that it calls `symbol` or `old_symbol` and `new_symbol`.
    """
    return [
        CorporateAction(ticker_of(str(symbol), class_separator), _day_of(row), str(kind), _ratio_of(row))
        for kind, rows in answer["corporate_actions"].items()
        for row in rows
        for symbol in ([row["symbol"]] if "symbol" in row else [row["old_symbol"], row["new_symbol"]])
    ]


def _day_of(row: Json) -> date:
    """A split is effective on its ex-date; what has none, on the day on which it is processed."""
    return date.fromisoformat(row.get("ex_date") or row.get("effective_date") or row["process_date"])


def _ratio_of(row: Json) -> Decimal | None:
    """None where the shares do not change, or by how much is not stated in two positive numbers."""
    if "new_rate" in row and "old_rate" in row:
        new, old = _number(row["new_rate"]), _number(row["old_rate"])
        return new / old if new > 0 and old > 0 else None
    return 1 + _number(row["rate"]) if "rate" in row else None


def _text(number: Decimal) -> str:
    """A number as Alpaca writes it: in digits, never 1E+2."""
    return format(number, "f")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _new_york(moment: datetime) -> str:
    return moment.astimezone(NEW_YORK).isoformat()


def _asset_id(symbol: str) -> str:
    return str(uuid5(NAMESPACE_DNS, symbol))


def clock_json(clock: Clock) -> Json:
    return {
        "timestamp": _new_york(clock.now),
        "is_open": clock.is_open,
        "next_open": _new_york(clock.next_open),
        "next_close": _new_york(clock.next_close),
    }


def calendar_json(calendar: Mapping[date, tuple[datetime, datetime]]) -> list[Json]:
    return [
        {
            "date": f"{day}",
            "open": f"{opens.astimezone(NEW_YORK):%H:%M}",
            "close": f"{closes.astimezone(NEW_YORK):%H:%M}",
            "session_open": "0400",
            "session_close": "2000",
        }
        for day, (opens, closes) in calendar.items()
    ]


def account_json(account: BrokerAccount, *, multiplier: int, opened_at: datetime) -> Json:
    return {
        "id": _asset_id(account.number),
        "account_number": account.number,
        "status": account.status,
        "currency": account.currency,
        "cash": _text(account.cash),
        "equity": _text(account.equity),
        "portfolio_value": _text(account.equity),
        "last_equity": _text(account.last_equity),
        "buying_power": _text(account.buying_power),
        "multiplier": f"{multiplier}",
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": account.blocked,
        "shorting_enabled": account.may_short,
        "created_at": _utc(opened_at),
    }


def holding_json(holding: Holding) -> Json:
    """The simulated account keeps no entry prices: the mark stands for them."""
    symbol, price = symbol_of(holding.ticker, "-"), holding.price or Decimal(0)
    return {
        "asset_id": _asset_id(symbol),
        "symbol": symbol,
        "exchange": "NYSE",
        "asset_class": "us_equity",
        "avg_entry_price": _text(price),
        "qty": _text(holding.shares),
        "qty_available": _text(holding.shares),
        "side": "long" if holding.shares > 0 else "short",
        "market_value": _text(holding.shares * price),
        "cost_basis": _text(holding.shares * price),
        "current_price": None if holding.price is None else _text(holding.price),
    }


def asset_json(asset: Tradable) -> Json:
    symbol = symbol_of(asset.ticker, "-")
    return {
        "id": _asset_id(symbol),
        "class": "us_equity",
        "exchange": "NYSE",
        "symbol": symbol,
        "name": symbol,
        "status": "active" if asset.tradable else "inactive",
        "tradable": asset.tradable,
        "marginable": True,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.shortable,
        "fractionable": asset.fractionable,
    }


def action_json(action: CorporateAction) -> Json:
    """A split; the simulated market has no other action that is announced."""
    rate, symbol = Fraction(action.ratio or 1).limit_denominator(1000), symbol_of(action.ticker, "-")
    cusips = ("cusip",) if action.kind == "forward_splits" else ("old_cusip", "new_cusip")
    return {
        "id": _asset_id(f"{symbol}/{action.day}"),
        "symbol": symbol,
        **dict.fromkeys(cusips, "000000000"),
        "old_rate": rate.denominator,
        "new_rate": rate.numerator,
        **dict.fromkeys(("process_date", "ex_date", "record_date", "payable_date"), f"{action.day}"),
    }


def order_json(state: OrderState, submitted_at: datetime) -> Json:
    symbol, updated_at = symbol_of(state.ticker, "-"), _utc(state.updated_at)
    ends = {"filled": "filled_at", "expired": "expired_at", "canceled": "canceled_at", "rejected": "failed_at"}
    moments = {name: updated_at if ends.get(state.status) == name else None for name in ends.values()}
    return {
        "id": state.broker_id,
        "client_order_id": state.client_order_id,
        "created_at": _utc(submitted_at),
        "updated_at": updated_at,
        "submitted_at": _utc(submitted_at),
        **moments,
        "replaced_at": None,
        "replaced_by": None,
        "replaces": None,
        "asset_id": _asset_id(symbol),
        "symbol": symbol,
        "asset_class": "us_equity",
        "notional": None,
        "qty": _text(state.shares),
        "filled_qty": _text(state.filled),
        "filled_avg_price": None if state.average_price is None else _text(state.average_price),
        "order_class": "",
        "order_type": "market",
        "type": "market",
        "side": state.side,
        "time_in_force": "opg",
        "limit_price": None,
        "stop_price": None,
        "status": state.status,
        "extended_hours": False,
        "legs": None,
    }


def activity_json(activity: Activity, order: OrderState | None) -> Json:
    """`order` is the one that was filled; None for anything but a fill."""
    symbol = activity.ticker and symbol_of(activity.ticker, "-")
    if activity.kind != "FILL" or order is None:
        day = activity.at.astimezone(NEW_YORK).date()
        row = {"id": activity.id, "activity_type": activity.kind, "date": f"{day}", "status": "executed"}
        return {**row, "net_amount": _text(activity.amount), "symbol": symbol, "qty": _text(activity.shares)}
    whole = order.status in TERMINAL and order.filled == order.shares
    return {
        "id": activity.id,
        "activity_type": "FILL",
        "transaction_time": _utc(activity.at),
        "type": "fill" if whole else "partial_fill",
        "price": _text(activity.price or Decimal(0)),
        "qty": _text(abs(activity.shares)),
        "side": order.side,
        "symbol": symbol,
        "leaves_qty": _text(order.shares - order.filled),
        "cum_qty": _text(order.filled),
        "order_id": order.broker_id,
        "order_status": order.status,
    }
