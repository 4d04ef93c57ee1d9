"""Predictions on demand, in a process of their own: `process` asks it from the API, `worker` is that process."""
