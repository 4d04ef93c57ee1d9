"""`POST /v1/predict`: off by default; on, it answers what is stored, and every refusal is a problem."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from select import select
from socket import create_connection, socket

import polars as pl
import pytest
import requests

from stock_assets.model.materialize.on_demand import OnDemandPredictions
from stock_assets.model.registry import MODELS
from stock_assets.serving.on_demand import process, route
from stock_assets.serving.on_demand.process import OnDemand
from stock_assets.settings import read_settings
from stock_assets_tests.model.store import NOW, only, small_settings, small_store, trained
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.ports import read_all
from stock_assets_tests.serving.running import running_api
from stock_assets_tests.serving.test_on_demand import FAKE, LONG, asked
from stock_assets_tests.waiting import until

SESSION = date(2019, 3, 5)


@pytest.fixture(autouse=True)
def _a_busy_machine_may_take_long_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", LONG)


@dataclass(frozen=True)
class Faked:
    """The API with a worker that needs no store."""

    url: str
    folder: Path
    """in which a test puts the name of a slow ticker once its answer may come"""
    demand: OnDemand


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faked]:
    settings = read_settings(data_dir=tmp_path, on_demand=True)
    published_folder(settings.published)
    demand = OnDemand((sys.executable, "-c", FAKE, str(tmp_path)), budget=LONG, hang=LONG)
    monkeypatch.setattr(route, "OnDemand", lambda: demand)
    with running_api(settings) as url:
        yield Faked(url, tmp_path, demand)


def post(url: str, **question: str) -> requests.Response:
    return requests.post(f"{url}/v1/predict", json=question, timeout=2 * LONG)


def test_it_is_off_unless_the_settings_turn_it_on(api: str):
    refused = post(api, **asked("AAPL"))
    assert refused.status_code == 404
    assert "STOCK_ASSETS_ON_DEMAND=true turns them on" in refused.json()["detail"]
    assert "/v1/predict" not in requests.get(f"{api}/openapi.json", timeout=60).json()["paths"]


def test_a_question_that_is_none_is_refused_before_the_process_is_asked(faked: Faked):
    good = asked("AAPL")
    for wrong, status in (
        ({**good, "session": "1704153600"}, 422),
        ({**good, "session": "2026-02-30"}, 422),
        ({**good, "session": "latest"}, 422),
        ({**good, "ticker": "A B"}, 422),
        ({**good, "version": "../x"}, 422),
        ({**good, "model": "rnn"}, 422),
        ({"ticker": "AAPL"}, 422),
    ):
        refused = post(faked.url, **wrong)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json"), wrong
    assert requests.get(f"{faked.url}/v1/predict", timeout=60).status_code == 405


def test_a_busy_process_says_when_to_come_back_and_a_refusal_is_a_problem(faked: Faked):
    late = post(faked.url, **asked("LATE"))
    assert (late.status_code, late.json()["type"]) == (409, "/docs/errors.md#trained-too-late")
    faked.demand._budget = 0.1
    slow = post(faked.url, **asked("SLOW"))
    assert (slow.status_code, slow.headers["retry-after"]) == (503, "1")
    assert "predict_queue_depth 1.0" in requests.get(f"{faked.url}/metrics", timeout=LONG).text


def test_sixty_slow_questions_delay_no_sign_of_life(faked: Faked):
    """None of those that are asked is answered before `livez` is; how long it takes then, benchmarks measure."""
    port, body = int(faked.url.rpartition(":")[2]), json.dumps(asked("SLOW"))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    question = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    with ExitStack() as stack:
        connections = [stack.enter_context(create_connection(("127.0.0.1", port), LONG)) for _ in range(60)]
        for connection in connections:
            connection.sendall(question)
        until(lambda: len(answered(connections)) == 58)
        for _ in range(20):
            assert requests.get(f"{faked.url}/livez", timeout=LONG).status_code == 200
        assert len(answered(connections)) == 58, "one is asked and one waits"
        (faked.folder / "SLOW").touch()
        statuses = [int(read_all(connection).split(b" ", 2)[1]) for connection in connections]
    assert (statuses.count(200), statuses.count(503)) == (2, 58)


def answered(connections: list[socket]) -> list[socket]:
    """Those of which something can be read."""
    return select(connections, [], [], 0)[0]


def test_the_real_process_answers_from_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = small_settings(tmp_path, on_demand=True)
    with only(*(MODELS[name] for name in ("class_prior", "logistic"))):
        store = small_store(settings)
        rows = trained(store, settings, 2019, table="trained_baselines").rows
    written = {"DATA_DIR": tmp_path, "START": "2017-01-03", "END": "2019-06-28", "FIRST_MODEL_YEAR": "2018"}
    for name, value in written.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", str(value))
    expected = OnDemandPredictions(store, settings)
    version = rows.filter(pl.col("model") == "logistic")["version"][0]
    with running_api(settings) as url:

        def answer(ticker: str, session: date) -> requests.Response:
            while (answer := post(url, ticker=ticker, session=str(session), version=version)).status_code == 503:
                pass  # a machine that is busy
            return answer

        for ticker in ("T0", "T1"):
            row, body = expected.predict(ticker, SESSION, version, now=NOW), answer(ticker, SESSION).json()
            assert (body["status"], body["model"], body["trained_through"]) == ("predicted", "logistic", "2018-12-31")
            for name in ("p_sell", "p_hold", "p_buy", "score"):
                assert body[name] == pytest.approx(row[name], abs=1e-9)
        left_out = answer("T5", SESSION).json()
        assert (left_out["status"], left_out["p_buy"], left_out["model_version"]) == ("left_out", None, version)
        for refused, status, kind in (
            (answer("NOPE", SESSION), 404, "unknown-ticker"),
            (answer("T0", date(2018, 12, 31)), 409, "trained-too-late"),
            (answer("T0", date(2019, 3, 9)), 404, "not-a-session"),
            (answer("T0", date(2017, 1, 3)), 409, "trained-too-late"),
        ):
            assert (refused.status_code, refused.json()["type"]) == (status, f"/docs/errors.md#{kind}")
