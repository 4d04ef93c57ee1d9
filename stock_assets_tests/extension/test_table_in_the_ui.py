"""A table from outside: declared once, written and read through the store, shown in the UI with schema and lineage."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from stock_assets.defs.tables import report_sessions, table_asset
from stock_assets.errors import TableError
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import KEY_COLUMNS, TABLES, Column, Table, declare

SESSION = date(2026, 3, 3)
SENTIMENT = Table(
    "sentiment",
    "toys",
    "what the news says of a ticker on a session",
    (
        *KEY_COLUMNS,
        Column("tone", pl.Float64(), "mean tone of the articles", unit="-1 to 1", made_from=(("daily_bars", "close"),)),
        Column("articles", pl.Int64(), "articles that were read"),
    ),
    keys=("ticker", "session"),
    partitions="session",
)
ROWS = pl.DataFrame({"ticker": ["AAPL"], "session": [SESSION], "tone": [0.25], "articles": [3]})


@pytest.fixture(autouse=True)
def declared_outside() -> Iterator[None]:
    declare(SENTIMENT)
    yield
    TABLES.pop("sentiment")


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store.duckdb")


def test_it_is_written_and_read_like_any_other(store: Warehouse):
    store.replace_sessions("sentiment", [SESSION], ROWS)
    store.replace_sessions("sentiment", [SESSION], ROWS)
    assert store.read("sentiment").rows() == ROWS.rows()
    assert store.query("SELECT tone FROM toys.sentiment").item() == 0.25
    assert store.row_counts() == {"sentiment": 1}
    with pytest.raises(TableError, match="rows of sentiment lack the column articles"):
        store.append("sentiment", ROWS.drop("articles"))


def test_the_ui_shows_its_columns_and_what_they_are_made_from(store: Warehouse):
    days = dg.DailyPartitionsDefinition("2026-03-02")

    @table_asset("sentiment", description="the tone of the news", partitions=days)
    def sentiment(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        warehouse.replace_sessions("sentiment", [SESSION], ROWS)
        return report_sessions(context, ROWS, [SESSION])

    spec = sentiment.get_asset_spec()
    assert (spec.group_name, spec.metadata["dagster/table_name"]) == ("toys", "toys.sentiment")
    schema = spec.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [
        ("ticker", "VARCHAR"),
        ("session", "DATE"),
        ("tone", "DOUBLE"),
        ("articles", "BIGINT"),
    ]
    assert schema.columns[2].description == "mean tone of the articles, -1 to 1"
    result = dg.materialize([sentiment], partition_key=str(SESSION), resources={"warehouse": store})
    (made,) = result.asset_materializations_for_node("sentiment")
    lineage = made.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column == {"tone": [dg.TableColumnDep(dg.AssetKey("daily_bars"), "close")]}
    assert store.read("sentiment").height == 1
