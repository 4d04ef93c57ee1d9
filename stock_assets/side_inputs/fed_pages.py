"""The meetings of the Federal Open Market Committee, as pages of the Federal Reserve list them.

Both forms are read: that of the years from five years ago on (https://www.federalreserve.gov/monetarypolicy/
fomccalendars.htm), where a heading names the year and a row the month and the days, and that of one earlier year
(https://www.federalreserve.gov/monetarypolicy/fomchistorical2014.htm), where a heading names a whole meeting.
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from stock_assets.errors import SourceError
from stock_assets.escape import shortened

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR = re.compile(r"\s*(\d{4}) FOMC Meetings\s*")
_DAYS = re.compile(r"(\d{1,2})(?:\s*[-–]\s*(\d{1,2}))?\s*\*?")
#: `January 28-29 Meeting - 2014`, `Jul/Aug 31-1 Meeting - 2018`, `April 30-May 1 Meeting - 2013`
_MEETING = re.compile(
    r"(?P<first>[A-Za-z]+)(?:/(?P<second>[A-Za-z]+))? (?P<from>\d{1,2})"
    r"(?:\s*[-–]\s*(?:(?P<third>[A-Za-z]+) )?(?P<to>\d{1,2}))? Meeting - (?P<year>\d{4})"
)
#: What is no meeting of the schedule: nobody could know its day ahead, or it was not held.
_UNSCHEDULED = re.compile(r"unscheduled|notation vote|conference call|cancell?ed", re.IGNORECASE)


def scheduled_meetings(html: str | bytes, place: str) -> list[date]:
    """The last days of the scheduled meetings on the page, on which the decision is published, ascending.

    Meetings that were not in the schedule, votes in writing and meetings that were called off are left out. Raises
    SourceError that names `place` for a page without meetings, and for days that cannot be read.
    """
    year: int | None = None
    month = ""
    days: set[date] = set()
    for element in _elements(html, place):
        text = " ".join(element.text_content().split())
        kinds = element.get("class") or ""
        if element.tag in ("h3", "h4", "h5"):
            if heading := _YEAR.match(text):
                year = int(heading[1])
            elif meeting := _MEETING.fullmatch(text):
                names = [name for name in (meeting["first"], meeting["second"] or meeting["third"]) if name]
                days.add(_last_day(int(meeting["year"]), names, (meeting["from"], meeting["to"]), place=place))
        elif "fomc-meeting__month" in kinds:
            month = text
        elif "fomc-meeting__date" in kinds and year is not None and not _UNSCHEDULED.search(text):
            if not (day_match := _DAYS.fullmatch(text)):
                raise SourceError(
                    f"{place}: found the days {shortened(text, 40)!r} of a meeting in {shortened(month, 20)!r} {year}, "
                    "expected some such as 30-31 or 17-18*"
                )
            days.add(_last_day(year, month.split("/"), (day_match[1], day_match[2]), place=place))
    if not days:
        raise SourceError(f"{place}: found no meeting of the FOMC, expected a page as federalreserve.gov has it")
    return sorted(days)


def _last_day(year: int, months: Sequence[str], days: tuple[str, str | None], *, place: str) -> date:
    """Of two months the last of `days` is in the second, and so it is where one is named and the days begin anew."""
    first, last = days
    try:
        number = _MONTHS.index(months[-1].strip()[:3].lower()) + 1
        return date(year, number + (len(months) == 1 and int(last or first) < int(first)), int(last or first))
    except ValueError:
        date_text = f"{first if last is None else f'{first}-{last}'} {shortened('/'.join(months), 20)!r} {year}"
        raise SourceError(f"{place}: found a meeting on {date_text}, expected days of a month") from None


def _elements(html: str | bytes, place: str) -> list[Any]:
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]: it is made of C
    from lxml import html as pages

    content = html.encode() if isinstance(html, str) else html
    try:
        page = pages.document_fromstring(content, parser=pages.HTMLParser(encoding="utf-8"))
    except (etree.LxmlError, ValueError) as error:
        raise SourceError(f"{place}: found no HTML ({str(error)[:100]}), expected a page of the Fed") from error
    return page.xpath("//h3|//h4|//h5|//*[contains(@class, 'fomc-meeting__')]")
