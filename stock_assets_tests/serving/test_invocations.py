"""/ping and /invocations, asked by MLflow's client unchanged and as SageMaker does."""

import asyncio
import json
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stock_assets_tests.publication.folders import MODELS, SESSIONS, published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import Served
from stock_assets_tests.serving.protocol_cases import PROBABILITIES, anything, published
from stock_assets_tests.serving.wire import JSON, Reply, Wire

CSV = ("content-type", "text/csv")


# --- MLflow and SageMaker


@pytest.fixture
def mlflow(server: Served) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow about its own types
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    return ScoringServerClient("127.0.0.1", server.port)


def test_mlflow_scores_frames_and_arrays(mlflow: Any):
    mlflow.ping()
    frame = pd.DataFrame({"ticker": ["AAPL", "XYZ", "NOPE"], "session": [str(SESSIONS[2]), "latest", "2026-11-22"]})
    predictions = mlflow.invoke(frame).get_predictions()
    assert predictions["status"].tolist() == ["predicted", "left_out", "not_a_session"]
    assert predictions.loc[0, PROBABILITIES].tolist() == [
        published("AAPL", SESSIONS[2])[name] for name in PROBABILITIES
    ]
    assert predictions.loc[1:, PROBABILITIES].isna().all().all()
    assert predictions["session"].tolist() == [str(SESSIONS[2]), str(SESSIONS[-1]), "2026-11-22"]
    by_model = mlflow.invoke(np.array([["AAPL"]]), params={"model": "ensemble"}).get_predictions()
    assert by_model["model_version"].tolist() == [MODELS["ensemble"]]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["ticker", "session"], "data": [["AAPL", "2026-11-17"], ["MSFT", None]]}},
        {
            "dataframe_split": {
                "index": [0, 1],
                "columns": ["session", "ticker"],
                "data": [["2026-11-17", "AAPL"], ["latest", "MSFT"]],
            }
        },
        {"dataframe_records": [{"ticker": "AAPL", "session": "2026-11-17"}, {"ticker": "MSFT"}]},
        {"instances": [{"ticker": "AAPL", "session": "2026-11-17"}, {"ticker": "MSFT"}]},
        {"instances": [["AAPL", "2026-11-17"], ["MSFT"]]},
        {"instances": [["AAPL", "2026-11-17"], "MSFT"]},
        {"inputs": {"ticker": ["AAPL", "MSFT"], "session": ["2026-11-17", "latest"]}},
        {"inputs": [["AAPL", "2026-11-17"], "MSFT"], "params": {"model": "rnn"}},
    ],
)
def test_every_form_of_an_invocation_asks_the_same(wire: Wire, body: object):
    reply = wire.post(
        "/invocations", ("content-type", "application/json; charset=utf-8"), body=json.dumps(body).encode()
    )
    rows = reply.json()["predictions"]
    expected = [published("AAPL", SESSIONS[1]), published("MSFT")]
    assert [[row[name] for name in PROBABILITIES] for row in rows] == [
        [row[name] for name in PROBABILITIES] for row in expected
    ]


