"""Killed at any line between the plan and the last acknowledgement, the broker's orders are the plan, each once."""

import subprocess
import sys
from pathlib import Path

import pytest

from stock_assets_tests.effort import tries


@pytest.mark.tries
def test_a_sending_that_dies_anywhere_is_finished_by_the_next(tmp_path: Path):
    every = tries(5, 1)
    command = [sys.executable, "-m", "stock_assets_tests.trading.broker.kill_drill", str(tmp_path), str(every)]
    drill = subprocess.run(command, capture_output=True, text=True, check=False)
    assert drill.returncode == 0, drill.stderr
    assert int(drill.stdout) > 150 // every
