"""The companies of the simulated market: the same under every seed, only what happens to them differs. None is real."""

import numpy as np

SECTORS = ("Energy", "Finance", "Health", "Industry", "Retail", "Technology")
TICKERS = tuple(f"SIM{i:02d}" for i in range(1, 61))
COMPANIES = len(TICKERS)

_traits = np.random.default_rng(60)
SECTOR = np.arange(COMPANIES) % len(SECTORS)
BETA = _traits.permutation(np.linspace(0.6, 1.4, COMPANIES))  # β
OWN_VOLATILITY = _traits.permutation(np.geomspace(0.005, 0.015, COMPANIES))  # V
TURNOVER = _traits.permutation(np.geomspace(2e7, 2e9, COMPANIES))  # currency per usual session
FIRST_PRICE = _traits.permutation(np.geomspace(12, 420, COMPANIES))
FIRST_PRICE[6] = 2.0  # SIM07 begins as a penny stock, so that there is a reverse split
DIVIDEND_YIELD = np.where(np.arange(COMPANIES) % 5 < 3, _traits.uniform(0.01, 0.045, COMPANIES), 0.0)  # a year
REACTION = _traits.permutation(np.geomspace(3.5, 6, COMPANIES))  # κ
PHASE = 20 + _traits.permutation(COMPANIES) // 2  # where in a quarter they announce: two a session of its season

# Positions in the calendar: 252 sessions make a year.
LISTED = np.zeros(COMPANIES, int)  # the first session with a bar
LISTED[52:] = 130 + 95 * np.arange(8)  # SIM53 to SIM60 come half a year to three years after the start
DELISTED = np.full(COMPANIES, np.iinfo(int).max)  # the first session without a bar
DELISTED[[4, 12, 23, 30, 41, 52]] = 420, 660, 905, 1160, 1475, 1790
SPECIAL_DIVIDEND = (11, 540, 0.08)  # SIM12 once pays 8 % of its price
