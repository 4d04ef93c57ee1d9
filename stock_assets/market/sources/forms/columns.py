"""Which column of a file is which of ours."""

import re
from collections.abc import Sequence

from stock_assets.errors import SourceError

#: The names of each column in lower case, with everything but letters and digits removed.
NAMES = {
    "ticker": ("ticker", "tickers", "symbol", "symbols"),
    "session": ("session", "date"),
    "at": ("ts", "timestamp", "datetime", "opentime"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "adj_close": ("adjclose", "adjustedclose"),
    "volume": ("volume", "vol"),
    "dividend": ("dividend", "dividends"),
    "split_ratio": ("splitratio", "splits", "split", "stocksplits", "stocksplit"),
    "sector": ("sector", "gicssector"),
}
_MEANING = {name: column for column, names in NAMES.items() for name in names}
_REQUIRED = ("open", "high", "low", "close", "volume")


def our_names(names: Sequence[str], place: str) -> dict[str, str]:
    """Our columns with the names they have in the file; SourceError where these do not add up."""
    ours: dict[str, str] = {}
    for name in names:
        column = _MEANING.get(re.sub(r"[^a-z0-9]", "", name.lower()))
        if column in ours:
            raise SourceError(f"{place} has two columns for {column}: {ours[column]!r} and {name!r}, expected one")
        if column is not None:
            ours[column] = name
    found = f"found {', '.join(names)}"
    ours.pop("session" if "at" in ours else "at", None)
    missing = [column for column in _REQUIRED if column not in ours]
    if not {"session", "at"} & ours.keys():
        missing.insert(0, "session")
    if missing:
        raise SourceError(f"{place} has no column {', '.join(missing)}; {found}")
    if ("dividend" in ours) != ("split_ratio" in ours):
        raise SourceError(f"{place} has dividends or splits alone, expected both or neither; {found}")
    if "dividend" in ours and "adj_close" not in ours:
        raise SourceError(
            f"{place} has dividends and splits but no column adj_close, so its close may be adjusted; "
            f"expected a download that is not (yfinance: auto_adjust=False); {found}"
        )
    return ours
