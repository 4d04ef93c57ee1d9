"""The steps of the evaluation room: what reads the store, judges, and writes back."""
