"""The records of what is stored: their share of a fill of all sessions.

    python -m benchmarks records

Every write records its partitions in the transaction of its rows (`storage/partitions.py`). The fill runs in this
process, and both figures are seconds of processor time, so that what else the machine does counts little.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Target, fill, preamble, set_workload, table, targets, use, workload_parser
from stock_assets.market.calendar import calendar_of
from stock_assets.storage import warehouse


def main() -> None:
    options = workload_parser(__doc__).parse_args()
    record, seconds, writes = warehouse.record_partitions, 0.0, 0

    def measured(*arguments: Any) -> None:
        nonlocal seconds, writes
        start = time.process_time()
        record(*arguments)
        seconds, writes = seconds + time.process_time() - start, writes + 1

    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        config = use(Path(folder, "data"))
        warehouse.record_partitions = measured
        start = time.process_time()
        fill(config, calendar_of(config).sessions)
        whole = time.process_time() - start
    print(table(("", "seconds of processor time"), [("the fill", whole), (f"its {writes} records", seconds)]))
    print(targets(Target("share of the records, %", 100 * seconds / whole, 5.0)))


if __name__ == "__main__":
    preamble()
    main()
