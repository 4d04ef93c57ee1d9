"""`POST /v1/predict`: off by default; on, it answers what is stored, and every refusal is a problem."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from select import select
from socket import create_connection

import polars as pl
import pytest
import requests

from stock_assets.model.materialize.on_demand import OnDemandPredictions
from stock_assets.model.registry import MODELS
from stock_assets.serving.on_demand.process import OnDemand
from stock_assets.settings import read_settings
from stock_assets_tests.model.store import NOW, only, small_settings, small_store, trained
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.ports import read_all
from stock_assets_tests.serving.running import running_api
from stock_assets_tests.serving.test_on_demand import FAKE, asked

SESSION = date(2019, 3, 5)


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API with a worker that needs no store."""
    settings = read_settings(data_dir=tmp_path_factory.mktemp("faked"), on_demand=True)
    published_folder(settings.published)
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OnDemand.__init__, "__defaults__", ((sys.executable, "-c", FAKE),))
            url = stack.enter_context(running_api(settings))
        yield url


def post(url: str, **question: str) -> requests.Response:
    return requests.post(f"{url}/v1/predict", json=question, timeout=60)


def test_it_is_off_unless_the_settings_turn_it_on(api: str):
    refused = post(api, **asked("AAPL"))
    assert refused.status_code == 404
    assert "STOCK_ASSETS_ON_DEMAND=true turns them on" in refused.json()["detail"]
    assert "/v1/predict" not in requests.get(f"{api}/openapi.json", timeout=60).json()["paths"]


def test_a_question_that_is_none_is_refused_before_the_process_is_asked(faked: str):
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
        refused = post(faked, **wrong)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json"), wrong
    assert requests.get(f"{faked}/v1/predict", timeout=60).status_code == 405


def test_a_busy_process_says_when_to_come_back_and_a_refusal_is_a_problem(faked: str):
    late = post(faked, **asked("LATE"))
    assert (late.status_code, late.json()["type"]) == (409, "/docs/errors.md#trained-too-late")
    slow = post(faked, **asked("SLOW2.5"))
    assert (slow.status_code, slow.headers["retry-after"]) == (503, "2")
    assert "predict_queue_depth 1.0" in requests.get(f"{faked}/metrics", timeout=60).text


def test_sixty_slow_questions_delay_no_sign_of_life(faked: str):
    """Sockets of one thread: sixty threads of this process would be slow themselves."""
    port, body = int(faked.rpartition(":")[2]), json.dumps(asked("SLOW0.2"))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    question = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    while post(faked, **asked("AAPL")).status_code == 503:
        pass  # it is starting, or busy with another test
    probe = HTTPConnection("127.0.0.1", port, timeout=60)
    with ExitStack() as stack:
        connections = [stack.enter_context(create_connection(("127.0.0.1", port), 60)) for _ in range(60)]
        for connection in connections:
            connection.sendall(question)
        took, waiting = [], set(connections)
        while waiting:
            began = time.perf_counter()
            probe.request("GET", "/livez")
            assert probe.getresponse().read()
            took.append(time.perf_counter() - began)
            waiting -= set(select(list(waiting), [], [], 0)[0])
        statuses = [int(read_all(connection).split(b" ", 2)[1]) for connection in connections]
    probe.close()
    assert set(statuses) == {200, 503}
    assert statuses.count(200) in range(2, 10), "one is asked and one waits, again once they are answered"
    assert len(took) > 20
    assert sorted(took)[int(len(took) * 0.95)] < 0.05


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
