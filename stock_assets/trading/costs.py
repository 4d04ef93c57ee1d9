"""What a trade and a short position cost, in the listing's currency. Arrays [..., N] over tickers.

Half-spreads are a stated table: they cannot be estimated from daily bars. Impact follows the square-root law. What is
unknown of a ticker is charged as the worst: the least traded fifth, and `UNKNOWN_VOLATILITY`.
"""

import numpy as np

from stock_assets.trading.books import Costs

#: Of a listing too young to have a volatility, a session: more than that of nearly every share.
UNKNOWN_VOLATILITY = 0.05


def half_spread(price: np.ndarray, fifth: np.ndarray, costs: Costs) -> np.ndarray:
    """Half the spread of the day as a fraction of `price`: the table's of the ticker's fifth, at least half a tick.

    `price` is float64, above 0, and `fifth` int8, 0 the least traded (`measures.fifths`). `open_factor` and
    `spread_scale` are not in it.

    >>> half_spread(np.array([100.0, 5.0]), np.array([4, 4]), Costs())
    array([7.e-05, 1.e-03])
    """
    return np.maximum(np.take(np.asarray(costs.half_spreads), fifth), costs.tick / 2 / price)


def impact(value: np.ndarray, adv: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """The square-root law with Y = 1, as a fraction of the price: volatility * sqrt(value traded / adv).

    >>> impact(np.array([1e6]), np.array([1e8]), np.array([0.02]))
    array([0.002])
    """
    volatility = np.where(np.isnan(volatility), UNKNOWN_VOLATILITY, volatility)
    return volatility * np.sqrt(value / np.where(adv > 0, adv, np.inf))


def commission(filled_shares: np.ndarray, value: np.ndarray, costs: Costs) -> np.ndarray:
    """Commission, at least the minimum of an order, and the fees of sales. `filled_shares` is signed, `value` is not.

    >>> commission(np.array([10.0, -10.0, 0.0]), np.array([1e4, 1e4, 0.0]), Costs(commission_minimum=1, sale_fee=2e-5))
    array([1. , 1.2, 0. ])
    """
    fees = (
        np.maximum(value * costs.commission, costs.commission_minimum)
        + np.where(filled_shares < 0, costs.sale_fee, 0) * value
    )
    return np.where(filled_shares == 0, 0.0, fees)


def borrow_rate(price: np.ndarray, adv: np.ndarray, costs: Costs) -> np.ndarray:
    """What borrowing a share costs a year, as a fraction of its value. A share of unknown `adv` is hard to borrow.

    >>> borrow_rate(np.array([100.0, 4.0, 100.0]), np.array([1e9, 1e9, 1e6]), Costs())
    array([0.005, 0.1  , 0.1  ])
    """
    return np.where((adv >= costs.hard_adv) & ~(price < costs.hard_price), costs.borrow, costs.borrow_hard)
