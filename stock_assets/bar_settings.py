"""The settings of bars: how long one lasts, and what is chosen at an interval below a day alone."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field


class BarSettings(BaseModel):
    """What a market of bars works on. At the interval 1d the other settings of this class change nothing."""

    interval: Literal["1m", "5m", "15m", "1h", "1d"] = Field(
        default="1d", description="1m, 5m, 15m, 1h or 1d: how long a bar lasts; one market has one interval"
    )
    training_sessions: int = Field(
        default=20,
        ge=1,
        le=400,
        description="sessions that a model of bars learns from, 1 to 400; below 1d alone",
    )
    training_every: int = Field(
        default=5,
        ge=1,
        le=60,
        description="sessions that a model of bars serves before the next one is trained, 1 to 60; below 1d alone",
    )
    barrier_width: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="the barriers of a label of bars, in volatilities of its horizon, above 0 to 10; below 1d alone",
    )
    look_minutes: int | None = Field(
        default=None,
        ge=1,
        le=1440,
        description="minutes between two looks at the running session, 1 to 1440; one bar when unset; below 1d alone",
    )
    hold_overnight: bool = Field(
        default=False,
        description="whether the back-test of bars holds what it has while the exchange is closed; unset, it is flat "
        "before the close and the rest at noon; below 1d alone",
    )
    ccxt_exchange: str = Field(
        default="binance",
        pattern="^[a-z0-9]+$",
        description="the exchange that the source ccxt asks, as ccxt names it: binance, kraken, coinbase, …",
    )


def market_folder(values: Mapping[str, object]) -> str:
    """The name of the folder of a market, of settings by name: its source, and its interval where that is no day.

    >>> market_folder({"source": "simulated", "interval": "1m"})
    'simulated_1m'
    """
    interval = values.get("interval", "1d")
    return f"{values.get('source', 'simulated')}{'' if interval == '1d' else f'_{interval}'}"
