"""Which tickers a source is asked for, for which sessions, and when too many of them fail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from stock_assets.market.sources.answers import some

#: Every fetch asks for so many sessions before its own once more, so that what the vendor restated within a week is
#: seen the next evening.
LOOK_AGAIN = 5
#: So many tickers are named for each reason in an error.
TICKERS_NAMED = 50


class Request(NamedTuple):
    """One question to a source."""

    tickers: list[str]
    sessions: list[date]
    """ascending; the bars of other sessions between them are not used"""


def requests_for(
    tickers: list[str],
    sessions: list[date],
    *,
    owed_since: Mapping[str, date],
    stored_sessions: Callable[[date, date], Iterable[date]],
) -> list[Request]:
    """One request for `sessions` (ascending) of all `tickers`, and one for earlier bars that some tickers still lack.

    `owed_since` holds the first session that a ticker lacks, `stored_sessions` lists the stored sessions between two
    days. Missing earlier bars are a request of their own: the other tickers are not requested again, and today's bars
    do not depend on the answer.
    """
    requests = [Request(tickers, sessions)]
    if late_tickers := sorted(ticker for ticker, since in owed_since.items() if since < sessions[0]):
        first_owed = min(owed_since[ticker] for ticker in late_tickers)
        earlier = sorted(set(stored_sessions(first_owed, sessions[0])) - {sessions[0]})
        requests += [Request(late_tickers, earlier)] if earlier else []
    return requests


def too_many_failures(reasons: Mapping[str, str], requested_count: int, allowed: float) -> str | None:
    """The tickers that failed and why, as a sentence, if they are more than the `allowed` share of `requested_count`;
    else None.

    `reasons` holds why there is no answer, by ticker.

    >>> print(too_many_failures({"AAA": "HTTP 503", "BBB": "HTTP 503"}, requested_count=10, allowed=0.05))
    no answer for 2 of 10 tickers, 20.0%, where 5.0% may fail. AAA, BBB: HTTP 503
    >>> too_many_failures({"AAA": "HTTP 503"}, requested_count=100, allowed=0.05)
    """
    if len(reasons) <= allowed * requested_count:
        return None
    tickers_of: dict[str, list[str]] = {}
    for ticker, reason in sorted(reasons.items()):
        tickers_of.setdefault(reason, []).append(ticker)
    most_first: Sequence[tuple[str, list[str]]] = sorted(tickers_of.items(), key=lambda group: -len(group[1]))
    named_reasons = "; ".join(f"{some(tickers, TICKERS_NAMED)}: {reason}" for reason, tickers in most_first)
    return (
        f"no answer for {len(reasons)} of {requested_count} tickers, {len(reasons) / requested_count:.1%}, where "
        f"{allowed:.1%} may fail. {named_reasons}"
    )
