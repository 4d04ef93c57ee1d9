"""What importing the definitions costs in every Dagster process.

    python -m benchmarks.imports [--repeats 7]

The median of fresh processes, taken in turns with `import dagster` alone, each after one that is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys

from benchmarks.common import Target, preamble, table, targets
from stock_assets.settings import PREFIX, PROJECT_DIR

HEAVY = ("torch", "sklearn", "yfinance", "matplotlib")
MODULES = ("dagster", "stock_assets.definitions")
PROGRAM = """
import sys, time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began, *[name for name in {heavy} if name in sys.modules])
"""


def seconds_of(module: str) -> float:
    """Seconds that a fresh process takes for the import. Raises RuntimeError when a heavy library comes with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module, heavy=HEAVY)],
        capture_output=True,
        check=True,
        cwd=PROJECT_DIR,
        env=environment,
        text=True,
    )
    seconds, *heavy = answer.stdout.split()
    if heavy:
        raise RuntimeError(f"importing {module} also imports {', '.join(heavy)}")
    return float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    seconds_of_rounds = [[seconds_of(module) for module in MODULES] for _ in range(options.repeats + 1)][1:]
    of_module = dict(zip(MODULES, zip(*seconds_of_rounds, strict=True), strict=True))
    rows = [(f"`import {name}`", statistics.median(s), min(s), max(s)) for name, s in of_module.items()]
    print(table((f"{options.repeats} fresh processes", "median, s", "fastest, s", "slowest, s"), rows))
    print(f"None of {', '.join(HEAVY)} is imported.\n")
    print(targets(Target("import of the definitions, s", statistics.median(of_module[MODULES[1]]), 1.5)))


if __name__ == "__main__":
    preamble()
    main()
