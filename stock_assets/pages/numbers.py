"""Numbers and moments as a page shows them: one function per kind, each an en dash for a missing value."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

#: What stands for a missing value.
NONE = "–"
MINUS = "−"


def score(value: float | None, digits: int = 4) -> str:
    """A log-loss and the like.

    >>> score(1.03219)
    '1.0322'
    """
    return NONE if value is None else _typographic(f"{value:.{digits}f}")


def signed(value: float | None, digits: int = 4) -> str:
    """A difference, with its sign.

    >>> signed(-0.00821), signed(0)
    ('−0.0082', '0.0000')
    """
    if value is None:
        return NONE
    rounded_value = round(value, digits) + 0.0  # no -0.0
    return _typographic(f"{rounded_value:+.{digits}f}" if rounded_value else f"{rounded_value:.{digits}f}")


def percent(value: float | None, digits: int = 1) -> str:
    """A probability or a share.

    >>> percent(0.4273).split()
    ['42.7', '%']
    """
    return NONE if value is None else _typographic(f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%")


def signed_percent(value: float | None, digits: int = 1) -> str:
    """A return.

    >>> signed_percent(-0.0312).split()
    ['−3.1', '%']
    """
    return NONE if value is None else f"{signed(100 * value, digits)}\N{NO-BREAK SPACE}%"


def count(value: float | None) -> str:
    """A whole number, its thousands divided.

    >>> count(12345)
    '12,345'
    """
    return NONE if value is None else _typographic(f"{value:,.0f}")


def price(value: float | None) -> str:
    """A price: two digits, and more for one below a unit of the currency.

    >>> price(1234.5), price(0.0123)
    ('1,234.50', '0.0123')
    """
    return NONE if value is None else _typographic(f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.4g}")


def signed_money(value: float | None) -> str:
    """A difference in money, to the cent.

    >>> signed_money(-2302.154), signed_money(0.001)
    ('−2,302.15', '0.00')
    """
    if value is None:
        return NONE
    rounded_value = round(value, 2) + 0.0  # no -0.0
    return _typographic(f"{rounded_value:+,.2f}" if rounded_value else "0.00")


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """A 95 % interval; empty where there is none.

    >>> interval(1.0312, 1.05)
    '1.0312 to 1.0500'
    """
    return "" if low is None or high is None else f"{score(low, digits)} to {score(high, digits)}"


def milliseconds(seconds: float | None) -> str:
    """A latency.

    >>> milliseconds(0.00042).split(), milliseconds(0.25).split()
    (['0.42', 'ms'], ['250', 'ms'])
    """
    if seconds is None:
        return NONE
    return f"{1000 * seconds:.{2 if seconds < 0.01 else 0}f}\N{NO-BREAK SPACE}ms"


def moment(value: datetime | None) -> str:
    """A moment in UTC, to the minute.

    >>> moment(datetime(2026, 11, 20, 21, 45, tzinfo=UTC))
    '2026-11-20 21:45 UTC'
    """
    return NONE if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def local_moment(value: datetime | None, zone: str) -> str:
    """A moment in the zone of the exchange, to the minute.

    >>> local_moment(datetime(2026, 11, 20, 21, 45, tzinfo=UTC), "America/New_York")
    'Fri 20 Nov 16:45 EST'
    """
    return NONE if value is None else f"{value.astimezone(ZoneInfo(zone)):%a %-d %b %H:%M %Z}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> plural(1, "session"), plural(1200, "session")
    ('1 session', '1,200 sessions')
    """
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"


def month(value: date) -> str:
    """The label of a month on an axis.

    >>> month(date(2026, 1, 2)), month(date(2026, 3, 2))
    ('2026', 'Mar')
    """
    return f"{value:%Y}" if value.month == 1 else f"{value:%b}"


def _typographic(text: str) -> str:
    return text.replace("-", MINUS)


#: The filters of every template.
FILTERS = {
    "score": score,
    "signed": signed,
    "percent": percent,
    "signed_percent": signed_percent,
    "count": count,
    "price": price,
    "signed_money": signed_money,
    "milliseconds": milliseconds,
    "moment": moment,
}
