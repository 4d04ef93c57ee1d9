"""What a book is: which shares it holds, at which limits, and what trading costs it. Every field has a default.

Sources of the defaults stand in docs/trading.md.
"""

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class Costs:
    """What a trade and a position cost. Fractions of the traded value, unless another unit is named."""

    commission: float = 0.00005
    commission_minimum: float = 0.0
    """per order, in the listing's currency"""
    sale_fee: float = 0.0
    """of sales alone: what the supervisor and the exchange charge"""
    half_spreads: tuple[float, ...] = (0.0003, 0.0002, 0.00015, 0.0001, 0.00007)
    """by the fifth of `adv` that a ticker is in, the least traded first: a stated assumption"""
    tick: float = 0.01
    """the smallest step of a price, in the listing's currency: half a tick is the least half-spread"""
    open_factor: float = 2.0
    """the half-spread at the open over that of the day"""
    spread_scale: float = 1.0
    """0 to 4 in the sensitivities"""
    impact: float = 1.0
    """Y of the square-root law: Y * daily volatility * sqrt(value traded / adv)"""
    participation: float = 0.025
    """the largest share of `adv` that one order may fill"""
    borrow: float = 0.005
    """a year, of the value of a short position"""
    borrow_hard: float = 0.10
    """the same where a share is hard to borrow"""
    hard_adv: float = 20e6
    """below this `adv` a share is hard to borrow, in the listing's currency"""
    hard_price: float = 5.0
    """below this price as well"""
    credit: float = 0.0
    """interest a year on cash above zero"""
    debit: float = 0.0
    """interest a year on cash below zero"""
    ending: float = -0.30
    """the return of a listing that ended, where it is unknown"""


@dataclass(frozen=True)
class Limits:
    """What a book may hold. Weights are fractions of its equity."""

    position: float = 0.01
    sector_net: float = 0.05
    gross: float = 2.0
    fewest_names: int = 40
    lowest_price: float = 3.0
    """in the listing's currency"""
    lowest_adv: float = 5e6
    """the mean value that is traded in a session, in the listing's currency"""
    frozen_sessions: int = 10
    """a position without a trusted bar or a prediction is held so many sessions, and then sold at the next bar"""
    ended_sessions: int = 10
    """a ticker without a bar for so many sessions has ended"""


@dataclass(frozen=True)
class Book:
    """One way to turn the scores of a model into positions.

    `model` is a model of the registry, or None for the one in service. `sleeves` is K: the target is the mean of the
    last K sessions' own targets; None has K chosen on earlier years alone.
    """

    name: str
    kind: Literal["long_only", "long_short", "by_sign"]
    """by_sign, of bars below a day alone: every ticker by the sign of its score, each with an equal part"""
    model: str | None = None
    sleeves: int | None = None
    score: Literal["difference", "direction"] = "difference"
    """difference: p_buy - p_sell; direction: p_buy / (p_buy + p_sell)"""
    capital: float = 1_000_000.0
    """at the first session, in the listing's currency"""
    whole_shares: bool = True
    volatility_target: float | None = None
    """a year; weights are scaled to it where it is set"""
    fill: Literal["open", "close", "second open"] = "open"
    """at which price of the next session an order is filled: the close, or the open after it, are sensitivities"""
    costs: Costs = field(default_factory=Costs)
    limits: Limits = field(default_factory=Limits)


#: `Limits.position` of the long-only book lets `fewest_names` of a small universe hold all of its capital.
LONG_ONLY = Book("long_only", "long_only", limits=Limits(position=0.20, sector_net=1.0, gross=1.0, fewest_names=5))
LONG_SHORT = Book("long_short", "long_short")
BOOKS = (LONG_ONLY, LONG_SHORT)

#: Below a day. What a side costs, half the spread and fees together, is the taker's fee of a large crypto exchange, as
#: in the report on bars; the spread at the opening is that of the day.
_BAR_COSTS = Costs(commission=0.0, half_spreads=(0.0005,) * 5, open_factor=1.0)
_BAR_LIMITS = Limits(position=1.0, sector_net=1.0, gross=1.0, fewest_names=1, lowest_price=0.0, lowest_adv=1e6)
BY_SIGN = Book("by_sign", "by_sign", whole_shares=False, costs=_BAR_COSTS, limits=_BAR_LIMITS)
BAR_BOOKS = (
    BY_SIGN,
    replace(BY_SIGN, name="long_only", kind="long_only", limits=replace(_BAR_LIMITS, position=0.5, fewest_names=2)),
)
#: Books of bars without a model: every ticker bought once at equal weights and kept, and the same in each session.
HOLD, EQUAL_WEIGHT = "hold", "equal_weight"
#: The default of every kind of book below a day.
BAR_KINDS = (*BAR_BOOKS, replace(LONG_SHORT, whole_shares=False, costs=_BAR_COSTS))
