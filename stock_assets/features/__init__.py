"""Indicators, inputs of the models, labels, components. Importing the room declares its tables."""

from stock_assets.features import tables as tables
