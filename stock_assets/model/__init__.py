"""The models: which rows may teach them, how they learn, how they answer. Importing the room declares its tables."""

from stock_assets.model import tables as tables
