"""What the trading room keeps at an interval below a day beside `backtest`. Loaded where bars are made, never at 1d."""

import polars as pl

from stock_assets.tables import BAR_KEY_COLUMNS, SESSION, UTC_TIME, Column, Table, declare
from stock_assets.trading.tables import EQUITY, FILLS

_BOOK = Column("book", pl.String(), "the book, or a baseline: hold or equal_weight")
_BAR_END = Column("bar_end", UTC_TIME, "the end of the bar", unit="UTC")
_KEYS = ("book", "session", "ticker")
#: What the ledger counts of a bar, with the words of the table equity.
COSTS = ("spread", "impact", "commission", "borrow")
MONEY = ("price_gain", "ending", "interest", *COSTS)
_FIGURES = ("equity", "cash", *MONEY, "long", "short", "names", "ordered", "unfilled")

BAR_EQUITY = declare(
    Table(
        "bar_equity",
        "trading",
        "a book of the back-test at the end of a bar: what it is worth, and where the change came from",
        (
            _BOOK,
            SESSION,
            _BAR_END,
            *(column for name in _FIGURES for column in EQUITY.columns if column.name == name),
            Column("traded", pl.Float64(), "value traded in the bar", unit="listing currency"),
        ),
        keys=("book", "session", "bar_end"),
        history=True,
        exists="bar",
    )
)

BAR_FILLS = declare(
    Table(
        "bar_fills",
        "trading",
        "what became of an order of the back-test at the open of the bar, of the newest sessions; one that expired is "
        "a row as well",
        (_BOOK, *BAR_KEY_COLUMNS, *(column for column in FILLS.columns if column.name not in _KEYS)),
        keys=("book", "ticker", "session", "bar_end"),
        history=True,
        exists="bar",
    )
)
