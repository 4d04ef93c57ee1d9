"""Every operation of /openapi.json with generated requests: schemathesis with all of its checks.

What it cannot see, such as numbers that JSON cannot hold, is in the tests of each route.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from stock_assets_tests.effort import tries
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import Served, served

EXAMPLES = tries(20, drill=60)
#: Two halves of about the same time, for two workers.
HALVES = {"predictions": r"^/v1/(predictions|history)", "others": r"^(?!/v1/(predictions|history))"}
#: Seconds of processor time of a half at most, those of the server included: beside other tests it waits longer.
BUDGET = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    with served(app_of(folder)) as server:
        yield server


@pytest.mark.tries
@pytest.mark.parametrize("half", HALVES)
def test_no_generated_request_breaks_a_promise_of_the_description(server: Served, tmp_path: Path, half: str):
    command = (
        f"run {server.url}/openapi.json --checks all --max-examples {EXAMPLES} --generation-deterministic "
        f"--phases examples,coverage,fuzzing --include-path-regex {HALVES[half]} --no-color"
    )
    began = processor_seconds()
    run = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,  # it keeps a folder of its own beside what it tests
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    # a warning that data of some operation is missing is no failure
    counts = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert counts is not None, run.stdout[-2000:]
    assert counts[1] == counts[2]
    assert int(counts[1]) > EXAMPLES
    spent = processor_seconds() - began
    assert spent <= BUDGET, f"{spent:.0f} s of processor time for {counts[1]} requests, expected {BUDGET} s or less"


def processor_seconds() -> float:
    """Of this process, whose thread is the server, and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def test_the_halves_are_the_whole(server: Served):
    with urlopen(f"{server.url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    for path in paths:
        assert [half for half, pattern in HALVES.items() if re.search(pattern, path)] != []
    for operation in (one for methods in paths.values() for one in methods.values()):
        assert operation["operationId"]
