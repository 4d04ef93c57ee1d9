"""How much a test tries: little in a test run, everything in `make drill`, which sets DRILL_SESSIONS."""

import os

#: Whether this is a drill.
DRILL = "DRILL_SESSIONS" in os.environ
#: Evenings that the drill plays: a year of them, or six weeks where its file is run by hand.
SESSIONS = int(os.environ.get("DRILL_SESSIONS", "28"))
#: After a month the drill plays every so many evenings, each of which makes all sessions since the last.
EVERY = int(os.environ.get("DRILL_EVERY", "1"))


def tries(few: int, drill: int) -> int:
    """How often something is tried."""
    return drill if DRILL else few
