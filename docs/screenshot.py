"""Makes docs/asset_graph.png from a running server: python -m docs.screenshot [http://127.0.0.1:3000]

With every asset the graph is too large for a page: the picture shows its groups, and what each reads of the others.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from docs.make_tables import tables_of_the_rooms

#: At this size the UI writes how many assets of a group are made.
WIDTH, HEIGHT, MARGIN = 2500, 1500, 15
TARGET = Path(__file__).parent / "asset_graph.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", base_url=url)
        page.goto("/asset-groups", timeout=120_000)
        graph = page.locator("foreignObject")
        for room in dict.fromkeys(table.room for table in tables_of_the_rooms() if not table.history):
            expect(graph.get_by_text(room, exact=True).first).to_be_visible(timeout=60_000)
        page.get_by_text("Hide navigation").click()
        page.reload()  # fits the graph to the wider page
        page.wait_for_load_state("networkidle")
        expect(graph.get_by_text("model", exact=True).first).to_be_visible(timeout=60_000)
        expect(page.get_by_text("fetching statuses")).to_have_count(0, timeout=60_000)
        page.wait_for_timeout(3000)  # the boxes move to their places
        boxes = [box for each in graph.all() if (box := each.bounding_box())]
        left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
        right, bottom = (
            max(box[side] + box[size] for box in boxes) + MARGIN for side, size in (("x", "width"), ("y", "height"))
        )
        page.screenshot(path=TARGET, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
        browser.close()


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["http://127.0.0.1:3000"]))
