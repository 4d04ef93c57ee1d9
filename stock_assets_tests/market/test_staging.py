"""Answers that wait on disk."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from stock_assets.market.sources.staging import progress, staging

DAY, FIRST, LAST = date(2020, 9, 11), date(2010, 1, 4), date(2019, 12, 31)
BARS = pl.DataFrame({"session": [FIRST, LAST], "close": [1.0, None]})


def test_what_was_saved_is_there_for_the_same_day_and_range_alone(tmp_path: Path) -> None:
    staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST).save("BRK-B", BARS)
    again = staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST).load("BRK-B")
    assert again is not None
    assert_frame_equal(again, BARS)
    assert staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST).load("AAPL") is None
    assert staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST - timedelta(days=1)).load("BRK-B") is None


def test_the_answers_of_another_day_are_removed(tmp_path: Path) -> None:
    staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST).save("AAPL", BARS)
    other_range = staging(tmp_path, asked_on=DAY, first=FIRST, last=FIRST)
    other_range.save("AAPL", BARS)
    assert len(list(tmp_path.iterdir())) == 2
    staging(tmp_path, asked_on=DAY + timedelta(days=1), first=FIRST, last=LAST)
    assert list(tmp_path.iterdir()) == []


def test_every_ticker_has_a_file_of_its_own(tmp_path: Path) -> None:
    kept = staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST)
    tickers = ["^GSPC", "BTC-USD", "BRK.B", "EURUSD=X", "A&B", "a", "A"]
    for i, ticker in enumerate(tickers):
        kept.save(ticker, BARS.head(1).with_columns(close=pl.lit(float(i))))
    found = [bars["close"][0] for ticker in tickers if (bars := kept.load(ticker)) is not None]
    assert found == [float(i) for i in range(len(tickers))]


def test_half_a_file_is_no_answer(tmp_path: Path) -> None:
    kept = staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST)
    kept.save("AAPL", BARS)
    (file,) = kept.folder.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:40])
    assert kept.load("AAPL") is None
    kept.save("AAPL", BARS)
    assert kept.load("AAPL") is not None


def test_progress_is_seen_from_outside(tmp_path: Path) -> None:
    assert progress(tmp_path / "nowhere") is None
    kept = staging(tmp_path, asked_on=DAY, first=FIRST, last=LAST)
    kept.expect(3)
    assert progress(tmp_path) == (0, 3)
    kept.save("AAPL", BARS)
    (kept.folder / ".MSFT.parquet").write_bytes(b"half of a file that is being written")
    assert progress(tmp_path) == (1, 3)
    kept.clear()
    assert progress(tmp_path) is None
