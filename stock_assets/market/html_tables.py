"""The tables of a page, within bounds: a cell may span others, and pandas makes all of them, however many it says."""

import re
from functools import lru_cache
from io import StringIO

import polars as pl

from stock_assets.errors import SourceError

#: What a table may have: those that we read have a thousand rows, and no cell over more than some of them.
MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 5_000, 50, 100_000


@lru_cache(maxsize=2)  # each of the two tables is looked for among all of them
def tables_of(html: str, expected: str = "those of the S&P 500") -> list[pl.DataFrame]:
    """Every table of the page as text, the two rows of a heading joined by a space.

    Raises SourceError, which says what was `expected`, for a page without tables, and for one with a huge one.
    """
    import pandas as pd

    _require_small_tables(html, expected)
    try:
        tables = pd.read_html(StringIO(html), flavor="lxml", keep_default_na=False)
    except ValueError as error:  # no table at all
        raise SourceError(f"the page has no table ({error}), expected {expected}") from error
    frames = []
    for table in tables:
        names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in table.columns]
        if len(set(names)) == len(names):
            cells = {name: [str(cell) for cell in table.iloc[:, i]] for i, name in enumerate(names)}
            frames.append(pl.DataFrame(cells, dict.fromkeys(names, pl.String)))
    return frames


def _require_small_tables(html: str, expected: str) -> None:
    """Raises SourceError where a table would be large: pandas makes every row and column that a cell says it spans."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]: it is made of C
    from lxml import html as pages

    try:
        page = pages.document_fromstring(html.encode(), parser=pages.HTMLParser(encoding="utf-8"))
    except (etree.LxmlError, ValueError) as error:
        raise SourceError(f"the page is no HTML ({str(error)[:100]}), expected {expected}") from error
    for table in page.iter("table"):
        cells = list(table.iter("td", "th"))
        spans = [(_span(cell.get("rowspan"), "rows"), _span(cell.get("colspan"), "columns")) for cell in cells]
        area = sum(rows * columns for rows, columns in spans)
        if area > MOST_CELLS:
            raise SourceError(f"a table of the page has {area:,} cells, expected at most {MOST_CELLS:,}")


def _span(text: str | None, unit: str) -> int:
    limit = MOST_ROWS if unit == "rows" else MOST_COLUMNS
    digits = re.match(r"\s*(\d{1,20})", text or "1")
    if digits is None or not 0 <= int(digits[1]) <= limit or len((text or "").strip()) > 20:
        raise SourceError(f"a cell of the page spans {(text or '')[:20]!r} {unit}, expected 1 to {limit}")
    return max(1, int(digits[1]))
