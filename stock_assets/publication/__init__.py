"""What was said on every evening, in files that never change: the room that publishes, and reads what is published."""

from stock_assets.publication import tables as tables
