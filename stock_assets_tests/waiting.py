"""Waits for what happens, as long as it takes: a busy machine is slow, and only a hang ends a wait."""

import time
from collections.abc import Callable

#: Seconds after which something hangs. No test passes or fails by it on a machine that is only busy.
HANG_SECONDS = 120.0


def until(holds: Callable[[], object], *, seconds: float = HANG_SECONDS, pause: float = 0.005) -> None:
    """Returns once `holds()` is true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: it hangs"
        time.sleep(pause)
