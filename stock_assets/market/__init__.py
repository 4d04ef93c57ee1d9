"""Prices: sessions, vendors' answers, clean bars. Importing the room declares its tables."""

from stock_assets.market import tables as tables
