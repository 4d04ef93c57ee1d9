"""How rows and pictures are shown in the UI."""

import polars as pl

from stock_assets.defs.tables import FEWEST_ROWS, PREVIEW_ROWS, SHOWN_WITHOUT_A_CLICK, preview

NARROW = pl.DataFrame({"ticker": ["A"] * 20, "close": [1.5] * 20})
WIDE = pl.DataFrame({f"a_rather_long_name_of_column_{i}": [1.0 / 3] * 20 for i in range(12)})


def rows_of(table: str) -> int:
    return len(table.splitlines()) - 2


def test_a_preview_has_as_many_rows_as_are_visible_without_a_click():
    assert rows_of(preview(NARROW).value) == PREVIEW_ROWS  # pyright: ignore[reportArgumentType]
    wide = preview(WIDE.select(WIDE.columns[:8])).value
    assert FEWEST_ROWS <= rows_of(str(wide)) < PREVIEW_ROWS
    assert len(str(wide)) < SHOWN_WITHOUT_A_CLICK


def test_a_preview_that_is_too_wide_for_that_keeps_some_rows():
    table = str(preview(WIDE.rename(lambda name: name * 3)).value)
    assert rows_of(table) == FEWEST_ROWS
    assert len(table) > SHOWN_WITHOUT_A_CLICK


def test_a_short_frame_is_shown_whole():
    assert rows_of(str(preview(NARROW.head(1)).value)) == 1
    assert rows_of(str(preview(NARROW.clear()).value)) == 0
