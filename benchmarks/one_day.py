"""A day's predictions by every model, for all tickers.

    python -m benchmarks.one_day [--days 5]

The models of the last year are trained first. Then `predictions` is materialized on one session after the other, each
alone; the first, which also imports the libraries, is not counted. Seconds are those inside the asset, from its step's
start to its end.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.common import Target, fill, materialize, preamble, set_workload, table, targets, use
from benchmarks.common import workload_parser as parser_of
from stock_assets.market.calendar import calendar_of
from stock_assets.storage import artifacts
from stock_assets.storage.warehouse import Warehouse

#: What is timed inside the asset; the rest of it is predicting.
WRAPPED = (
    (Warehouse, "_select", "read"),
    (artifacts, "load_artifact", "load models"),
    (Warehouse, "replace_sessions", "write"),
)


def last_step_seconds() -> float:
    """Of the newest run: from the start of its first step to the end of its last."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(limit=1)
        steps = instance.get_run_step_stats(run.run_id)
    return max(step.end_time or 0.0 for step in steps) - min(step.start_time or 0.0 for step in steps)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--days", type=int, default=5, help="sessions that are timed")
    options = parser.parse_args()
    seconds: dict[str, float] = defaultdict(float)

    def timed(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds[kind] += time.perf_counter() - start

        return run

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        set_workload(options, Path(folder))
        config = use(Path(folder, "store"))
        sessions = calendar_of(config).sessions
        fill(config, sessions)
        for name in ("trained_rnn", "trained_baselines", "trained_ensemble"):
            materialize(config, [name], [sessions[-1].year])  # pyright: ignore[reportArgumentType]
        for owner, name, kind in WRAPPED:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), kind)))
        days = []
        for session in sessions[-options.days - 1 :]:
            seconds.clear()
            whole = materialize(config, ["predictions"], [session])
            days.append((session, last_step_seconds(), dict(seconds), whole))
        predictions = Warehouse(config.database).read("predictions", sessions[-1], columns=["model", "ticker"])
    kinds = [kind for _, _, kind in WRAPPED]
    rows = [
        [str(session), inside, *(seconds_of.get(kind, 0.0) for kind in kinds), inside - sum(seconds_of.values()), whole]
        for session, inside, seconds_of, whole in days[1:]
    ]
    print(
        f"{predictions.height:,} rows a day: {predictions['ticker'].n_unique()} tickers, "
        f"{predictions['model'].n_unique()} models.\n"
    )
    print(table(("session", "inside the asset, s", *kinds, "predict and check", "the whole run"), rows))
    print(targets(Target("a day's predictions after imports, s", statistics.median(row[1] for row in days[1:]), 2)))


if __name__ == "__main__":
    preamble()
    main()
