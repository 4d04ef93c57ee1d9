"""From a score to a position: books, the ledger that a back-test and an account share, and brokers.

`books` holds what a person may configure, `portfolio` makes target weights of scores, `ledger` books one session,
`costs` prices a trade, `statistics` measures a series of returns, and `broker/` sends orders.
"""

from stock_assets.trading import tables as tables
