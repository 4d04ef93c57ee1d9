"""What is served follows the pointer: the newest that can be read whole, and it says what cannot."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stock_assets.publication.layout import LEDGER, POINTER, path_of
from stock_assets.publication.write import NewFiles, publish, read_pointer
from stock_assets.serving.current import Current
from stock_assets.serving.days import Days
from stock_assets_tests.publication.folders import (
    MODELS,
    SESSIONS,
    bars_of,
    facts_of,
    predictions_of,
    published_folder,
)
from stock_assets_tests.serving.apps import NOW, Asker, app_of

OTHER = MODELS | {"rnn": "rnn-2026-06-30-0d0d0d0d"}


@pytest.fixture
def ask(tmp_path: Path) -> Asker:
    published_folder(tmp_path / "published")
    return Asker(app_of(tmp_path))


def republish(folder: Path, models: dict[str, str] = OTHER, *, minutes: int = 5) -> str:
    """Publishes the newest session again by other versions; the entry."""
    new = NewFiles(folder)
    new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=models))
    moment = datetime(2026, 11, 20, 21, 45, tzinfo=UTC) + timedelta(minutes=minutes)
    return publish(folder, new, facts_of(), champions=models, reason="again", code_version="1", now=moment).entry


def file_of(folder: Path, session: object = SESSIONS[-1], kind: str = "predictions") -> Path:
    pointer = read_pointer(folder)
    assert pointer is not None
    return folder / path_of(kind, str(session), pointer.files[kind][str(session)])  # type: ignore[index, arg-type]


def test_a_new_publication_answers_and_the_old_one_is_asked_as_of(ask: Asker, tmp_path: Path):
    before = ask("/v1/predictions/AAPL").json()
    entry = republish(tmp_path / "published")
    assert ask("/v1/predictions/AAPL").json() == before
    assert ask.app.state.current.look()
    after = ask("/v1/predictions/AAPL")
    assert after.json()["model_version"] == OTHER["rnn"] == after.headers["x-model-version"]
    assert (after.headers["x-publication"], after.headers["x-code-version"]) == (entry, "1")
    earlier = ask("/v1/predictions/AAPL?as_of=2026-11-20T16:46:00-05:00", headers=None)
    assert earlier.json() == before
    assert earlier.headers["x-publication"] == before["publication"]
    assert ask("/v1/predictions?as_of=2026-11-20T21:46:00Z").json()["predictions"][0]["p_buy"] == before["p_buy"]
    others = ask(f"/v1/predictions/AAPL?session={SESSIONS[0]}").json()
    assert others["published_at"] == "2026-11-20T21:45:00Z"


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / POINTER).write_bytes(b"{"), "current.json is damaged"),
        (lambda folder: (folder / POINTER).unlink(), "current.json is gone"),
        (lambda folder: form(folder, 2), "form 2.0"),
        (lambda folder: file_of(folder).write_bytes(b"PAR1"), "predictions/session=2026-11-20/"),
        (lambda folder: file_of(folder, kind="bars").unlink(), "bars/session=2026-11-20/"),
    ],
)
def test_what_cannot_be_read_leaves_the_old_publication_in_service(
    ask: Asker, tmp_path: Path, damage: Damage, words: str
):
    folder, before = tmp_path / "published", ask("/v1/predictions/AAPL").content
    new = NewFiles(folder)
    new.put("bars", str(SESSIONS[-1]), bars_of(SESSIONS[-1], sector="Other"))
    new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=OTHER))
    now = datetime(2026, 11, 20, 21, 50, tzinfo=UTC)
    publish(folder, new, facts_of(), champions=OTHER, reason="again", code_version="1", now=now)
    damage(folder)
    assert not ask.app.state.current.look()
    assert ask("/v1/predictions/AAPL").content == before
    ready = ask("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert words in ready.json()["degraded"]
    assert str(tmp_path) not in ready.text
    assert (ask.app.state.current.taken, ask.app.state.current.refused) == (1, 1)


def form(folder: Path, major: int) -> None:
    pointer = folder / POINTER
    pointer.write_text(pointer.read_text().replace('"schema":[1,0]', f'"schema":[{major},0]'))


def test_a_higher_minor_form_with_more_in_it_is_read(tmp_path: Path):
    published_folder(tmp_path / "published")
    pointer = tmp_path / "published" / POINTER
    more = pointer.read_text().replace('"schema":[1,0]', '"schema":[1,9]').replace('"source"', '"extra":1,"source"')
    pointer.write_text(more)
    assert Asker(app_of(tmp_path))("/v1/predictions/AAPL").status_code == 200


def test_a_repaired_file_comes_into_service_though_the_pointer_stays(tmp_path: Path):
    now = [NOW]
    published_folder(tmp_path)
    current = Current(tmp_path, lambda: now[0])
    current.look()
    republish(tmp_path)
    path = file_of(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert not current.look()
    path.write_bytes(content)
    assert not current.look()  # not at every look: a file that stays damaged would be read ten times a second
    now[0] += timedelta(seconds=3)
    assert current.look()
    assert current.trouble is None


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", None])
def test_a_damaged_file_is_named_and_never_served(tmp_path: Path, content: bytes | None):
    published_folder(tmp_path / "published")
    path = file_of(tmp_path / "published")
    path.unlink() if content is None else path.write_bytes(content)
    ask = Asker(app_of(tmp_path))
    answer = ask("/v1/predictions/AAPL")
    assert (answer.status_code, answer.json()["type"]) == (500, "/docs/errors.md#damaged-publication")
    assert answer.json()["file"] == path.relative_to(tmp_path / "published").as_posix()
    assert str(tmp_path) not in answer.text
    ready = ask("/readyz")
    assert (ready.status_code, ready.json()["file"]) == (503, answer.json()["file"])
    assert ask(f"/v1/predictions/AAPL?session={SESSIONS[0]}").status_code == 200
    history = ask("/v1/history/AAPL")
    assert (history.status_code, history.json()["file"]) == (500, answer.json()["file"])


def test_a_number_that_is_not_finite_is_damage(tmp_path: Path):
    import polars as pl

    from stock_assets.publication.layout import digest_of

    published_folder(tmp_path / "published")
    path = file_of(tmp_path / "published")
    frame = pl.read_parquet(path).with_columns(p_buy=pl.lit(float("nan")))
    frame.write_parquet(path)
    content = path.read_bytes()
    pointer = tmp_path / "published" / POINTER
    pointer.write_text(pointer.read_text().replace(path.stem, digest_of(content)))
    path.rename(path.with_name(f"{digest_of(content)}.parquet"))
    answer = Asker(app_of(tmp_path))("/v1/predictions/AAPL")
    assert answer.status_code == 500
    assert "not finite" in answer.json()["detail"]


def test_a_damaged_ledger_is_named_where_it_is_asked_for(ask: Asker, tmp_path: Path):
    republish(tmp_path / "published")
    shutil.rmtree(tmp_path / "published" / LEDGER)
    ask = Asker(app_of(tmp_path))
    row = ask("/v1/predictions/AAPL").json()
    assert (row["status"], row["published_at"]) == ("predicted", None)
    assert ask("/v1/predictions/AAPL?as_of=2026-11-20T21:46:00Z").status_code == 500
    answer = ask("/v1/publications")
    assert (answer.status_code, answer.json()["file"]) == (500, "ledger")
    assert "ledger/" in ask("/readyz").json()["degraded"]


def test_sessions_stay_in_memory_up_to_a_number_of_bytes(tmp_path: Path):
    pointer = published_folder(tmp_path)
    current = Current(tmp_path, lambda: NOW)
    current.look()
    served = current.served
    assert served is not None
    one = served.in_memory()[0].size
    days = Days(newest_bytes=2 * one, older_bytes=one)
    newest = days.keep(pointer)
    assert [files.session for files in newest] == [str(session) for session in reversed(SESSIONS)]
    for files in newest:
        days.read(served.publication, files)
    assert [files.session for files in newest if days.get(files)] == [str(SESSIONS[-1]), str(SESSIONS[-2])]


def test_swaps_keep_nothing_of_what_was_served_before(ask: Asker, tmp_path: Path):
    current = ask.app.state.current
    for number in range(12):
        republish(tmp_path / "published", MODELS | {"rnn": f"rnn-2026-06-30-{number:08d}"}, minutes=number + 1)
        assert current.look()
        current._fill(current.served)
        ask("/v1/predictions")
        ask("/v1/predictions?as_of=2026-11-20T21:46:00Z")
    assert len(current._days._days) == len(SESSIONS)
    assert len(current.served.earlier) <= 1
