"""What the server answers, and one clear line when it does not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stock_assets.cli.graphql import DagsterClient
from stock_assets.errors import StockAssetsError


class _Server(ThreadingHTTPServer):
    answer: tuple[int, str] = (200, "{}")
    answers: list[tuple[int, str]]  # these come first
    asked: list[dict]
    authorization: str | None = None


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.send_response(self.server.answer[0])
        self.end_headers()

    def do_POST(self) -> None:
        self.server.authorization = self.headers["Authorization"]
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        status, body = self.server.answers.pop(0) if self.server.answers else self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def web() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as web:
        web.asked, web.answers = [], []
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield web
        web.shutdown()
        thread.join()


@pytest.fixture
def client(web: _Server) -> DagsterClient:
    return DagsterClient(f"http://127.0.0.1:{web.server_port}")


def answer(web: _Server, data: object) -> None:
    web.answer = (200, json.dumps({"data": data}))


def test_nobody_listens():
    with pytest.raises(StockAssetsError, match=r"no Dagster web server answers at http://127\.0\.0\.1:9 .*`make run`"):
        DagsterClient("http://127.0.0.1:9").is_ready()


@pytest.mark.parametrize("reply", [(404, "not here"), (200, "<html>another program</html>")])
def test_another_program_listens(web, client, reply):
    web.answer = reply
    with pytest.raises(StockAssetsError, match=f"no Dagster web server answers at {client.url}"):
        client.is_ready()


def test_a_server_that_fails_may_have_other_settings(web, client):
    web.answer = (500, "broken")
    with pytest.raises(
        StockAssetsError, match=f"{client.url} answered HTTP 500; expected the server of the same settings"
    ):
        client.is_ready()


def test_the_token_goes_along(web, client):
    answer(web, {"version": "1"})
    client.ask("{version}")
    assert web.authorization is None
    DagsterClient(client.url, "correct horse").ask("{version}")
    assert web.authorization == "Bearer correct horse"


@pytest.mark.parametrize("status", [401, 403])
def test_a_guard_that_refuses_is_quoted(web, client, status):
    web.answer = (status, "this server wants the token of STOCK_ASSETS_UI_TOKEN")
    with pytest.raises(StockAssetsError, match=f"at {client.url} refused the request: .* STOCK_ASSETS_UI_TOKEN"):
        client.is_ready()


def test_a_server_that_answers_under_any_name_is_not_used(web, client):
    with pytest.raises(StockAssetsError, match=r"foreign name \(HTTP 200, expected 403\).*every web page"):
        client.require_guard()
    web.answer = (403, "")
    client.require_guard()


def test_a_refused_request_says_why(web, client):
    web.answer = (200, json.dumps({"errors": [{"message": "unknown field"}]}))
    with pytest.raises(StockAssetsError, match="Dagster refused the request: unknown field"):
        client.is_ready()


@pytest.mark.parametrize(
    ("entries", "ready"),
    [
        ([{"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}], True),
        ([{"loadStatus": "LOADING", "locationOrLoadError": None}], False),
        ([], False),
    ],
)
def test_the_server_is_ready_once_the_assets_are_loaded(web, client, entries, ready):
    answer(web, {"workspaceOrError": {"locationEntries": entries}})
    assert client.is_ready() is ready


def test_assets_that_cannot_be_loaded_say_why(web, client):
    broken = {"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "PythonError", "message": "no X\n"}}
    answer(web, {"workspaceOrError": {"locationEntries": [broken]}})
    with pytest.raises(StockAssetsError, match=r"the assets could not be loaded: no X$"):
        client.is_ready()


def test_a_launch_names_assets_and_ranges(web, client):
    answer(web, {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abc"}})
    assert client.launch({"universe": None, "labels": [("2018-01-02", "2018-01-05")]}, "why") == "abc"
    (asked,) = web.asked
    assert asked["variables"]["params"] == {
        "title": "why",
        "partitionsByAssets": [
            {"assetKey": {"path": ["universe"]}},
            {
                "assetKey": {"path": ["labels"]},
                "partitions": {"ranges": [{"start": "2018-01-02", "end": "2018-01-05"}]},
            },
        ],
    }


def test_a_launch_that_is_not_accepted_says_why(web, client):
    answer(web, {"launchPartitionBackfill": {"__typename": "PartitionKeysNotFoundError", "message": "no 2018-01-01"}})
    with pytest.raises(StockAssetsError, match="the backfill was not accepted: no 2018-01-01"):
        client.launch({"labels": [("2018-01-01", "2018-01-01")]}, "why")


def test_an_open_backfill_is_found_among_finished_ones(web, client):
    results = [{"id": "done", "status": "COMPLETED_SUCCESS"}, {"id": "open", "status": "REQUESTED"}]
    answer(web, {"partitionBackfillsOrError": {"results": results}})
    assert client.open_backfill() == "open"
    answer(web, {"partitionBackfillsOrError": {"results": results[:1]}})
    assert client.open_backfill() is None
    answer(web, {"partitionBackfillsOrError": {"results": [{"id": "ending", "status": "CANCELING"}]}})
    assert client.open_backfill() == "ending", "its runs still write"


def test_a_backfill_is_cancelled_or_the_refusal_is_told(web, client):
    answer(web, {"cancelPartitionBackfill": {"__typename": "CancelBackfillSuccess"}})
    client.cancel("abcdefgh")
    assert web.asked[0]["variables"] == {"id": "abcdefgh"}
    answer(web, {"cancelPartitionBackfill": {"__typename": "PythonError", "message": "it is over already"}})
    with pytest.raises(StockAssetsError, match="abcdefgh goes on, it was not cancelled: it is over already"):
        client.cancel("abcdefgh")


def test_an_unknown_backfill_is_named(web, client):
    answer(web, {"partitionBackfillOrError": {"__typename": "BackfillNotFoundError", "message": "not found"}})
    with pytest.raises(StockAssetsError, match="backfill nope: not found"):
        client.backfill("nope")


def test_who_made_an_asset_last_and_who_is_about_to(web, client):
    made = {"assetKey": {"path": ["labels"]}, "inProgressRunIds": ["b"], "latestMaterialization": {"runId": "a"}}
    never = {"assetKey": {"path": ["universe"]}, "inProgressRunIds": [], "latestMaterialization": None}
    answer(web, {"assetsLatestInfo": [made, never]})
    assert client.latest_runs(["labels", "universe"]) == {"labels": ("a", {"b"}), "universe": (None, set())}
    assert web.asked[0]["variables"] == {"keys": [{"path": ["labels"]}, {"path": ["universe"]}]}


def test_a_failure_is_told_in_the_words_of_our_code(web, client):
    chain = [{"error": {"message": "no session 2019-01-02\n"}}, {"error": {"message": "some library"}}]
    events = [
        {},
        {"stepKey": "labels", "error": {"message": "Error occurred", "errorChain": chain}},
        {"stepKey": "universe", "error": {"message": "alone", "errorChain": []}},
    ]
    first = {"data": {"logsForRun": {"cursor": "1000", "hasMore": True, "events": [{}] * 1000}}}
    web.answers = [(200, json.dumps(first))]
    answer(web, {"logsForRun": {"cursor": "1003", "hasMore": False, "events": events}})
    assert client.failures("run") == ["labels: no session 2019-01-02", "universe: alone"]
    assert [asked["variables"]["after"] for asked in web.asked] == [None, "1000"]
