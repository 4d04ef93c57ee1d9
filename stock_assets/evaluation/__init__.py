"""How good the models honestly are. Importing the room declares its tables."""

from stock_assets.evaluation import tables as tables
