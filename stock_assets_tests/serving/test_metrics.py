"""What Prometheus reads, parsed with its own parser."""

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stock_assets.serving.metrics import NO_ROUTE
from stock_assets_tests.publication.folders import MODELS, SESSIONS, published_folder
from stock_assets_tests.serving.apps import NOW, app_of
from stock_assets_tests.serving.wire import Wire


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    published_folder(tmp_path / "published")
    return Wire(app_of(tmp_path))


def samples(wire: Wire) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    reply = wire.get("/metrics")
    assert reply.status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def value(wire: Wire, name: str, **labels: str) -> float | None:
    return samples(wire).get((name, frozenset(labels.items())))


def test_the_publication_is_named(wire: Wire):
    entry = wire.app.state.current.served.pointer.entry
    assert value(wire, "publication_info", id=entry, session=str(SESSIONS[-1])) == 1
    assert value(wire, "publication_age_seconds") == 900
    assert value(wire, "sessions_behind") == 0
    assert value(wire, "publication_swaps_total", result="served") == 1
    assert value(wire, "publication_swaps_total", result="refused") == 0
    assert value(wire, "predict_queue_depth") == 0
    for model, version in MODELS.items():
        assert value(wire, "served_model_info", model=model, version=version) == 1
    assert (value(wire, "process_resident_memory_bytes") or 0) > 1e7
    assert (value(wire, "process_open_fds") or 0) > 3


def test_a_swap_a_refusal_and_a_late_session_are_counted(tmp_path: Path):
    published_folder(tmp_path / "published")
    wire = Wire(app_of(tmp_path, now=NOW + timedelta(days=5)))  # Wednesday: Monday and Tuesday are late
    assert value(wire, "sessions_behind") == 2
    current, before = wire.app.state.current, set(samples(wire))
    published_folder(tmp_path / "published", labelled=3, now=NOW + timedelta(hours=1))
    current.look()
    assert value(wire, "publication_swaps_total", result="served") == 2
    infos = [labels for name, labels in set(samples(wire)) - before if name == "publication_info"]
    assert [dict(labels)["id"] for labels in infos] == [current.served.pointer.entry]
    (tmp_path / "published" / "current.json").write_text("{")
    current.look()
    assert value(wire, "publication_swaps_total", result="refused") == 1
    assert value(wire, "publication_swaps_total", result="served") == 2


def test_before_anything_is_published_there_are_metrics(tmp_path: Path):
    wire = Wire(app_of(tmp_path))
    names = {name for name, _ in samples(wire)}
    assert "publication_swaps_total" in names
    assert not names & {"publication_info", "publication_age_seconds", "sessions_behind", "served_model_info"}


def test_requests_are_counted_by_the_template_of_their_route(wire: Wire):
    for ticker in ("AAPL", "MSFT", "%5EGSPC"):
        wire.get(f"/v1/predictions/{ticker}")
    wire.get("/v1/predictions/NOPE")
    wire.get("/v1/predictions/AAPL", host="evil.test")
    wire.get("/docs/errors.md")
    (route,) = {dict(labels)["route"] for _, labels in samples(wire) if "predictions" in dict(labels).get("route", "")}
    assert route.startswith("/v1/predictions/{ticker")
    assert value(wire, "http_requests_total", route=route, method="GET", status="200") == 3
    assert value(wire, "http_requests_total", route=route, method="GET", status="404") == 1
    assert value(wire, "http_requests_total", route=NO_ROUTE, method="GET", status="403") == 1
    assert value(wire, "http_requests_total", route="/docs/errors.md", method="GET", status="200") == 1
    assert value(wire, "http_request_duration_seconds_count", route=route, method="GET") == 4
    assert value(wire, "http_request_duration_seconds_bucket", route=route, method="GET", le="2.5") == 4


def test_no_request_makes_a_new_label(wire: Wire):
    wire.get("/nothing")
    wire.ask("BREW", "/nothing")
    wire.get("/v2/models/a")
    wire.get("/metrics")
    before = len(samples(wire))
    for i in range(50):
        wire.get(f"/nothing/{i}")
        wire.ask(f"BREW{i}", "/nothing")
        wire.get(f"/v2/models/a{i}")
    assert len(samples(wire)) == before


def test_openmetrics_is_answered_where_it_is_accepted(wire: Wire):
    reply = wire.get("/metrics", ("accept", "application/openmetrics-text; version=1.0.0"))
    assert (reply.header("content-type") or "").startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")
    assert wire.get("/metrics?name[]=a").status == 422
