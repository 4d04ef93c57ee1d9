"""What holds for every request: HEAD, sizes, ids, faults, and problems that say nothing of this machine."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from stock_assets.serving.problems import PROBLEMS
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.apps import Asker, app_of

PATHS = (
    "/livez",
    "/readyz",
    "/openapi.json",
    "/docs/errors.md",
    "/v1/predictions/AAPL",
    "/v1/predictions",
    "/v1/history/AAPL",
    "/v1/rankings/latest",
    "/v1/sessions/latest",
    "/v1/models",
    "/v1/models/rnn",
    "/v1/monitoring/skill",
    "/v1/monitoring/alerts",
    "/v1/publications",
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    return app_of(folder)


@pytest.fixture
def ask(app: FastAPI) -> Asker:
    return Asker(app)


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_like_get_without_the_body(ask: Asker, path: str):
    got, head = ask(path), ask(path, "HEAD")
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    for name in ("content-length", "content-type", "etag", "x-publication"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize("path", [path for path in PATHS if path.startswith("/v1")])
def test_an_answer_that_the_client_holds_is_not_sent_again(ask: Asker, path: str):
    got = ask(path)
    held = ask(path, headers={"If-None-Match": got.headers["etag"]})
    assert (held.status_code, held.content) == (304, b"")
    assert held.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("path", [*PATHS, "/v1/predictions:batch"])
def test_a_parameter_that_a_route_lacks_is_refused(ask: Asker, path: str):
    if path in ("/openapi.json", "/docs/errors.md"):
        return
    body = {"json": {"items": [{"ticker": "AAPL"}]}} if path.endswith(":batch") else {}
    answer = ask(f"{path}?asof=2026-11-20", "POST" if body else "GET", **body)
    assert (answer.status_code, answer.json()["parameter"]) == (422, "asof")


@pytest.mark.parametrize(
    ("path", "method", "status", "kind"),
    [
        ("/v1/predictions/AAPL", "DELETE", 405, "method-not-allowed"),
        ("/v1/predictions:batch", "GET", 405, "method-not-allowed"),
        ("/v1/predictions/AAPL", "OPTIONS", 405, "method-not-allowed"),
        ("/v1/nothing", "GET", 404, "unknown-route"),
        ("/livez/", "GET", 404, "unknown-route"),
        (f"/v1/predictions/AAPL?session={'1' * 9000}", "GET", 414, "address-too-long"),
    ],
    ids=["DELETE", "GET of the batch", "OPTIONS", "no route", "a slash", "a long address"],
)
def test_errors_of_the_frameworks_are_problems_too(ask: Asker, path: str, method: str, status: int, kind: str):
    answer = ask(path, method)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/errors.md#{kind}")
    if status == 405:
        assert answer.headers["allow"] == ("POST" if path.endswith(":batch") else "GET, HEAD")


def test_large_headers_are_refused(ask: Asker):
    assert ask("/livez", headers={"X-Large": "a" * 33_000}).status_code == 431
    assert ask("/livez", headers={f"X-{n}": "a" for n in range(101)}).status_code == 431


def test_a_request_keeps_its_id_and_gets_one_otherwise(ask: Asker):
    assert ask("/livez", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = ask("/livez", headers={"X-Request-ID": "a b"}).headers["x-request-id"]
    assert len(made) == 16
    assert made != ask("/livez").headers["x-request-id"]


def test_a_fault_is_a_problem_without_what_it_says(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    app = app_of(tmp_path)

    @app.get("/fault")
    async def fault() -> None:
        raise RuntimeError(f"a secret of {tmp_path}")

    answer = Asker(app)("/fault", headers={"X-Request-ID": "known"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/docs/errors.md#internal-error")
    assert answer.headers["x-request-id"] == "known"
    assert "secret" not in answer.text
    assert "the request known failed" in caplog.text


def test_what_is_echoed_is_short_and_on_one_line(ask: Asker):
    answer = ask("/v1/predictions/AAPL", params={"session": "<b>\n\x1b[31m" + "x" * 500})
    assert len(answer.json()["detail"]) < 250
    assert "\n" not in answer.json()["detail"]
    assert "\x1b" not in answer.text


def test_the_description_names_every_problem_that_a_route_answers(ask: Asker):
    paths = ask("/openapi.json").json()["paths"]
    assert {path for path in paths if path.startswith("/v1/")} >= {"/v1/predictions/{ticker}", "/v1/publications/{id}"}
    operations = [
        operation
        for path, methods in paths.items()
        for operation in methods.values()
        if path.startswith(("/v1/", "/livez", "/readyz"))
    ]
    for operation in operations:
        assert operation["responses"]["200"]["content"]["application/json"]["schema"], operation["operationId"]
        assert {"401", "403", "414", "422", "429", "431", "500", "503"} <= set(operation["responses"])
    texts = [response["description"] for operation in operations for response in operation["responses"].values()]
    named = {kind for text in texts for kind in PROBLEMS if f"`{kind}`" in text}
    of_no_route = {"unknown-route", "method-not-allowed"}
    on_demand = {"rows-missing", "trained-too-late"}  # of a route that is off here
    assert named | of_no_route | on_demand == set(PROBLEMS)


def test_the_page_of_errors_is_that_of_the_repository(ask: Asker):
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    assert ask("/docs/errors.md").text == page.read_text()
