"""Models, cards, monitoring tables, alerts and the ledger: what is published of them, and what is damaged."""

import json
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from stock_assets.publication.layout import ALERTS
from stock_assets.publication.tables import MONITORING
from stock_assets.publication.write import NewFiles, publish
from stock_assets_tests.publication.folders import MODELS, SESSIONS, facts_of, published_folder
from stock_assets_tests.serving.apps import Asker, app_of

ALERT = {"key": "late", "title": "late <b>", "text": "no rows", "run_id": None, "first_at": "2026-11-20T21:00:00+00:00"}
OTHER = "rnn-2026-06-30-0d0d0d0d"
IN_SERVICE = pl.DataFrame(
    {
        "model": ["rnn", "rnn"],
        "alias": ["champion", "champion (requested)"],
        "version": [MODELS["rnn"], OTHER],
        "trained_through": [date(2025, 12, 31), date(2026, 6, 30)],
        "model_year": [2026, 2026],
        "serves_from": [date(2026, 1, 2), None],
        "reason": ["the first version", None],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    new = NewFiles(folder / "published")
    new.put("monitoring", "in_service", MONITORING["in_service"].fit(IN_SERVICE))
    for version in (MODELS["rnn"], OTHER):
        new.put("cards", version, json.dumps({"version": version, "model": "rnn", "columns": ["ma_gap_5"]}).encode())
    now = datetime(2026, 11, 20, 21, 50, tzinfo=UTC)
    publish(new.folder, new, facts_of(), champions=MODELS, reason="cards", code_version="1", now=now)
    (folder / "published" / ALERTS).parent.mkdir()
    (folder / "published" / ALERTS).write_text(json.dumps({"alerts": [ALERT]}))
    return folder


@pytest.fixture(scope="module")
def ask(folder: Path) -> Asker:
    return Asker(app_of(folder))


def test_a_model_says_who_serves_and_who_was_asked_for(ask: Asker):
    (first, *others) = ask("/v1/models").json()["models"]
    assert (first["model"], first["serving"], first["asked"]) == ("rnn", MODELS["rnn"], OTHER)
    assert (first["effective_from"], first["in_service"]) == ("2026-01-02", True)
    assert [(model["model"], model["asked"]) for model in others] == [
        ("ensemble", MODELS["ensemble"]),
        ("prior", MODELS["prior"]),
    ]
    model = ask("/v1/models/rnn").json()
    assert model["versions"] == [MODELS["rnn"], OTHER]
    assert [row["alias"] for row in model["aliases"]] == IN_SERVICE["alias"].to_list()


def test_a_card_is_what_was_published(ask: Asker):
    answer = ask(f"/v1/models/rnn/versions/{OTHER}")
    assert answer.json() == {"version": OTHER, "model": "rnn", "columns": ["ma_gap_5"]}
    assert answer.headers["x-model-version"] == OTHER
    for path, kind in (
        (f"/v1/models/prior/versions/{OTHER}", "unknown-version"),
        ("/v1/models/rnn/versions/rnn-1", "unknown-version"),
        ("/v1/models/other", "unknown-model"),
    ):
        assert (ask(path).status_code, ask(path).json()["type"]) == (404, f"/docs/errors.md#{kind}")


@pytest.mark.parametrize("name", MONITORING)
def test_every_monitoring_table_is_answered_in_every_form(ask: Asker, name: str):
    assert len(ask(f"/v1/monitoring/{name}").json()[name]) == (2 if name == "in_service" else 0)
    answer = ask(f"/v1/monitoring/{name}", headers={"Accept": "application/vnd.apache.parquet"})
    assert pl.read_parquet(BytesIO(answer.content)).schema == MONITORING[name].schema
    csv = ask(f"/v1/monitoring/{name}", headers={"Accept": "text/csv"})
    assert csv.text.splitlines()[0].split(",") == MONITORING[name].names


def test_alerts_are_as_of_now_and_a_damaged_list_is_named(ask: Asker, folder: Path):
    (alert,) = ask("/v1/monitoring/alerts").json()["alerts"]
    assert {name: alert[name] for name in ALERT} == ALERT
    path = folder / "published" / ALERTS
    content = path.read_text()
    for damage in ("{", "[]", '{"alerts":[1]}', '{"alerts":{}}'):
        path.write_text(damage)
        answer = ask("/v1/monitoring/alerts")
        assert (answer.status_code, answer.json().get("file")) == (500, ALERTS), damage
    path.write_text(content)


def test_freshness_is_the_age_of_what_is_published(ask: Asker):
    (row,) = ask("/v1/monitoring/freshness").json()["freshness"]
    assert (row["session"], row["age_seconds"], row["sessions_behind"]) == (str(SESSIONS[-1]), 600.0, 0)
    assert row["due_at"] == "2026-11-23T21:30:00Z"


def test_the_ledger_says_what_was_published_when_and_why(ask: Asker):
    first, second = ask("/v1/publications").json()["publications"]
    assert (first["previous"], second["previous"]) == (None, first["id"])
    assert (second["reason"], second["code_version"], second["sessions"]) == ("cards", "1", 0)
    assert [row["id"] for row in ask(f"/v1/publications?session={SESSIONS[0]}").json()["publications"]] == [first["id"]]
    page = ask("/v1/publications?limit=1").json()
    assert ask(f"/v1/publications?limit=1&cursor={page['next']}").json()["publications"] == [second]
    entry = ask(f"/v1/publications/{second['id']}")
    assert set(entry.json()["files"]["cards"]) == {MODELS["rnn"], OTHER}
    assert "immutable" in entry.headers["cache-control"]
    assert ask("/v1/publications/20261120T214500.000000Z-00000000").status_code == 404
