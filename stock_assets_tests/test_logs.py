"""Whatever this package logs, with whatever text from outside in it, is one line of characters that can be seen."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.escape import one_line
from stock_assets.outgoing import child

FORGED = "Red\x1b[31mHat\0\r\n2026-11-27 23:00:00 - ERROR - all is lost\u2028\u202e"
SEEN = one_line(FORGED)


@pytest.fixture
def heard() -> Iterator[StringIO]:
    """What a handler writes of our logger and of another library's."""
    sink = StringIO()
    handler = logging.StreamHandler(sink)
    loggers = [logging.getLogger(name) for name in ("stock_assets.tests", "another")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield sink
    for logger in loggers:
        logger.removeHandler(handler)


def test_text_from_outside_forges_no_line_of_our_loggers(heard: StringIO):
    log = logging.getLogger("stock_assets.tests")
    log.info(FORGED)
    log.warning("%s has %d bars, %s", FORGED, 3, ValueError(FORGED))
    log.error(f"100 % of {FORGED}")
    assert heard.getvalue().splitlines() == [SEEN, f"{SEEN} has 3 bars, {SEEN}", f"100 % of {SEEN}"]


def test_other_libraries_log_as_they_did(heard: StringIO):
    logging.getLogger("another").info("two\nlines of %s", "theirs")
    assert heard.getvalue() == "two\nlines of theirs\n"


@given(st.text())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_any_text_is_one_line(text: str):
    record = logging.getLogger("stock_assets.tests").makeRecord("stock_assets.x", 20, "", 1, "%s", (text,), None)
    assert record.getMessage().isprintable()


def test_the_log_of_a_run_is_escaped_where_our_code_writes_it():
    """By the file that logs: Dagster's own lines, with their line breaks, stay."""
    code = compile(
        "def say(log, text):\n    log.info(text)\n    log.warning('about %s', text)\n", child.__file__, "exec"
    )
    ours: dict = {}
    exec(code, ours)

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        ours["say"](context.log, FORGED)
        context.log.info("theirs\nof two lines")

    @dg.job
    def talk() -> None:
        step()

    instance = dg.DagsterInstance.ephemeral()
    result = talk.execute_in_process(instance=instance)
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
    assert said == [SEEN, f"about {SEEN}", "theirs\nof two lines"]


def test_every_process_that_imports_anything_of_the_package_escapes():
    code = "import logging, stock_assets.escape; logging.getLogger('stock_assets.x').error('a\\nb\\x1b')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stderr == one_line("a\nb\x1b") + "\n"
