"""Makes docs/dashboard_today.png and docs/dashboard_ticker.png from a running server.

python -m docs.screenshot_dashboard [http://127.0.0.1:8000]
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from docs.screenshot import ARGUMENTS

WIDTH, HEIGHT = 1200, 1000
HERE = Path(__file__).parent


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", base_url=url)
        page.goto("/")
        expect(page.locator(".verdict")).to_be_visible()
        page.screenshot(path=HERE / "dashboard_today.png")
        page.locator(".short a").first.click()
        expect(page.locator(".interactive canvas")).to_have_count(2)
        page.get_by_role("button", name="3 months").click()
        page.screenshot(path=HERE / "dashboard_ticker.png")
        browser.close()


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["http://127.0.0.1:8000"]))
