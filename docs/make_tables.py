"""Writes what the documents derive from declarations: `python -m docs.make_tables`.

The table of the graph and the settings table in README.md, and docs/tables.md with every column of every table, come
from `stock_assets.tables.TABLES` and `stock_assets.settings.Settings`; docs/errors.md, with every problem of the API,
from `stock_assets.serving.problems`. With `--check` nothing is written: the exit code
is 1, and the pages that are out of date are named.
"""

import importlib
import importlib.util
import sys
import textwrap
from pathlib import Path

from stock_assets.serving import problems
from stock_assets.setting_values import inherited_last
from stock_assets.settings import PREFIX, PROJECT_DIR, Settings
from stock_assets.tables import ROOMS, TABLES, Column, Partitions, Table

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m docs.make_tables"

PARTITIONS: dict[Partitions | None, str] = {
    None: "–",
    "session": "session",
    "labelled session": "session, ending one horizon earlier",
    "predicted session": "session, from the first model year on",
    "model year": "model year",
}


def main(arguments: list[str]) -> int:
    """Writes every derived page, or names those that are out of date; returns the exit code."""
    pages = {path: text for path, text in derived_pages().items() if not path.exists() or path.read_text() != text}
    for path, text in pages.items():
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date; run {COMMAND}")
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if pages and "--check" in arguments else 0


def derived_pages() -> dict[Path, str]:
    """The text of every page that is derived, or holds derived parts, by its path."""
    tables = tables_of_the_rooms()
    readme = ROOT / "README.md"
    of_days, of_bars = ([table for table in tables if table.exists in (each, "both")] for each in ("day", "bar"))
    text = put_between(readme.read_text(), "graph", graph_table(of_days))
    text = put_between(text, "graph of bars", graph_table(of_bars))
    return {
        readme: put_between(text, "settings", settings_table()),
        ROOT / "docs" / "tables.md": tables_page(tables),
        ROOT / "docs" / "errors.md": problems.page(),
    }


def tables_of_the_rooms() -> list[Table]:
    """Every table that the rooms of this package declare, those of bars last in each, room by room."""
    for room in ROOMS:
        importlib.import_module(f"stock_assets.{room}")
    for room in ROOMS:
        if importlib.util.find_spec(f"stock_assets.{room}.bar_tables"):
            importlib.import_module(f"stock_assets.{room}.bar_tables")
    return [table for room in ROOMS for table in TABLES.values() if table.room == room]


def put_between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers called `name`.

    Raises ValueError where `text` does not hold both markers, once each and in order.

    >>> put_between("<!-- begin a -->\\nold\\n<!-- end a -->", "a", "new")
    '<!-- begin a -->\\nnew\\n<!-- end a -->'
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected {begin} and then {end}, once each")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def graph_table(tables: list[Table]) -> str:
    """The assets of the graph as a Markdown table: name, group, partitions and what one row is."""
    rows = [
        (f"[`{table.name}`](docs/tables.md#{table.name})", table.room, PARTITIONS[table.partitions], table.text)
        for table in tables
        if not table.history
    ]
    return markdown_table(("asset", "group", "partitions", "one row, or what it holds"), rows)


def settings_table() -> str:
    """Every setting as a Markdown table: environment variable, default and meaning."""
    rows, defaults = [], {"source": "<source>", "data_dir": PROJECT_DIR / "data" / "<source>"}
    for name, field in inherited_last(Settings).items():
        default = field.get_default(call_default_factory=True, validated_data=defaults)
        rows.append((f"`{PREFIX}{name.upper()}`", shown_default(default), field.description or ""))
    return markdown_table(("variable", "default", "meaning"), rows)


def shown_default(default: object) -> str:
    """The default of a setting as a person writes it; a dash where it has none.

    >>> shown_default(True), shown_default(None), shown_default(0.05)
    ('`true`', '–', '`0.05`')
    """
    if default is None:
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, Path) and default.is_relative_to(PROJECT_DIR):
        return f"`{default.relative_to(PROJECT_DIR)}`"
    if isinstance(default, tuple | list):
        return f"`{','.join(map(str, default))}`" if default else "–"
    return f"`{default}`"


def tables_page(tables: list[Table]) -> str:
    """The page of all tables, room by room."""
    parts = [
        "# Tables",
        f"Derived from the declarations in `stock_assets/<room>/tables.py` by `{COMMAND}`; do not edit by hand.",
        "The name of an asset is the name of its table. A room is a DuckDB schema and a group of assets.\n"
        "A history is a table that no asset makes: it gets a row when something is decided or seen.",
    ]
    for room in ROOMS:
        parts.append(f"## Room {room}")
        parts += [table_section(table) for table in tables if table.room == room]
    return "\n\n".join(parts) + "\n"


def table_section(table: Table) -> str:
    """One table: its text, keys and partitions, and a row per column."""
    text = textwrap.fill(f"{table.text[0].upper()}{table.text[1:]}.", 120, break_long_words=False)
    keys = f"Keys: {', '.join(f'`{key}`' for key in table.keys) or 'none'}."
    if table.history:
        keys += " A history."
    elif table.partitions:
        keys += f" Partitions: {PARTITIONS[table.partitions]}."
    if table.exists == "bar":
        keys += " Below the interval 1d alone."
    rows = [column_row(column, f"`{column.name}`") for column in table.columns]
    if numbered := table.numbered:
        rows.append(column_row(numbered, f"`{numbered.name}1`, `{numbered.name}2`, …"))
    header = ("column", "type", "unit", "meaning", "made from")
    return "\n\n".join((f"### {table.name}", text, keys, markdown_table(header, rows)))


def column_row(column: Column, name: str) -> tuple[str, ...]:
    """The cells of one column, which is shown as `name`."""
    made_from = ", ".join(f"`{table}.{source}`" for table, source in column.made_from)
    return name, column.duckdb_type, column.unit, column.text, made_from


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; a bar inside a cell is escaped.

    >>> print(markdown_table(("a", "b"), [("1", "x|y")]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = [header, *rows]
    cells = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "---|" * len(header), *cells[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
