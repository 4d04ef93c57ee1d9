"""The kill switch of the account. Anything may halt trading; only a person resumes it."""

from datetime import datetime

import polars as pl

from stock_assets.errors import TradingError
from stock_assets.trading.tables import TRADING_SWITCH

HALT, RESUME = "halt", "resume"
#: What is in the place of a person where a rule halts.
RULE = "rule: "


def halted(history: pl.DataFrame) -> str | None:
    """Who halted trading, when and why, by the rows of `trading_switch`; None where it is not halted.

    >>> halted(TRADING_SWITCH.empty()) is None
    True
    """
    if history.is_empty():
        return None
    last = history.sort("at").row(-1, named=True)
    if last["action"] != HALT:
        return None
    return f"halted by {last['by']} at {last['at']:%Y-%m-%d %H:%M} UTC: {last['reason']}"


def switched(
    history: pl.DataFrame, action: str, *, by: str, reason: str, now: datetime, order_count: int
) -> pl.DataFrame:
    """The row that halts or resumes trading at `now`.

    Raises TradingError where a rule, not a person, would resume it, where nobody is named, and where it is not halted.
    """
    if not by.strip():
        raise TradingError(f"the name of the person is empty; expected who would {action} trading")
    if action == RESUME and by.startswith(RULE):
        raise TradingError(f"{by} would resume trading; expected a person: no rule clears the kill switch")
    if action == RESUME and halted(history) is None:
        raise TradingError("trading is not halted; expected a halt before it is resumed")
    return pl.DataFrame([(now, action, by, reason, order_count)], TRADING_SWITCH.schema, orient="row")
