"""The steps of the market room: load, compute with one pure function, store in one transaction."""
