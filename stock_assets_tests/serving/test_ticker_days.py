"""A ticker through sessions that are not in memory: read at once, and the same as from each file."""

from pathlib import Path

import polars as pl
import pytest

from stock_assets.publication.layout import POINTER, digest_of, path_of
from stock_assets.publication.read import Publication, open_publication
from stock_assets.serving.answers import result_of
from stock_assets.serving.days import DamagedFile, Files, Shared, read_day
from stock_assets.serving.ticker_days import read_days_of
from stock_assets_tests.publication.folders import MODELS, SESSIONS, TICKERS, predictions_of, published_folder


def opened(folder: Path) -> tuple[Publication, list[Files]]:
    publication = open_publication(folder)
    found = [Files.of(publication.pointer, session) for session in publication.pointer.sessions]
    return publication, [files for files in found if files]


def replace_rows(folder: Path, frame: pl.DataFrame) -> None:
    """`frame` in the place of the newest predictions, with its digest in the pointer."""
    _, files = opened(folder)
    path = folder / path_of("predictions", files[-1].session, files[-1].predictions)
    frame.write_parquet(path)
    digest = digest_of(path.read_bytes())
    pointer = folder / POINTER
    pointer.write_text(pointer.read_text().replace(files[-1].predictions, digest))
    path.rename(path.with_name(f"{digest}.parquet"))


def same(folder: Path) -> None:
    publication, files = opened(folder)
    for ticker in (*TICKERS, "XYZ", "NOBODY"):
        together = read_days_of(publication, files, ticker)
        assert list(together) == files
        for file in files:
            alone = read_day(publication, file, Shared(), ticker=ticker)
            for model in (*MODELS, "another"):
                assert result_of(together[file], model, ticker) == result_of(alone, model, ticker), (ticker, model)


def test_what_is_read_at_once_is_what_each_file_says(tmp_path: Path):
    published_folder(tmp_path, labelled=2)
    same(tmp_path)
    # a model without a row of a ticker, one with several versions and scores of its own, and a later minor form
    rows = predictions_of(SESSIONS[-1]).filter((pl.col("model") != "prior") | (pl.col("ticker") != "AAPL"))
    is_own = (pl.col("model") == "rnn") & (pl.col("ticker") == "MSFT")
    rows = rows.with_columns(
        score=pl.when(is_own).then(0.125).otherwise("score"),
        model_version=pl.when(is_own).then(pl.lit("rnn-2026")).otherwise("model_version"),
        further=pl.lit("x"),
    )
    replace_rows(tmp_path, rows)
    same(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_value_that_is_none_is_damage_and_names_the_file(tmp_path: Path, value: float | None):
    published_folder(tmp_path)
    predicted = pl.col("status") == "predicted"
    replace_rows(
        tmp_path,
        predictions_of(SESSIONS[-1]).with_columns(
            p_buy=pl.when(~predicted).then("p_buy").otherwise(pl.lit(value, pl.Float64))
        ),
    )
    publication, files = opened(tmp_path)
    with pytest.raises(DamagedFile, match=r"not finite|lacks a value") as error:
        read_days_of(publication, files, "AAPL")
    assert files[-1].predictions in error.value.file


@pytest.mark.parametrize("kind", ["predictions", "bars", "outcomes"])
@pytest.mark.parametrize("content", [None, b"PAR1 damaged"])
def test_a_damaged_file_among_many_is_named(tmp_path: Path, kind: str, content: bytes | None):
    published_folder(tmp_path)
    publication, files = opened(tmp_path)
    digest = getattr(files[0], kind)
    path = tmp_path / path_of(kind, files[0].session, digest)  # pyright: ignore[reportArgumentType]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DamagedFile) as error:
        read_days_of(publication, files, "AAPL")
    assert error.value.file == path.relative_to(tmp_path).as_posix()
