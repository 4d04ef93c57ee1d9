"""The steps of the trading room: load, one pure function, store."""
