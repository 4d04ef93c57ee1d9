"""What the status of a vendor's answer means, whichever vendor it is."""

from datetime import datetime
from email.utils import parsedate_to_datetime

from stock_assets.market.sources.budget import Transient

#: "Slow down", and "not you": 999 is Yahoo's own, 418 Binance's, for who went on after a 429.
REFUSALS = (401, 403, 418, 429, 999)

#: Bytes of an answer: a century of one ticker has three millions.
MOST_BYTES = 32_000_000
TOO_LARGE = f"an answer of more than {MOST_BYTES / 1e6:g} MB"


def require_service(status: int, text: str, *, retry_after: str | None, now: datetime) -> None:
    """Raises Transient where the vendor refuses us, or is broken.

    `retry_after` is the header: seconds, or a date.
    """
    is_refusal = status in REFUSALS
    if is_refusal or status >= 500:
        raise Transient(
            f"HTTP {status}: {beginning(text)}", refused=is_refusal, retry_after=seconds_until(retry_after, now)
        )


def beginning(text: str) -> str:
    """The first words of an answer, to be quoted."""
    return repr(" ".join(text[:200].split())[:80])


def seconds_until(retry_after: str | None, now: datetime) -> float | None:
    """The wait that the header asks for; None without one that can be read.

    >>> from datetime import UTC
    >>> seconds_until("Wed, 01 May 2024 12:00:30 GMT", datetime(2024, 5, 1, 12, tzinfo=UTC))
    30.0
    """
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return None
