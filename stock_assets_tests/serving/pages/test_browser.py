"""Every screen in a real Chromium: on a desk and a phone, in light and dark, with and without JavaScript."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from stock_assets.lifecycle.freshness import Freshness
from stock_assets.lifecycle.operations import TABLES, OperationsFacts, render_operations
from stock_assets.lifecycle.tables import OPERATIONS
from stock_assets.publication.read import Publication
from stock_assets_tests.serving.pages.accounts import account_tables
from stock_assets_tests.serving.pages.conftest import HOSTILE, Stage
from stock_assets_tests.serving.pages.markets import MODELS
from stock_assets_tests.system.test_browser import PATIENCE
from stock_assets_tests.waiting import until

pytestmark = pytest.mark.xdist_group("pages")

SCREENS = ("/", "/signals", "/skill", "/inputs", "/models", f"/models/{MODELS['rnn']}", "/ticker", "/ticker/SIM02")
SCREENS += ("/announcements", "/paper", "/api")
WIDTHS = {"desk": 1440, "phone": 390}
#: The worst ratio of a text's colour to what is behind it, with the text: 4.5 is required, 3 of large text.
CONTRAST = """
() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number)
  const light = text => {
    const [r, g, b] = numbers(text).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor, parts = numbers(colour)
      if (parts.length < 4 || parts[3] > 0) return colour
    }
    return "rgb(255, 255, 255)"
  }
  const bad = []
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("")
    if (!text || !element.getClientRects().length || element.closest(".unseen, .skip, datalist, title")) continue
    const style = getComputedStyle(element), drawn = element.namespaceURI.endsWith("svg")
    const a = light(drawn ? style.fill : style.color), b = light(behind(element))
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700)
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${text.slice(0, 40)}`)
  }
  return bad
}
"""


@contextmanager
def page_of(
    browser: Browser, stage: Stage, width: str = "desk", scheme: str = "light", *, script: bool = True
) -> Iterator[Page]:
    """A page that reports every error and every request to another origin."""
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": 900},
        color_scheme=scheme,  # pyright: ignore[reportArgumentType]
        java_script_enabled=script,
        base_url=stage.url,
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    troubles: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(stage.url) else troubles.append(request.url))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    try:
        yield page
    finally:
        context.close()
    assert not troubles


def assert_sound(page: Page, address: str) -> None:
    """One heading of the first level, and nothing that the page is too narrow for."""
    page.goto(address)
    assert page.locator("h1").count() == 1, address
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} overflows"
    expect(page.locator("main")).not_to_be_empty()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [*WIDTHS])
def test_every_screen_fits_and_can_be_read(browser: Browser, stage: Stage, rich: Publication, width: str, scheme: str):
    stage.show(rich)
    with page_of(browser, stage, width, scheme) as page:
        for address in SCREENS:
            assert_sound(page, address)
            assert page.evaluate(CONTRAST) == [], address
            assert page.get_by_text("SIMULATED.").is_visible()
            for picture in page.locator("figure.chart:visible").all():
                seen = [each for each in picture.locator(".picture > svg").all() if each.is_visible()]
                assert len(seen) == 1, f"{address}: one picture for this width"
                assert seen[0].locator("title").first.text_content()


def test_without_javascript_everything_is_there(browser: Browser, stage: Stage, rich: Publication):
    stage.show(rich)
    with page_of(browser, stage, "phone", script=False) as page:
        for address in SCREENS:
            page.goto(address)
            expect(page.locator("h1")).to_be_visible()
        page.goto("/ticker/SIM02")
        expect(page.locator(".static svg.narrow").first).to_be_visible()
        expect(page.locator(".interactive")).to_be_hidden()
        page.get_by_label("Ticker").fill("sim17")
        page.get_by_label("Ticker").press("Enter")
        expect(page.locator("h1")).to_contain_text("SIM17")


def test_an_inline_script_does_not_run(browser: Browser, stage: Stage, rich: Publication):
    stage.show(rich)
    context = browser.new_context(base_url=stage.url)
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto("/")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    assert page.evaluate("window.ran") is None
    until(lambda: page.wait_for_timeout(10) or len(refused) >= 2)
    context.close()
    assert sum("Content Security Policy" in text for text in refused) == 2


def test_a_page_follows_the_publication_and_shows_values(
    browser: Browser, stage: Stage, rich: Publication, alone: Publication
):
    stage.show(alone)
    with page_of(browser, stage) as page:
        page.goto("/")
        page.evaluate("document.querySelector('main').mark = true")
        page.evaluate("refresh()")
        assert page.evaluate("document.querySelector('main').mark"), "nothing changed, so nothing is replaced"
        stage.show(rich)
        page.evaluate("refresh()")
        expect(page.get_by_role("heading", name="Open alerts")).to_be_visible()
        page.goto("/skill")
        chart = page.locator("figure.chart").first
        chart.locator(".picture").hover()
        expect(chart.locator(".readout")).to_contain_text("best naive 1.0")
        page.evaluate("refresh()")
        chart.locator(".picture").hover()
        expect(chart.locator(".readout")).to_be_visible()


def test_the_chart_of_a_ticker_is_interactive(browser: Browser, stage: Stage, rich: Publication):
    stage.show(rich)
    with page_of(browser, stage, "phone") as page:
        page.goto("/ticker/SIM02")
        expect(page.locator(".interactive canvas")).to_have_count(2)
        expect(page.locator(".static")).to_be_hidden()
        page.get_by_role("button", name="1 month").click()
        page.locator(".interactive .u-over").first.hover()
        expect(page.locator(".interactive .u-legend").first).to_contain_text("2026-1")


def test_late_and_empty_evenings(browser: Browser, stage: Stage, rich: Publication, alone: Publication):
    with page_of(browser, stage, "phone", "dark") as page:
        stage.show(rich, hours=75)
        assert_sound(page, "/")
        expect(page.locator(".verdict")).to_contain_text("Late: 1 session behind; 2026-11-20 is the newest")
        assert page.evaluate(CONTRAST) == []
        stage.show(alone)
        for address in ("/", "/signals", "/skill", "/inputs", "/models", "/ticker/SIM01", "/api"):
            assert_sound(page, address)
        stage.show(None)
        for address in SCREENS:
            if not address.startswith(("/models/", "/ticker/")):
                assert_sound(page, address)
                assert page.evaluate(CONTRAST) == []


def test_names_that_are_html_are_shown(browser: Browser, stage: Stage, hostile: Publication):
    stage.show(hostile)
    with page_of(browser, stage, "phone") as page:
        for address in ("/", "/signals", "/skill", "/inputs", "/models", "/ticker"):
            assert_sound(page, address)
            assert page.locator("main img").count() == 0
        page.goto("/signals")
        page.get_by_role("link", name=HOSTILE, exact=True).first.click()
        expect(page.locator("h1")).to_contain_text(HOSTILE)
        expect(page.locator(".interactive canvas")).to_have_count(2)
        page.goto("/ticker")
        page.get_by_role("link", name="A/B", exact=True).click()
        expect(page.locator("h1")).to_contain_text("A/B")


@pytest.mark.parametrize("trouble", [False, True])
def test_the_operations_page_with_an_account_fits_and_can_be_read(browser: Browser, tmp_path: Path, trouble: bool):
    tickers = tuple(f"SIM{number:02d}" for number in range(1, 41))
    sessions = [date(2025, 1, 1) + timedelta(number) for number in range(120)]
    paper = account_tables(sessions, tickers, np.random.default_rng(1), trouble=trouble)
    fresh = Freshness(True, sessions[-1], 0, f"{sessions[-1]} is predicted, and none after it is late")
    now = datetime(2025, 5, 1, tzinfo=UTC)
    facts = OperationsFacts("simulated", now, sessions[-1], fresh, "class_prior")
    file = tmp_path / "operations.html"
    file.write_text(render_operations(OPERATIONS.empty(), {**dict.fromkeys(TABLES), **paper}, facts=facts))
    for width in WIDTHS.values():
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
            page = context.new_page()
            page.goto(f"file://{file}#paper")
            expect(page.locator("#paper")).to_be_in_viewport()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert page.evaluate(CONTRAST) == [], (width, scheme)
            context.close()
