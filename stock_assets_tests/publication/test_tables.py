"""What is published of a table of the store has its columns: the API, which reads these files, may not import it."""

import pytest

from stock_assets.features.tables import LABELS
from stock_assets.lifecycle.tables import DRIFT, OPERATIONS, PROMOTIONS, RETRAINING_DECISIONS
from stock_assets.market.tables import DAILY_BARS, FETCH_OUTCOMES, UNIVERSE
from stock_assets.model.tables import PREDICTIONS
from stock_assets.publication.tables import BARS_FILE, MONITORING, OUTCOMES_FILE, PREDICTIONS_FILE
from stock_assets.tables import Table

#: A file, the tables that it is made of, and its columns that are made where it is published.
MADE_OF = [
    (MONITORING["drift"], [DRIFT], set()),
    (MONITORING["promotions"], [PROMOTIONS], set()),
    (MONITORING["retraining_decisions"], [RETRAINING_DECISIONS], set()),
    (MONITORING["fetch_outcomes"], [FETCH_OUTCOMES], set()),
    (MONITORING["sessions"], [OPERATIONS], {"left_out", "rank_ic", "expected_log_loss"}),
    (PREDICTIONS_FILE, [PREDICTIONS], {"rank", "status", "reason"}),
    (BARS_FILE, [DAILY_BARS, UNIVERSE], set()),
    (OUTCOMES_FILE, [LABELS], {"usable"}),
]


@pytest.mark.parametrize(("file", "tables", "own"), MADE_OF, ids=lambda value: getattr(value, "name", ""))
def test_a_file_has_the_types_and_units_of_the_table_that_it_is_made_of(
    file: Table, tables: list[Table], own: set[str]
):
    stored = {column.name: column for table in reversed(tables) for column in table.columns}
    assert {column.name for column in file.columns} - set(stored) == own
    for column in file.columns:
        if column.name not in own:
            of_table = stored[column.name]
            assert (column.dtype, of_table.unit or column.unit) == (of_table.dtype, column.unit), column.name
    if file.name in MONITORING:
        assert file.keys == tables[0].keys
