"""Brokers: one protocol, the simulated one that is the default, and Alpaca."""
