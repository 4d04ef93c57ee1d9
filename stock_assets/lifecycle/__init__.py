"""What is due, which version serves, and who is told. Importing the room declares its tables."""

from stock_assets.lifecycle import tables as tables
