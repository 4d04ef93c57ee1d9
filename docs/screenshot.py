"""Makes docs/asset_graph.png from a running server: python -m docs.screenshot [http://127.0.0.1:3000]"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from docs.make_tables import tables_of_the_rooms

WIDTH, HEIGHT = 2500, 1500
ZOOM_OUT, MARGIN = 7, 15
TARGET = Path(__file__).parent / "asset_graph.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2.0, color_scheme="light", base_url=url
        )
        page.goto("/asset-groups")
        graph = page.locator("foreignObject")
        for room in dict.fromkeys(table.room for table in tables_of_the_rooms() if not table.history):
            expect(graph.get_by_text(room, exact=True).first).to_be_visible(timeout=60_000)
        page.get_by_text("Hide navigation").click()
        page.keyboard.press("Alt+KeyE")  # expands every group
        expect(graph.get_by_text("predictions").first).to_be_visible(timeout=60_000)
        page.reload()  # fits the expanded graph
        expect(graph.get_by_text("predictions").first).to_be_visible(timeout=60_000)
        page.wait_for_load_state("networkidle")
        page.mouse.move(WIDTH / 2, HEIGHT / 2)
        page.keyboard.down("Control")
        for _ in range(ZOOM_OUT):  # the fit keeps the names readable and leaves out half of the graph
            page.mouse.wheel(0, 100)
            page.wait_for_timeout(200)
        page.keyboard.up("Control")
        page.wait_for_timeout(1000)
        boxes = [box for each in graph.all() if (box := each.bounding_box())]
        left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
        right, bottom = (
            max(box[side] + box[size] for box in boxes) + MARGIN for side, size in (("x", "width"), ("y", "height"))
        )
        page.screenshot(path=TARGET, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
        browser.close()


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["http://127.0.0.1:3000"]))
