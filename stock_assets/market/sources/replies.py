"""What the status of a vendor's answer means, whichever vendor it is."""

from stock_assets.market.sources.budget import Transient

#: "Slow down", and "not you": 999 is Yahoo's own.
REFUSALS = (401, 403, 429, 999)

#: Bytes of an answer: a century of one ticker has three millions.
MOST_BYTES = 32_000_000
TOO_LARGE = f"an answer of more than {MOST_BYTES / 1e6:g} MB"


def require_service(status: int, text: str, *, retry_after: float | None) -> None:
    """Raises Transient where the vendor refuses us, or is broken; `retry_after` are the seconds that it asks for."""
    refused = status in REFUSALS
    if refused or status >= 500:
        raise Transient(f"HTTP {status}: {beginning(text)}", refused=refused, retry_after=retry_after)


def beginning(text: str) -> str:
    """The first words of an answer, to be quoted."""
    return repr(" ".join(text[:200].split())[:80])
