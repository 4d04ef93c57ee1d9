"""Which companies of the SEC a ticker stood for, and when.

`company_tickers.json` holds today's company of today's tickers. A company that is put under a new holding company files
under a new number (CIK) from then on, and a ticker that is gone is in no list: the first are named here, as far as we
know of them, and a file of a person's own names any.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SettingsError, UnknownTickerError
from stock_assets.escape import shortened
from stock_assets.market.renames import RENAMES, Rename, newest

_PREFIX = "STOCK_ASSETS_SEC_COMPANIES"


class Company(NamedTuple):
    """A number of the SEC and the days on which a ticker stood for it; None where the stretch has no end."""

    cik: int
    first: date | None = None
    last: date | None = None


def _before(cik: int, last: date) -> Company:
    return Company(cik, None, last)


#: The companies that a ticker stood for before today's, with the day before the new one was the registrant. Add yours
#: here, or in the file that the setting names.
FORMER: Mapping[str, tuple[Company, ...]] = {
    "APA": (_before(6769, date(2021, 2, 28)),),
    "AVGO": (_before(1441634, date(2016, 1, 31)), Company(1649338, date(2016, 2, 1), date(2018, 4, 3))),
    "BG": (_before(1144519, date(2023, 10, 31)),),
    "BLK": (_before(1364742, date(2024, 9, 30)),),
    "CI": (_before(701221, date(2018, 12, 20)),),
    "DIS": (_before(1001039, date(2019, 3, 19)),),
    "GOOG": (_before(1288776, date(2015, 10, 1)),),
    "GOOGL": (_before(1288776, date(2015, 10, 1)),),
    "MDT": (_before(64670, date(2015, 1, 25)),),
    "WBA": (_before(104207, date(2014, 12, 30)),),
}


def spelled(ticker: str) -> str:
    """`ticker` as the SEC spells it.

    >>> spelled("BRK.B"), spelled("brk/b"), spelled("AAPL")
    ('BRK-B', 'BRK-B', 'AAPL')
    """
    return ticker.upper().replace(".", "-").replace("/", "-")


def companies_of(
    ticker: str,
    today: Mapping[str, int],
    own: Mapping[str, Sequence[Company]] | None = None,
    *,
    renames: Sequence[Rename] = RENAMES,
) -> tuple[Company, ...]:
    """The companies that `ticker` stood for. `today` is `Edgar.tickers`, `own` a person's file (`own_companies`), which
    comes before everything else.

    A ticker that `today` lacks may have another name by now (`market.renames`). Raises UnknownTickerError.

    >>> companies_of("BRK.B", {"BRK-B": 1067983})
    (Company(cik=1067983, first=None, last=None),)
    >>> [company.cik for company in companies_of("GOOGL", {"GOOGL": 1652044})]
    [1288776, 1652044]
    """
    name = spelled(ticker)
    if own and name in own:
        return tuple(own[name])
    names = [name, *(spelled(newest(rename, renames)) for rename in renames if spelled(rename.old) == name)]
    for listed_name in names:
        if listed_name in today:
            former = FORMER.get(listed_name, ())
            since = former[-1].last if former else None
            first = None if since is None else date.fromordinal(since.toordinal() + 1)
            return (*former, Company(today[listed_name], first))
    raise UnknownTickerError(
        f"EDGAR has no company with the ticker {name} today; a line of {_PREFIX} (ticker, cik, first, last) names "
        "the one of then"
    )


def own_companies(path: Path) -> dict[str, list[Company]]:
    """The companies of a CSV file with the columns ticker and cik, and first and last (days, may be empty or absent).

    Raises SettingsError that names the file, the row and what was expected.
    """
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SettingsError(f"{_PREFIX}={path} cannot be read: {str(error).splitlines()[0]}") from error
    if missing := [name for name in ("ticker", "cik") if name not in rows.columns]:
        columns = shortened(", ".join(rows.columns), 80)
        raise SettingsError(
            f"{_PREFIX}={path} lacks the column {' and '.join(missing)}; found {columns}, expected ticker, cik, first, "
            "last"
        )
    companies: dict[str, list[Company]] = {}
    for number, row in enumerate(rows.iter_rows(named=True), 2):
        try:
            company = Company(int(row["cik"]), _day(row.get("first")), _day(row.get("last")))
            ticker = spelled(row["ticker"])
        except (AttributeError, TypeError, ValueError):
            raise SettingsError(
                f"{_PREFIX}={path}, line {number}: found {shortened(repr(tuple(row.values())), 80)}, expected a "
                "ticker, a whole number and two days such as 2015-10-01, or nothing"
            ) from None
        if company.cik <= 0 or (company.first and company.last and company.first > company.last):
            raise SettingsError(
                f"{_PREFIX}={path}, line {number}: found {company}, expected a cik above 0 and a first day that is not "
                "after the last"
            )
        companies.setdefault(ticker, []).append(company)
    return {
        ticker: sorted(stretches, key=lambda company: company.first or date.min)
        for ticker, stretches in companies.items()
    }


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text.strip()) if text and text.strip() else None
