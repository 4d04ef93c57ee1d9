"""What a person does first, done with a real Chromium: look at the graph, look at an asset, click, backfill a year."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import calendar_of
from stock_assets_tests.system.chain import DAILY_CHAIN
from stock_assets_tests.system.conftest import Server, eventually
from stock_assets_tests.tables import HISTORIES, NAMED_ALONE, ROOMS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
#: Patience in milliseconds: two cores, shared with the backfill that goes on meanwhile.
PATIENCE = 180_000
expect.set_options(timeout=PATIENCE)
DAY = "2019-03-14"
YEAR = "2018"

BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs(limit: 20) { id } } }
}"""

MATERIALIZED_BY = """
query MaterializedBy($id: ID!) {
  runOrError(runId: $id) { ... on Run { assetMaterializations { partition assetKey { path } } } }
}"""


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server, tmp_path: Path) -> Iterator[Page]:
    """A page of the UI; afterwards a screenshot lies in `tmp_path`, and nothing on it may have broken."""
    context = browser.new_context(viewport={"width": 1600, "height": 900}, base_url=server.url)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    broken: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            broken.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: broken.append(str(error)))
    yield page
    page.screenshot(path=tmp_path / "page.png")
    context.close()
    assert not broken


def picture_under(page: Page, key: str) -> None:
    """Opens the picture of a metadata entry and checks that it is really drawn."""
    row = page.get_by_role("row").filter(has=page.get_by_text(key, exact=True))
    row.get_by_text("[Show Markdown]").first.click()
    image = page.get_by_role("dialog").locator("img").first
    expect(image).to_be_visible(timeout=PATIENCE)
    assert (image.get_attribute("src") or "").startswith("data:image/png;base64,")
    size = image.evaluate("async image => { await image.decode(); return [image.naturalWidth, image.naturalHeight] }")
    assert min(size) > 100


def choose(page: Page, partitions: str) -> Locator:
    """The launch dialog with `partitions` typed into it."""
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_placeholder(re.compile("^ex: "))
    field.fill(partitions)
    field.press("Tab")
    return dialog


def launched_id(page: Page, what: str) -> str:
    """The id in the toast after a launch."""
    toast = page.get_by_text(re.compile(f"{what} \\w+")).first
    expect(toast).to_be_visible(timeout=PATIENCE)
    return toast.inner_text().removeprefix(what).split()[0]


def test_the_graph_shows_every_asset(page: Page):
    page.set_viewport_size({"width": 2560, "height": 2880})  # what lies outside of it is not drawn
    page.goto("/asset-groups")
    graph = page.locator("foreignObject")
    assets = {asset: room for asset, room in ROOMS.items() if asset not in (*HISTORIES, *NAMED_ALONE)}
    for room in dict.fromkeys(assets.values()):
        expect(graph.get_by_text(room, exact=True).first).to_be_visible(timeout=PATIENCE)
    for asset, room in assets.items():
        expanded = f"/asset-groups?expanded=global%40global%3A{room}"  # all at once are too small to be read
        if not page.url.endswith(expanded):
            page.goto(expanded)
        # a long name is shortened in the middle where the graph is small
        shown = re.compile(f"^({asset}|{asset[:5]}\\S*…\\S*{asset[-5:]})$")
        expect(graph.get_by_text(shown).first).to_be_visible(timeout=PATIENCE)


def test_an_asset_explains_itself(page: Page):
    page.goto("/assets/indicators")
    expect(page.get_by_text("The 25 classic columns of technical analysis")).to_be_visible(timeout=PATIENCE)
    columns = page.get_by_role("table").filter(has=page.get_by_text("Column name")).first
    for name, kind in (("session", "DATE"), ("ma_5", "DOUBLE"), ("macd_25_50", "DOUBLE"), ("momentum_50", "DOUBLE")):
        row = columns.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        expect(row).to_contain_text(kind)
    for owner in ("stock_assets", "features.indicators", "Polars"):
        expect(page.get_by_text(owner, exact=True).first).to_be_visible()
    picture_under(page, "sample_chart")


