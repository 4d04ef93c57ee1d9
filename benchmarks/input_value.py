"""What each input is worth: the asset `input_value` on real prices, with ^VIX, ^GSPC and announcements.

    python -m benchmarks.input_value [--years 2014 2015] [--drawn 166] [--seeds 2] [--groups peers noise]

Everything that models read is made first, in this process. Without the file of announcements there are none. Events
that a rule gives (expiries, employment reports) are there too.
"""

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from benchmarks.common import DATA, fill, preamble, set_workload, table, use, workload_parser
from benchmarks.walk_forward import set_context
from stock_assets.evaluation.input_value import COMPARED, reading, verdicts
from stock_assets.evaluation.materialize.input_value import ValueQuestion, measure_inputs
from stock_assets.features.materialize import make_side_features
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX
from stock_assets.side_inputs.materialize import fetch_side_input
from stock_assets.side_inputs.registry import chosen_side_inputs
from stock_assets.storage.warehouse import Warehouse

#: Real dates of announcements, ticker, date and when.
ANNOUNCEMENTS = DATA / "earnings_dates_2008_2020.parquet"


def main() -> None:
    parser = workload_parser(__doc__)
    parser.add_argument("--years", type=int, nargs="*", default=[], help="model years (default: all)")
    parser.add_argument("--drawn", type=int, help="tickers that are compared (default: all)")
    parser.add_argument("--seeds", type=int, default=ValueQuestion.seeds, help="trainings of each variant")
    parser.add_argument("--groups", nargs="*", default=[], help="groups of inputs (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        set_context(True, Path(folder, "prices"), lag_vix=False)
        names = ["scheduled_events"]
        if ANNOUNCEMENTS.exists():
            os.environ[f"{PREFIX}ANNOUNCEMENTS"] = str(ANNOUNCEMENTS)
            names.append("announcements")
        os.environ[f"{PREFIX}SIDE_INPUTS"] = ",".join(names)
        config = use(Path(folder, "store"))
        sessions, store = list(calendar_of(config).sessions), Warehouse(config.database)
        fill(config, sessions)
        for entry in chosen_side_inputs(config):
            fetch_side_input(store, config, entry.table.name, sessions=sessions, now=datetime.now(UTC))
        for year in sorted({session.year for session in sessions}):
            make_side_features(store, config, [session for session in sessions if session.year == year])
        question = ValueQuestion(
            groups=tuple(options.groups), years=tuple(options.years), seeds=options.seeds, tickers=options.drawn
        )
        begin = time.perf_counter()
        input_values = measure_inputs(store, config, question, say=print)
        print_values(input_values.rows)
        print(f"{input_values.trainings} trainings, {time.perf_counter() - begin:.0f} seconds.")


def print_values(rows: pl.DataFrame) -> None:
    """The table of the page, and what was not measured."""
    cells = {(row["group"], row["way"], row["metric"]): row for row in rows.drop_nulls("difference").to_dicts()}

    def cell(group: str, way: str, metric: str) -> str:
        row = cells.get((group, way, metric))
        return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]" if row else "–"

    lines = [
        [row["group"], row["way"], *(cell(row["group"], row["way"], metric) for metric in COMPARED), row["verdict"]]
        for row in verdicts(rows).to_dicts()
    ]
    print(table(("group", "way", *COMPARED.values(), "verdict"), lines))
    print(f"{reading(rows)} {rows['rows'][0]:,} rows, model years {rows['years'][0]}.\n")
    for group, note in rows.drop_nulls("note").select("group", "note").iter_rows():
        print(f"Not measured: {group}, since {note}.")


if __name__ == "__main__":
    preamble()
    main()
