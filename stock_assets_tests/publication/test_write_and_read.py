"""What is written can be read, now and as of every earlier moment."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import PublicationError
from stock_assets.publication.layout import POINTER, path_of
from stock_assets.publication.read import as_of, open_publication, read_ledger
from stock_assets.publication.write import NewFiles, publish
from stock_assets_tests.publication.folders import (
    MODELS,
    SESSIONS,
    facts_of,
    outcomes_of,
    predictions_of,
    published_folder,
)

EVENING = datetime(2026, 11, 20, 21, 45, tzinfo=UTC)


def test_what_is_published_is_what_is_read(tmp_path: Path):
    published_folder(tmp_path)
    publication = open_publication(tmp_path)
    assert publication is not None
    assert publication.pointer.sessions == SESSIONS
    assert_frame_equal(publication.predictions(SESSIONS[-1]), predictions_of(SESSIONS[-1]))
    assert_frame_equal(publication.outcomes(SESSIONS[0]), outcomes_of(SESSIONS[0]))
    assert publication.outcomes(SESSIONS[-1]).is_empty()
    assert publication.predictions(date(2020, 1, 2)).is_empty()


def test_publishing_the_same_again_adds_nothing(tmp_path: Path):
    first = published_folder(tmp_path)
    assert published_folder(tmp_path, now=EVENING + timedelta(hours=1)) == first
    assert len(read_ledger(tmp_path)) == 1


def test_a_session_that_is_made_again_stands_beside_the_first(tmp_path: Path):
    published_folder(tmp_path)
    other = MODELS | {"rnn": "rnn-2026-06-30-0d0d0d0d"}
    new = NewFiles(tmp_path)
    new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=other))
    later = EVENING + timedelta(hours=2)
    publish(tmp_path, new, facts_of(), champions=other, reason="rollback", code_version="0", now=later)
    publication, ledger = open_publication(tmp_path), read_ledger(tmp_path)
    assert publication is not None
    versions = publication.predictions(SESSIONS[-1]).filter(pl.col("model") == "rnn")["model_version"].unique()
    assert versions.to_list() == [other["rnn"]]
    before = as_of(publication, ledger, EVENING + timedelta(hours=1))
    assert before is not None
    assert before.pointer.champions == MODELS
    assert_frame_equal(before.predictions(SESSIONS[-1]), predictions_of(SESSIONS[-1]))
    assert as_of(publication, ledger, EVENING - timedelta(seconds=1)) is None


def test_a_number_that_is_not_finite_is_not_published(tmp_path: Path):
    rows = predictions_of(SESSIONS[0]).with_columns(p_buy=pl.lit(float("nan")))
    with pytest.raises(PublicationError, match="p_buy that are not finite"):
        NewFiles(tmp_path).put("predictions", str(SESSIONS[0]), rows)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema":[1,0]}', b"[" * 5000])
def test_a_damaged_pointer_is_named(tmp_path: Path, content: bytes):
    (tmp_path / POINTER).write_bytes(content)
    with pytest.raises(PublicationError, match=POINTER):
        open_publication(tmp_path)


def test_another_major_version_is_refused(tmp_path: Path):
    published_folder(tmp_path)
    pointer = tmp_path / POINTER
    pointer.write_text(pointer.read_text().replace('"schema":[1,0]', '"schema":[2,0]'))
    with pytest.raises(PublicationError, match=r"form 2\.0"):
        open_publication(tmp_path)


def test_a_damaged_file_is_named_and_never_read(tmp_path: Path):
    published_folder(tmp_path)
    publication = open_publication(tmp_path)
    assert publication is not None
    session = str(SESSIONS[0])
    path = tmp_path / path_of("predictions", session, publication.pointer.files["predictions"][session])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(PublicationError, match=path.name):
        publication.predictions(SESSIONS[0])