def test_a_click_materializes_one_day(page: Page, server: Server):
    before = server.tables()
    page.goto("/assets/daily_bars")
    dialog = choose(page, DAY)
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch 1 run").click()
    short_id = launched_id(page, "Launched run")
    page.get_by_role("link", name="View").or_(page.get_by_role("button", name="View")).first.click()
    page.wait_for_url(re.compile("/runs/"))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=3 * PATIENCE)
    until = time.monotonic() + PATIENCE / 1000
    while True:  # the page may tell of the step a moment before the run is over
        (run,) = (run for run in server.runs({"dagster/partition": DAY}) if run["id"].startswith(short_id))
        if run["status"] != "STARTED" or time.monotonic() > until:
            break
        time.sleep(0.5)
    assert run["status"] == "SUCCESS"
    assert run["assetSelection"] == [{"path": ["daily_bars"]}]
    for name, rows in server.tables().items():
        assert rows.equals(before[name]), name


@dataclass
class YearBackfill:
    """A backfill launched in the dialog, and the tables as they were before."""

    id: str
    days: list[str]
    before: dict[str, pl.DataFrame]


def backfill_a_year(page: Page, server: Server) -> YearBackfill:
    days = [str(day) for day in calendar_of(server.settings).sessions if str(day).startswith(YEAR)]
    before = server.tables()
    page.goto("/asset-groups")
    expect(page.get_by_text("market", exact=True).first).to_be_visible(timeout=PATIENCE)
    page.locator(".CodeMirror").first.click()
    page.keyboard.type(" or ".join(f'key:"{asset}"' for asset in DAILY_CHAIN))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("asset-groups~"))
    dialog = choose(page, f"[{YEAR}-01-02...{YEAR}-12-31]")
    expect(dialog.get_by_text("Launch runs to materialize 4 assets")).to_be_visible()
    expect(dialog.get_by_text(f"{len(days)} partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    return YearBackfill(launched_id(page, "Created backfill"), days, before)


def test_a_year_is_chosen_in_the_dialog(page: Page, server: Server, memory: dict[str, YearBackfill]):
    memory["year"] = backfill_a_year(page, server)
    page.goto(f"/runs/b/{memory['year'].id}")
    for asset in DAILY_CHAIN:
        expect(page.get_by_text(asset, exact=True).first).to_be_visible(timeout=2 * PATIENCE)


@pytest.mark.usefixtures("meanwhile")
def test_the_chosen_year_is_made_and_nothing_else(page: Page, server: Server, memory: dict[str, YearBackfill]):
    backfill = memory.get("year") or backfill_a_year(page, server)

    def over() -> dict | None:
        state = server.client.ask(BACKFILL, {"id": backfill.id})["partitionBackfillOrError"]
        return None if state["status"] == "REQUESTED" else state

    state = eventually("end of the backfill", over, 240, pause=1)
    assert state["status"] == "COMPLETED_SUCCESS"
    page.goto(f"/runs/b/{backfill.id}")
    expect(page.get_by_text("100% completed")).to_have_count(len(DAILY_CHAIN), timeout=PATIENCE)

    (run,) = state["runs"]  # one run for the daily chain, not one per day
    made: dict[str, list[str]] = {}
    answer = server.client.ask(MATERIALIZED_BY, {"id": run["id"]})
    for event in answer["runOrError"]["assetMaterializations"]:
        made.setdefault(event["assetKey"]["path"][0], []).append(event["partition"])
    assert {asset: sorted(days) for asset, days in made.items()} == dict.fromkeys(DAILY_CHAIN, backfill.days)
    for name, rows in server.tables().items():
        assert_frame_equal(rows, backfill.before[name], rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.usefixtures("summary")
def test_the_report_shows_its_calibration(page: Page):
    page.goto("/assets/evaluation_report")
    expect(page.get_by_text("best_naive_baseline", exact=True)).to_be_visible(timeout=PATIENCE)
    picture_under(page, "calibration")
