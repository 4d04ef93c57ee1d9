"""The evening sensor of a real daemon: a session without predictions is made, and the pages show who asked."""

import os
import random
import signal
import time
from functools import partial

import pytest
from playwright.sync_api import Page, expect
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import calendar_of
from stock_assets_tests.system.conftest import COMPLETE, MINUTES, Server, eventually, start
from stock_assets_tests.system.test_browser import PATIENCE, browser, page  # noqa: F401

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

EVENING = {"stock_assets/asked_by": "evening"}
#: Looks at the runs, a second apart.
LOOKS = 5
AUTOMATION = (
    "evening",
    "complete_labels",
    "new_model_year",
    "restated_bars",
    "reference_models",
    "retraining",
    "freshness",
)


def settled(server: Server) -> None:
    """Nothing is under way, nor about to be: `make run` asks for its next run within a second or two. Rows that are
    taken from under a run make it fail, and those that another run is to make are not asked for by the evening."""
    looks: list[bool] = []

    def idle() -> bool:
        looks.append(all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in server.runs()))
        return len(looks) >= LOOKS and all(looks[-LOOKS:])

    eventually("end of what is under way", idle, 15 * MINUTES, pause=1)


def started(server: Server, earlier: set[str]) -> str | None:
    """The evening run that is under way and not one of `earlier`."""
    fresh = [run["id"] for run in server.runs(EVENING) if run["status"] == "STARTED" and run["id"] not in earlier]
    return fresh[0] if fresh else None


def ended(server: Server, earlier: set[str], *expected: list[str]) -> None:
    """The runs that are not of `earlier` come to one of these ends, in whatever order: also one that died after its
    predictions has a second, which makes what follows them."""

    def fresh() -> list[str]:
        return [run["id"] for run in server.runs(EVENING) if run["id"] not in earlier]

    eventually("success", lambda: "SUCCESS" in map(server.finished, fresh()), 15 * MINUTES, pause=1)
    found = {run_id: server.finished(run_id) for run_id in fresh()}
    assert sorted(found.values()) in expected, [server.client.failures(run_id) for run_id in found]


def test_a_closed_session_without_predictions_is_made_by_itself(server: Server, summary: str):  # noqa: ARG001
    settled(server)
    last = calendar_of(server.settings).sessions[-1]
    before = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    with server.warehouse.connect(read_only=False) as connection:
        connection.execute("DELETE FROM predictions WHERE session = ?", [last])
    eventually("evening", lambda: last in server.warehouse.sessions("predictions"), 15 * MINUTES, pause=1)
    after = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    # made alone now, within a range before
    assert_frame_equal(after, before, abs_tol=1e-6)
    (run,) = server.runs(EVENING)
    assert server.finished(run["id"]) == "SUCCESS"
    assert {"key": "stock_assets/work", "value": f"session {last}"} in run["tags"]


def test_the_automation_page_names_everything_that_runs_by_itself(page: Page, summary: str):  # noqa: ARG001, F811
    page.goto("/automation")
    for name in AUTOMATION:
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
    page.goto("/locations/stock_assets/sensors/evening")
    expect(page.get_by_text("every closed session").first).to_be_visible(timeout=PATIENCE)


def test_an_evening_whose_every_process_was_killed_is_finished_after_a_restart(server: Server, summary: str):  # noqa: ARG001
    settled(server)
    last = calendar_of(server.settings).sessions[-1]
    before = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    earlier = {run["id"] for run in server.runs(EVENING)}
    with server.warehouse.connect(read_only=False) as connection:
        connection.execute("DELETE FROM predictions WHERE session = ?", [last])

    eventually("evening run", partial(started, server, earlier), 15 * MINUTES)
    for member in reversed(server.family()):
        member.kill()
    server.process.wait()
    again = start(server.settings, server.port)
    server.process, server.output = again.process, again.output
    server.wait_until_it_says("Dagster is up at", 15 * MINUTES)
    # by the comparison at the start, or by the sensor, which Dagster first lets go on with its cut tick for two minutes
    eventually("evening", lambda: last in server.warehouse.sessions("predictions"), 15 * MINUTES, pause=1)
    assert server.warehouse.read("predictions", last, last).sort("model", "ticker").equals(before)
    runs = [run for run in server.runs(EVENING) if run["id"] not in earlier]
    assert runs[-1]["status"] == "FAILURE", "the run that was killed"


def test_an_evening_in_which_anything_is_killed_completes_by_itself(server: Server, summary: str):  # noqa: ARG001
    """The run, the web server and the daemon, each at a random moment of an evening: nobody starts anything again."""
    last = calendar_of(server.settings).sessions[-1]
    before = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    chance = random.Random(0)
    for victim in ("run", "dagster_webserver", "dagster._daemon"):
        settled(server)
        earlier, starts = {run["id"] for run in server.runs(EVENING)}, server.said().count(COMPLETE)
        with server.warehouse.connect(read_only=False) as connection:
            connection.execute("DELETE FROM predictions WHERE session = ?", [last])
        run_id = eventually("evening run", partial(started, server, earlier), 15 * MINUTES)
        process = server.process_of(run_id)
        time.sleep(chance.uniform(0, 3))
        if victim == "run":
            os.kill(process, signal.SIGKILL)
        else:
            (process,) = [member for member in server.family() if victim in " ".join(member.cmdline())]
            process.kill()
            eventually("restart", lambda n=starts: server.said().count(COMPLETE) > n, 15 * MINUTES)
        eventually("evening", lambda: last in server.warehouse.sessions("predictions"), 15 * MINUTES, pause=1)
        after = server.warehouse.read("predictions", last, last).sort("model", "ticker")
        assert_frame_equal(after, before, abs_tol=1e-6)
        if victim == "run":  # after a restart the comparison with the store may make what is missing
            # one that was over before it could be killed has nothing to make up for
            ended(server, earlier, ["FAILURE", "SUCCESS"], ["SUCCESS"])
    assert server.said().count("ended by itself") == 2