@pytest.mark.parametrize(
    "text", ["ticker,session\nAAPL,2026-11-17\n", "AAPL,2026-11-17", "\ufeffsession,ticker\r\n2026-11-17, AAPL\r\n"]
)
def test_sagemaker_sends_and_reads_csv(wire: Wire, text: str):
    reply = wire.post("/invocations", CSV, ("accept", "text/csv"), body=text.encode())
    assert reply.header("content-type") == "text/csv; charset=utf-8"
    row = published("AAPL", SESSIONS[1])
    expected = ",".join(
        ["AAPL", "2026-11-17", "predicted", *(repr(row[name]) for name in PROBABILITIES), MODELS["rnn"]]
    )
    assert reply.body.decode().splitlines()[1:] == [expected]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (JSON, b"", "no JSON"),
        (JSON, b"{}", "exactly one of dataframe_split"),
        (JSON, b'{"instances": ["A"], "inputs": ["A"]}', "exactly one of"),
        (JSON, b'{"instances": ["A"], "model": "rnn"}', "not 'model'"),
        (JSON, b'{"instances": []}', "0 rows"),
        (JSON, b'{"instances": [[]]}', "row 0 is list"),
        (JSON, b'{"instances": [1e999]}', "row 0 is float"),
        (JSON, b'{"instances": [Infinity]}', "Infinity is no number"),
        (JSON, b'{"instances": {"ticker": "A"}}', "expected a list"),
        (
            JSON,
            b'{"inputs": {"ticker": ["A", "B"], "session": ["latest", "latest", "latest"]}}',
            "2 tickers and 3 sessions",
        ),
        (JSON, b'{"inputs": {"tickers": ["A"]}}', "no input 'tickers'"),
        (JSON, b'{"dataframe_split": {"columns": ["ticker"], "data": [["A", "B"]]}}', "expected 1 values"),
        (JSON, b'{"dataframe_split": {"columns": ["ticker", "ticker"], "data": [["A", "B"]]}}', "once"),
        (JSON, b'{"dataframe_split": []}', "dataframe_split"),
        (JSON, b'{"dataframe_records": [{"ticker": "A", "price": 1}]}', "no input 'price'"),
        (JSON, b'{"dataframe_records": [{"session": "latest"}]}', "the input ticker once"),
        (JSON, b'{"instances": ["A"], "params": {"model": 1}}', "params"),
        (JSON, b'{"instances": ["A"], "params": {"model": "../a"}}', "the model is '../a'"),
        (JSON, b'{"instances": [["AAPL", 1704153600]]}', "the session of row 0 is int"),
        (CSV, b"", "0 rows"),
        (CSV, b"AAPL,latest,1", "row 0 has 3 cells; expected 2: ticker, session"),
        (CSV, b"ticker,price\nA,1", "no input 'price'"),
        (CSV, b"ticker,session\nA", "row 0 has 1 cells"),
        (CSV, b"\xff", "no CSV in UTF-8"),
        (CSV, b'"AAPL', "no CSV"),
        (CSV, b"a\x00b", "the ticker of row 0"),
    ],
)
def test_what_is_no_invocation_is_an_error_of_mlflow(wire: Wire, kind: tuple[str, str], body: bytes, words: str):
    reply = wire.post("/invocations", kind, body=body)
    assert reply.status == 400, reply.body
    assert reply.json()["error_code"] == "BAD_REQUEST"
    assert words in reply.json()["message"]


def test_a_model_that_is_not_there_is_an_error_of_the_whole(wire: Wire):
    reply = wire.post("/invocations", JSON, body=b'{"instances": ["AAPL"], "params": {"model": "other"}}')
    assert (reply.status, reply.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs", "params", "columns", "data")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(body=st.dictionaries(st.sampled_from(FORMS), anything, max_size=2) | anything)
@example(body={"inputs": float("nan")})
def test_no_invocation_breaks_the_server(wire: Wire, body: object):
    reply = wire.post("/invocations", JSON, body=json.dumps(body).encode())
    assert reply.status in (200, 400, 404)
    assert {"predictions"} == {*reply.json()} or {"error_code", "message"} == {*reply.json()}
    assert b"NaN" not in reply.body or reply.status == 400


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(body=st.binary(max_size=60))
def test_no_bytes_break_the_server(wire: Wire, body: bytes):
    for path, kind in (("/invocations", CSV), ("/invocations", JSON), ("/v2/models/rnn/infer", JSON)):
        assert wire.post(path, kind, body=body).status in (200, 400, 404)


def test_a_request_sees_one_publication(folder: Path):
    """A swap while a request waits for an old session leaves it with the publication that it began with."""
    app = app_of(folder)
    wire, current = Wire(app), app.state.current
    before = current.served.pointer.entry

    async def swapped() -> Reply:
        body = json.dumps({"instances": [["AAPL", str(session)] for session in SESSIONS]}).encode()
        asking = asyncio.create_task(wire.asking("POST", "/invocations", JSON, body=body))
        await asyncio.sleep(0)
        published_folder(
            folder / "published", labelled=3, now=current.served.pointer.published_at + timedelta(seconds=1)
        )
        current.look()
        return await asking

    reply = asyncio.run(swapped())
    assert reply.header("x-publication") == before
    assert wire.post("/invocations", JSON, body=b'{"instances": ["AAPL"]}').header("x-publication") != before
