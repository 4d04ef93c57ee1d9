"""A benchmark on an older commit and on this one, in turn, and the figures of both beside each other.

    python -m benchmarks.against [--times N] COMMIT NAME [options of NAME]

The older commit is checked out into a folder of its own, its benchmark of that name runs with the same libraries, and
the folder is removed. A benchmark that it lacks is that of this commit. Of each figure that both print in a table of
the same first column, the medians are shown.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import DATA, preamble, table
from stock_assets.settings import PROJECT_DIR

#: (first column of the table, row, column)
Figure = tuple[str, str, str]

_NUMBER = re.compile(r"-?[\d,]*\.?\d+")


def figures(page: str) -> dict[Figure, float]:
    """The numbers of the Markdown tables of `page`; of a cell, its first. Of equal rows the last counts.

    >>> figures("| step | seconds |\\n| --- | --: |\\n| **all** | 1,200.5 s |\\n")
    {('step', 'all', 'seconds'): 1200.5}
    """
    figures_of_page: dict[Figure, float] = {}
    header: list[str] | None = None
    for line in page.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
        elif not set(line) <= set("|-: "):
            for column, cell in zip(header[1:], cells[1:], strict=False):
                if number := _NUMBER.match(cell):
                    figures_of_page[header[0], cells[0], column] = float(number[0].replace(",", ""))
    return figures_of_page


@contextmanager
def checked_out(commit: str, project: Path = PROJECT_DIR) -> Iterator[Path]:
    """The files of `commit` in a folder that is removed. Raises subprocess.CalledProcessError where git knows none."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "older")
        git = ["git", "-C", str(project), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def page_of(tree: Path, benchmark: list[str]) -> str:
    """What the benchmark of `tree` prints; that of this commit, where `tree` is from before it.

    Raises subprocess.CalledProcessError where it fails.
    """
    file = Path("benchmarks", f"{benchmark[0]}.py")
    if not (tree / file).exists():
        shutil.copy(PROJECT_DIR / file, tree / file)
    of_tree = os.environ | {"PYTHONPATH": str(tree), "REAL_DATA_DIR": str(DATA.resolve())}
    command = [sys.executable, "-m", f"benchmarks.{benchmark[0]}", *benchmark[1:]]
    return subprocess.run(command, cwd=tree, env=of_tree, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the older one")
    parser.add_argument("--times", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("benchmark", nargs=argparse.REMAINDER, help="its name and its options")
    options = parser.parse_args()
    if not options.benchmark:
        parser.error("no benchmark is named; expected such as: against HEAD~10 evening --tickers 60")
    with checked_out(options.commit) as older:
        pages = [
            [figures(page_of(tree, options.benchmark)) for tree in (older, PROJECT_DIR)] for _ in range(options.times)
        ]
    before, now = zip(*pages, strict=True)
    rows = []
    for figure in now[0]:
        sides = [[page[figure] for page in side if figure in page] for side in (before, now)]
        if all(sides):
            was, is_now = map(statistics.median, sides)
            rows.append([*figure[1:], was, is_now, was / is_now if is_now else "–"])
    print(table(("figure", "", options.commit, "now", "times"), rows))


if __name__ == "__main__":
    preamble()
    main()
