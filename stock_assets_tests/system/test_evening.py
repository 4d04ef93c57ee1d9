"""The evening schedule of a real daemon: a session without predictions is made, and the pages show who asked."""

import pytest
from playwright.sync_api import Page, expect
from polars.testing import assert_frame_equal

from stock_assets_tests.system.conftest import MINUTES, Server, eventually, start
from stock_assets_tests.system.test_browser import PATIENCE, browser, page  # noqa: F401

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

EVENING = {"stock_assets/asked_by": "evening"}
AUTOMATION = ("evening", "complete_labels", "new_model_year", "restated_bars", "retraining", "freshness")


def test_a_closed_session_without_predictions_is_made_by_the_schedule(server: Server, summary: str):  # noqa: ARG001
    last = server.settings.calendar.sessions[-1]
    before = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    with server.warehouse.connect(read_only=False) as connection:
        connection.execute("DELETE FROM predictions WHERE session = ?", [last])
    eventually("evening", lambda: last in server.warehouse.sessions("predictions"), 4 * MINUTES, pause=1)
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
    page.goto("/locations/stock_assets/schedules/evening")
    expect(page.get_by_text("every closed session").first).to_be_visible(timeout=PATIENCE)


def test_an_evening_whose_every_process_was_killed_is_finished_after_a_restart(server: Server, summary: str):  # noqa: ARG001
    last = server.settings.calendar.sessions[-1]
    before = server.warehouse.read("predictions", last, last).sort("model", "ticker")
    earlier = {run["id"] for run in server.runs(EVENING)}
    with server.warehouse.connect(read_only=False) as connection:
        connection.execute("DELETE FROM predictions WHERE session = ?", [last])

    def started() -> bool:
        return any(run["status"] == "STARTED" and run["id"] not in earlier for run in server.runs(EVENING))

    eventually("evening run", started, 3 * MINUTES)
    for member in reversed(server.family()):
        member.kill()
    server.process.wait()
    again = start(server.settings, server.port)
    server.process, server.output = again.process, again.output
    server.wait_until_it_says("Dagster is up at", 2 * MINUTES)
    eventually("evening", lambda: last in server.warehouse.sessions("predictions"), 4 * MINUTES, pause=1)
    assert server.warehouse.read("predictions", last, last).sort("model", "ticker").equals(before)
    ended = [run["status"] for run in server.runs(EVENING) if run["id"] not in earlier]
    assert sorted(ended)[0] == "FAILURE"
    assert len(ended) == 2
