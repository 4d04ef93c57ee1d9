"""The Open Inference Protocol, spoken by Triton's client unchanged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from stock_assets_tests.publication.folders import MODELS, SESSIONS, TICKERS
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import Served
from stock_assets_tests.serving.protocol_cases import PROBABILITIES, anything, published
from stock_assets_tests.serving.wire import JSON, Reply, Wire

CSV = ("content-type", "text/csv")


@pytest.fixture
def client(server: Served) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


# --- the Open Inference Protocol


def tensor(name: str, values: list[str], *, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    return tensor


def test_triton_sees_a_server_and_its_models(client: triton.InferenceServerClient):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "stock_assets"
    for model, version in MODELS.items():
        assert client.is_model_ready(model)
        assert client.is_model_ready(model, version)
        metadata = client.get_model_metadata(model, version)
        assert metadata["versions"] == [version]
        assert {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]}["p_buy"] == "FP64"
    assert not client.is_model_ready("other")
    assert not client.is_model_ready("rnn", "rnn-2020-12-31-00000000")
    with pytest.raises(InferenceServerException, match="there is no model other"):
        client.get_model_metadata("other")


@pytest.mark.parametrize("binary", [True, False])
def test_triton_infers_what_was_published(client: triton.InferenceServerClient, binary: bool):
    session = SESSIONS[1]
    inputs = [
        tensor("ticker", [*TICKERS], binary=binary),
        tensor("session", [str(session)] * len(TICKERS), binary=binary),
    ]
    result = client.infer("ensemble", inputs, request_id="a 1", model_version=MODELS["ensemble"])
    rows = [published(ticker, session, "ensemble") for ticker in TICKERS]
    for name in PROBABILITIES:
        assert result.as_numpy(name).tolist() == [row[name] for row in rows]
        assert result.as_numpy(name).dtype == np.float64
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("a 1", "ensemble")
    assert response["model_version"] == MODELS["ensemble"]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_asks_for_some_outputs_of_the_newest_session(client: triton.InferenceServerClient, binary: bool):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("p_buy", "session")]
    result = client.infer("rnn", [tensor("ticker", ["^GSPC", "BRK.B"], binary=binary)], outputs=outputs)
    assert result.as_numpy("p_buy").tolist() == [published("^GSPC")["p_buy"], published("BRK.B")["p_buy"]]
    assert [*result.as_numpy("session")] == [str(SESSIONS[-1])] * 2
    assert result.as_numpy("p_sell") is None


@pytest.mark.parametrize(
    ("tickers", "sessions", "words"),
    [
        (["AAPL", "NOPE"], None, "row 1: .*no row of NOPE"),
        (["XYZ"], None, "row 0: XYZ has no prediction of 2026-11-20: no bar of the session"),
        (["AAPL"], ["2026-11-21"], "row 0: 2026-11-21: .*closed on Saturday"),
        (["AAPL"], ["2026-11-23"], "row 0: 2026-11-23: it closes at"),
        (["AAPL"], ["1704153600"], "the session of row 0 is '1704153600'; expected latest, or a day as YYYY-MM-DD"),
        (["A B"], None, "the ticker of row 0 is 'A B'"),
    ],
)
def test_triton_is_told_which_row_has_no_prediction(
    client: triton.InferenceServerClient, tickers: list[str], sessions: list[str] | None, words: str
):
    inputs = [tensor("ticker", tickers, binary=True)]
    inputs += [tensor("session", sessions, binary=True)] if sessions else []
    with pytest.raises(InferenceServerException, match=words):
        client.infer("rnn", inputs)


def infer(wire: Wire, body: object, path: str = "/v2/models/rnn/infer") -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.post(path, JSON, body=content)


def request(tickers: object = ("AAPL",), **more: Any) -> dict[str, Any]:
    """A request of the protocol, with `more` in the place of what its tensor has."""
    shape = [len(tickers)] if isinstance(tickers, list | tuple) else [1]
    return {"inputs": [{"name": "ticker", "datatype": "BYTES", "shape": shape, "data": tickers, **more}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"inputs": NaN}', "NaN is no number of JSON"),
        (b"[" * 500_000, "nested too deeply"),
        (b"\xff", "no JSON"),
        (b"1" * 5000, "no JSON"),
        ({}, "expected inputs to be a list of tensors"),
        ({"inputs": [{}]}, "expected inputs to be a list of tensors"),
        ({"inputs": []}, "the input ticker once"),
        ({"inputs": [*request()["inputs"], *request()["inputs"]]}, "the input ticker once"),
        (request(name="price"), "no input 'price'"),
        (request(datatype="FP64"), "the datatype of ticker is 'FP64'; expected BYTES"),
        (request(shape=[2]), "the shape of ticker is '[2]', and it has 1 value"),
        (request(shape=[1, 2]), "the shape of ticker"),
        (request(shape=[-1]), "the shape of ticker"),
        (request(shape=[True]), "the shape of ticker"),
        (request(shape=None), "the shape of ticker"),
        (request([]), "0 rows; expected 1 to 1,000"),
        (request(["A"] * 1001), "1,001 rows; expected 1 to 1,000"),
        (request([["A"] * 2000], shape=[2000]), "2,000 rows"),
        (request([1]), "the ticker of row 0 is int"),
        (request([None]), "the ticker of row 0 is NoneType"),
        (request([[["A"]]]), "the ticker of row 0 is list"),
        (request("AAPL"), "the data of a tensor is str"),
        (request(parameters={"binary_data_size": 9}), "binary_data_size of ticker"),
        (request(["<script>alert(1)</script>"]), "expected 1 to 32"),
        ({**request(), "id": 1}, "id is int"),
        ({**request(), "outputs": [{"name": "p"}]}, "no output 'p'"),
        ({**request(), "outputs": "p_buy"}, "expected outputs to be a list"),
    ],
)
def test_what_does_not_fit_the_protocol_is_an_error_of_it(wire: Wire, body: object, words: str):
    reply = infer(wire, body)
    assert reply.status == 400
    assert [*reply.json()] == ["error"]
    assert words in reply.json()["error"]
    assert len(reply.body) < 500


@pytest.mark.parametrize(
    ("length", "tail", "words"),
    [
        ("0", b"", "no JSON"),
        ("-1", b"", "Inference-Header-Content-Length"),
        ("9" * 30, b"", "Inference-Header-Content-Length"),
        ("²", b"", "Inference-Header-Content-Length"),
        ("exact", b"\x04\x00\x00\x00AAP", "binary_data_size"),
        ("exact", b"\x05\x00\x00\x00AAPL", "cut short"),
        ("exact", b"\xff\xff\xff\xffAAPL", "cut short"),
        ("exact", b"\x04\x00\x00\x00AAPLx", "1 byte(s) follow"),
        ("exact", b"\x04\x00\x00\x00\xff\xfe\x00A", "the ticker of row 0"),
    ],
)
def test_a_binary_tensor_that_does_not_fit_is_an_error(wire: Wire, length: str, tail: bytes, words: str):
    one = {"name": "ticker", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [one]}).encode()
    header = ("inference-header-content-length", str(len(head)) if length == "exact" else length)
    reply = wire.post("/v2/models/rnn/infer", header, body=head + tail)
    assert reply.status == 400
    assert words in reply.json()["error"]


def test_tensors_may_be_nested_and_one_session_serves_all(wire: Wire):
    session = {"name": "session", "datatype": "BYTES", "shape": [1], "data": [str(SESSIONS[0])]}
    body = request([["AAPL"], ["MSFT"]], shape=[2, 1])
    reply = infer(wire, {"inputs": [*body["inputs"], session], "outputs": [{"name": "p_sell"}]})
    expected = [published(ticker, SESSIONS[0])["p_sell"] for ticker in ("AAPL", "MSFT")]
    assert reply.json()["outputs"] == [{"name": "p_sell", "datatype": "FP64", "shape": [2], "data": expected}]


def test_a_version_answers_for_what_it_predicted_alone(wire: Wire):
    other = "/v2/models/rnn/versions/rnn-2020-12-31-00000000/infer"
    assert infer(wire, request(), other).status == 404
    assert infer(wire, request(), "/v2/models/other/infer").json()["error"].startswith("there is no model other")
    assert infer(wire, request(), f"/v2/models/rnn/versions/{MODELS['rnn']}/infer").status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_errors_of_the_frameworks_have_the_form_too(wire: Wire, method: str):
    reply = wire.ask(method, "/v2/models/rnn/infer")
    assert (reply.status, [*reply.json()]) == (405, ["error"])
    assert [*wire.get("/v2/nothing").json()] == ["error"]
    assert [*wire.get("/v2?a=1").json()] == ["error"]
    assert sorted(wire.ask(method, "/invocations").json()) == ["error_code", "message"]


def test_before_anything_is_published_no_protocol_answers(tmp_path: Path):
    wire = Wire(app_of(tmp_path))
    assert wire.get("/v2/health/live").json() == {"live": True}
    assert wire.get("/v2/health/ready").status == 503
    assert wire.get("/ping").status == 503
    assert wire.get("/v2/models/rnn").status == 404
    assert wire.post("/invocations", JSON, body=b'{"instances": ["AAPL"]}').status == 404


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(tensor=st.fixed_dictionaries({}, optional={
    "name": st.sampled_from(["ticker", "session", "x"]), "datatype": st.sampled_from(["BYTES", "FP64"]) | anything,
    "shape": st.lists(st.integers(-1, 3), max_size=3) | anything, "data": anything, "parameters": anything,
}), length=st.none() | st.text("0123456789-", max_size=4))  # fmt: skip
def test_no_inference_breaks_the_server(wire: Wire, tensor: object, length: str | None):
    headers = [JSON] if length is None else [JSON, ("inference-header-content-length", length)]
    reply = wire.post("/v2/models/rnn/infer", *headers, body=json.dumps({"inputs": [tensor]}).encode())
    assert reply.status in (200, 400, 404)
    assert "error" in reply.json() or "outputs" in reply.json()
