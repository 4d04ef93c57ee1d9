"""What a web page of somebody else can do with a real Chromium and a real server: read nothing and launch nothing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import dagster as dg
import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from stock_assets.defs.tables import preview
from stock_assets_tests.system.conftest import Server
from stock_assets_tests.system.test_browser import ARGUMENTS, PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system"), pytest.mark.usefixtures("own_process")]

TAG = "launched_by"
LAUNCH = """mutation { launchRun(executionParams: {
  selector: {repositoryLocationName: "stock_assets", repositoryName: "__repository__", jobName: "__ASSET_JOB",
             assetSelection: [{path: ["universe"]}], assetCheckSelection: []},
  executionMetadata: {tags: [{key: "launched_by", value: "%s"}]}
}) { __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""

MATERIALIZED = """query { assetNodes(assetKeys: [{path: ["tuned_hyperparameters"]}]) {
  assetMaterializations(limit: 1) { runId } } }"""

#: Every way by which a page sends something to another origin; the names of those that got an answer it may read.
ATTACKS = """
async ({url, mutation}) => {
  const text = name => mutation.replace("%s", name)
  const query = name => `${url}/graphql?query=${encodeURIComponent(text(name))}`
  const done = element => new Promise(resolve => { element.onload = element.onerror = () => resolve(); })
  const read = []
  const attempt = async (name, work) => { try { if (await work()) read.push(name) } catch (refused) {} }

  const image = new Image(), seen = done(image)
  image.src = query("img")
  await seen
  if (image.naturalWidth) read.push("img")
  for (const [tag, at] of [["script", "src"], ["iframe", "src"], ["link", "href"], ["embed", "src"]]) {
    const element = document.createElement(tag), seen = done(element)
    if (tag === "link") element.rel = "stylesheet"
    element[at] = query(tag)
    document.body.append(element)
    await Promise.race([seen, new Promise(resolve => setTimeout(resolve, 2000))])
  }
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    const frame = document.createElement("iframe"), form = document.createElement("form")
    frame.name = type
    document.body.append(frame)
    Object.assign(form, {method: "post", action: query("form"), enctype: type, target: type})
    const field = document.createElement("input")
    Object.assign(field, {name: '{"query":' + JSON.stringify(text("form")) + ', "x":"', value: '"}'})
    form.append(field)
    document.body.append(form)
    const sent = done(frame)
    form.submit()
    await sent
  }
  const json = name => JSON.stringify({query: text(name)})
  for (const type of ["text/plain", "text/plain;application/json"])
    await attempt("no-cors", async () => {
      const options = {method: "POST", mode: "no-cors", headers: {"Content-Type": type}, body: json("no-cors")}
      return (await fetch(query("no-cors"), options)).status
    })
  await attempt("cors", async () => (await fetch(query("cors"))).text())
  await attempt("cors-json", async () => {
    const options = {method: "POST", headers: {"Content-Type": "application/json"}, body: json("cors-json")}
    return (await fetch(`${url}/graphql`, options)).text()
  })
  await attempt("server_info", async () => (await fetch(`${url}/server_info`)).text())
  navigator.sendBeacon(query("beacon"), json("beacon"))
  for (const kind of ["materialization", "check", "observation"])
    await attempt("report", async () => {
      const target = `${url}/report_asset_${kind}/tuned_hyperparameters?check_name=answered&passed=true`
      return (await fetch(target, {method: "POST", mode: "no-cors"})).status
    })
  await attempt("websocket", () => new Promise(resolve => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/graphql`, "graphql-ws")
    socket.onopen = () => resolve(true)
    socket.onerror = () => resolve(false)
  }))
  return read
}
"""

#: The same by a page of the server itself: [the answer to the mutation, the first message of a subscription].
OWN_PAGE = """
async mutation => {
  const options = {method: "POST", headers: {"Content-Type": "application/json"},
                   body: JSON.stringify({query: mutation})}
  const launched = (await (await fetch("/graphql", options)).json()).data.launchRun
  const message = await new Promise(resolve => {
    const socket = new WebSocket(`ws://${location.host}/graphql`, "graphql-ws")
    socket.onopen = () => socket.send(JSON.stringify({type: "connection_init"}))
    socket.onmessage = event => { resolve(event.data); socket.close() }
    socket.onerror = () => resolve("refused")
  })
  return [launched, message]
}
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of a page of somebody else."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://evil.test:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser whose DNS server is an attacker's: every name below .test is this machine."""
    with sync_playwright() as playwright:
        rules = "--host-resolver-rules=MAP *.test 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS, rules])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def launched(server: Server) -> set[str]:
    """Who launched a run of ours: the values of TAG."""
    return {tag["value"] for run in server.runs() for tag in run["tags"] if tag["key"] == TAG}


def reported(server: Server) -> list[dict]:
    (asset,) = server.client.ask(MATERIALIZED)["assetNodes"]
    return asset["assetMaterializations"]


def test_a_page_of_somebody_else_reads_nothing_and_launches_nothing(page: Page, elsewhere: str, server: Server):
    page.goto(elsewhere)
    assert page.evaluate(ATTACKS, {"url": server.url, "mutation": LAUNCH}) == []
    assert not [frame for frame in page.frames if "Dagster" in frame.content() or "dagster" in frame.content()]
    # a page may always be left for another one; it is shown to the person alone, and runs nothing
    page.evaluate("url => { location = url }", f"{server.url}/graphql?query={quote(LAUNCH % 'navigation')}")
    page.wait_for_url(f"{server.url}/**")
    assert launched(server) == set()
    assert not reported(server)


def test_a_name_that_is_pointed_at_this_machine_reads_nothing(page: Page, server: Server):
    rebound = f"http://rebound.test:{server.port}"
    answer = page.goto(rebound)
    assert answer is not None
    assert answer.status == 403
    body = json.dumps({"query": LAUNCH % "rebinding"})
    options = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": body}
    fetched = "async options => (await fetch('/graphql', options)).status"
    assert page.evaluate(fetched, options) == 403
    assert page.evaluate("async () => (await fetch('/server_info')).status") == 403
    assert launched(server) == set()


def test_a_sector_is_shown_as_text_and_sends_nothing(page: Page, server: Server, monkeypatch: pytest.MonkeyPatch):
    sector = "![x](/graphql?query=mutation%7Bsector%7D) <img src=a> [y](https://evil.test) www.evil.test"
    monkeypatch.setenv("DAGSTER_HOME", str(server.settings.dagster_home))
    with dg.DagsterInstance.from_config(str(server.settings.dagster_home)) as instance:
        metadata = {
            "preview": preview(pl.DataFrame({"sector": [sector]})),
            "not_escaped": dg.MetadataValue.md("![x](/graphql?query=mutation%7Bimage%7D)"),
        }
        instance.report_runless_asset_event(dg.AssetMaterialization("vendor_text", metadata=metadata))
    asked: dict[str, int] = {}
    page.on("response", lambda answer: asked.update({answer.url: answer.status}))
    page.goto(f"{server.url}/assets/vendor_text?view=events")
    cell = page.locator("td", has_text="![x](/graphql")
    expect(cell.first).to_be_visible(timeout=PATIENCE)
    assert cell.last.inner_text().replace("\N{WORD JOINER}", "") == sector
    assert not cell.last.locator("img, a").count()
    page.wait_for_load_state("networkidle")
    queries = {url: status for url, status in asked.items() if "graphql?" in url}
    # what is not escaped is an image, and asks; the guard refuses it
    assert [status for url, status in queries.items() if "image" in url] == [405]
    assert not [url for url in queries if "sector" in url]
    assert launched(server) == set()


def test_the_own_pages_launch_and_subscribe(page: Page, server: Server):
    page.goto(server.url)
    answer, message = page.evaluate(OWN_PAGE, LAUNCH % "own page")
    assert answer["__typename"] == "LaunchRunSuccess", answer
    assert json.loads(message)["type"] == "connection_ack"
    assert launched(server) == {"own page"}
