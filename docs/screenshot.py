"""Takes the picture of the asset graph in the README: python docs/screenshot.py http://127.0.0.1:3000"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1760, "height": 860}


def take(url: str, target: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{url}/asset-groups")
        page.get_by_text("evaluation").first.wait_for()
        page.wait_for_timeout(2000)
        page.mouse.click(SIZE["width"] * 0.7, SIZE["height"] * 0.8, button="right")
        page.get_by_role("menuitem", name="Expand all groups").click()
        page.wait_for_timeout(1500)
        page.get_by_text("predictions").first.wait_for()
        page.wait_for_timeout(4000)
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1], Path(__file__).parent / "asset_graph.png")
