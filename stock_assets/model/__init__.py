"""The models: which rows may teach them, how they learn, how they answer.

Importing the room registers its models and declares its tables.
"""

from stock_assets.model import network_entries, baselines, tables  # isort: skip

__all__ = ["baselines", "network_entries", "tables"]
