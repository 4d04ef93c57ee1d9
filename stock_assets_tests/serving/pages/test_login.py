"""The dashboard beyond loopback, in a real Chromium: a token opens every screen, and nothing else does."""

from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from stock_assets import guard
from stock_assets.serving.tokens import add_token
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.pages.test_browser import SCREENS
from stock_assets_tests.serving.ports import served
from stock_assets_tests.system.test_browser import ARGUMENTS  # noqa: F401: the fixture

pytestmark = pytest.mark.xdist_group("pages")

#: A name of the network, by which Chromium reaches this machine.
NAME = "desk.test"


def test_a_person_logs_in_once_and_sees_every_screen(
    chromium: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(guard, "WRONG_TOKEN_SECONDS", 0)
    published_folder(tmp_path / "published")
    token = add_token(tmp_path / "tokens", "desk")
    app = app_of(tmp_path, api_host="0.0.0.0", api_tokens=tmp_path / "tokens", ui_names=NAME)
    arguments = [*ARGUMENTS, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    with served(app) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(base_url=f"http://{NAME}:{server.port}", viewport={"width": 390, "height": 844})
        field = page.locator("input[name=token]")
        page.goto("/ticker/AAPL?model=rnn")
        expect(field).to_be_visible()
        assert "AAPL" not in page.content()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        field.fill("wrong")
        field.press("Enter")
        expect(field).to_be_visible()
        expect(field).to_have_value("")
        field.fill(token)
        field.press("Enter")
        expect(page.locator("h1")).to_contain_text("AAPL")
        assert page.url.endswith("/ticker/AAPL?model=rnn"), "the page that was asked for, without the token"
        for screen in ("/", "/signals", "/skill", "/inputs", "/models", "/ticker", "/paper", "/api"):
            assert screen in SCREENS
            answer = page.goto(screen)
            assert answer is not None
            assert answer.status == 200
            assert field.count() == 0
        (cookie,) = page.context.cookies()
        assert cookie.get("httpOnly")
        assert cookie.get("sameSite") in ("Lax", "Strict")
        assert token not in str(cookie)
        page.context.clear_cookies()
        page.goto("/signals")
        expect(field).to_be_visible()
        browser.close()
