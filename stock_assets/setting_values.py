"""Values of settings that are more than one number or word."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

#: What a header of a file of tickers may say.
TICKER_HEADERS = ("ticker", "tickers", "symbol", "symbols")


@dataclass(frozen=True)
class SessionHours:
    """From when to when a session lasts, in minutes of the clock of `zone`: it ends on its own day, where an end of
    1440 is the midnight after it, and begins on that day or, if the start is no earlier, on the one before."""

    start: int
    end: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> "SessionHours":
        """Of "17:00-17:00 America/New_York" or "00:00-24:00 UTC". Raises ValueError for anything else."""
        parts = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d) (\S+)", text.strip())
        if parts is None:
            raise ValueError("not of the form 17:00-17:00 America/New_York")
        *digits, zone = parts.groups()
        hours = [int(digit) for digit in digits]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if hours[1] > 59 or hours[3] > 59 or start >= 1440 or not 0 < end <= 1440:
            raise ValueError("no time of the day")
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{zone} is no time zone") from error
        return cls(start, end, zone)

    def window(self, session: date) -> tuple[datetime, datetime]:
        """(open, close) of `session`, UTC."""

        def at(minutes: int, day: date) -> datetime:
            day += timedelta(days=minutes // 1440)
            return datetime.combine(day, time(minutes % 1440 // 60, minutes % 60), ZoneInfo(self.zone)).astimezone(UTC)

        return at(self.start, session - timedelta(days=self.start >= self.end)), at(self.end, session)


@dataclass(frozen=True)
class LabelRule:
    """What a label looks at: so many sessions ahead, and the returns (fractions, both positive) at its two barriers."""

    horizon: int = 7
    buy_threshold: float = 0.027
    sell_threshold: float = 0.022


def tickers_of_file(file: Path) -> list[str]:
    """The tickers of a file with one per line, in UTF-8 or UTF-16, with or without a byte order mark.

    Empty lines, what follows a #, and a header are left out; of a line with commas or tabs the first cell counts.
    Raises ValueError for another encoding.
    """
    content = file.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 or UTF-16") from error
    cells = [re.split(r"[,;\t]", line.partition("#")[0])[0].strip().strip('"') for line in lines]
    tickers = [cell for cell in cells if cell]
    return tickers[1:] if tickers and tickers[0].lower() in TICKER_HEADERS else tickers
