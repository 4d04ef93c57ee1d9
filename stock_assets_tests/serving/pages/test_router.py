"""How the screens are served: tags, headers, addresses, and what is damaged."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stock_assets.files import write_file
from stock_assets.publication.layout import ALERTS
from stock_assets.publication.read import Publication, open_publication
from stock_assets_tests.serving.apps import Asker, asker
from stock_assets_tests.serving.pages.conftest import HOSTILE, Stage, app_of
from stock_assets_tests.serving.pages.test_browser import SCREENS


@pytest.fixture
def shown(rich: Publication) -> Stage:
    stage = Stage()
    stage.show(rich)
    return stage


@pytest.fixture
def client(shown: Stage) -> Asker:
    return Asker(app_of(shown))


@pytest.mark.parametrize("address", SCREENS)
def test_a_screen_is_small_guarded_and_tagged(client: Asker, address: str):
    answer = client(address)
    assert answer.status_code == 200
    assert len(answer.content) <= 150_000
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text
    assert "style=" not in answer.text
    assert "onclick" not in answer.text
    if address != "/api":  # its figures change with every request
        again = client(address, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client(address, "HEAD").status_code == 200


def test_the_tag_changes_with_what_a_page_depends_on(shown: Stage, alone: Publication, tmp_path: Path):
    assert shown.publication
    folder = tmp_path / "published"
    shutil.copytree(shown.publication.folder, folder)
    shown.show(open_publication(folder))
    client = Asker(app_of(shown))
    tags = [client("/").headers["etag"]]
    assert client("/signals").headers["etag"] != tags[0]
    shown.show(shown.publication, hours=2)
    assert client("/").headers["etag"] == tags[0], "an hour in which nothing happened"
    shown.show(shown.publication, hours=100)
    tags.append(client("/").headers["etag"])
    write_file(folder / ALERTS, b'{"alerts": []}')
    tags.append(client("/").headers["etag"])
    shown.show(alone)
    tags.append(client("/").headers["etag"])
    assert len({*tags}) == 4


def test_search(client: Asker):
    assert client("/ticker?q=sim07").headers["location"] == "/ticker/SIM07"
    assert client("/ticker?q=Simulated 33").headers["location"] == "/ticker/SIM33"
    assert "SIM50" in client("/ticker?q=sim5").text
    assert "No ticker or name contains zzz" in client("/ticker?q=zzz").text


@pytest.mark.parametrize("address", ["/ticker/NONE", "/models/rnn-1999", f"/ticker/{HOSTILE}"])
def test_what_is_not_published_is_404(client: Asker, address: str):
    answer = client(address)
    assert answer.status_code == 404
    assert HOSTILE not in answer.text


def test_nothing_is_published(shown: Stage):
    shown.publication = None
    client = Asker(app_of(shown))
    for address in ("/", "/signals", "/skill", "/inputs", "/models", "/ticker", "/paper", "/api"):
        assert client(address).status_code == 200
    assert client("/ticker/SIM02").status_code == client("/models/x").status_code == 404


def test_sessions_that_nobody_measured_are_no_sessions_that_nobody_predicted(shown: Stage):
    """As where the table operations was never made."""
    rich = shown.publication
    assert rich
    files = {**rich.pointer.files, "monitoring": {}}
    shown.publication = replace(rich, pointer=replace(rich.pointer, files=files))
    text = Asker(app_of(shown))("/skill").text
    assert "No session is predicted yet" not in text
    assert "Sessions are predicted through 2026-11-20, but how they did was never measured" in text
    shown.publication = None
    assert "No session is predicted yet" in Asker(app_of(shown))("/skill").text


def test_a_damaged_file_is_named_and_not_served(shown: Stage, tmp_path: Path):
    assert shown.publication
    folder = tmp_path / "published"
    shutil.copytree(shown.publication.folder, folder)
    (drift,) = (folder / "monitoring" / "drift").iterdir()
    drift.write_bytes(drift.read_bytes()[:-1])
    (predictions,) = (folder / "predictions" / "session=2026-11-20").iterdir()
    shown.show(open_publication(folder))
    client = Asker(app_of(shown))
    answer = client("/inputs")
    assert answer.status_code == 503
    assert f"monitoring/drift/{drift.name} is damaged" in answer.text
    assert str(tmp_path) not in answer.text
    assert "etag" not in answer.headers
    assert client("/signals").status_code == 200, "the other screens are shown"
    predictions.unlink()
    assert f"{predictions.name} cannot be read" in Asker(app_of(shown))("/signals").text


def test_the_application_serves_the_dashboard(rich: Publication):
    ask = asker(rich.folder.parent)
    answer = ask("/")
    assert answer.status_code == 200
    assert "Usable: the predictions of 2026-11-20" in answer.text
    assert "/v1/predictions/{ticker}" not in ask("/api").text
    assert ask("/assets/x/style.css").headers["content-type"].startswith("text/css")
    assert ask("/assets/x/nothing").status_code == 404
