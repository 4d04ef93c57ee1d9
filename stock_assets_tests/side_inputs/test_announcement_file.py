"""A file of announcements of one's own: what it means, and what is said of one that is wrong."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import SourceError
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.sources.announcement_file import AnnouncementFile
from stock_assets_tests.side_inputs.rows import CALENDAR, FETCHED, at

DAY = date(2024, 12, 31)


def read(path: Path, *subjects: str, notice: int = 14, now: str | None = None) -> pl.DataFrame:
    answer = AnnouncementFile(path, CALENDAR, notice).fetch(
        subjects or ("AAA", "BBB"), DAY, DAY, fetched_at=at(now) if now else FETCHED
    )
    return with_session(answer.rows, CALENDAR)


def written(folder: Path, *lines: str, header: str = "ticker,date,when") -> Path:
    path = folder / "dates.csv"
    path.write_text("\n".join([header, *lines]))
    return path


def test_a_file_without_known_at_counts_as_known_ahead(tmp_path):
    path = written(
        tmp_path, "AAA,2024-01-25,post", "BBB,2024-02-01,pre", "BBB,2024-05-02,", header="Ticker, Date ,WHEN"
    )
    rows = read(path)
    columns = ["subject", "day", "moment", "reaction_session", "session", "origin", "assumed"]
    assert rows.select(columns).rows() == [
        # two weeks before: after the close of the 11th, at the open of the 18th, and some time on the 18th
        ("AAA", date(2024, 1, 25), "post", date(2024, 1, 26), date(2024, 1, 12), "file", True),
        ("BBB", date(2024, 2, 1), "pre", date(2024, 2, 1), date(2024, 1, 18), "file", True),
        ("BBB", date(2024, 5, 2), "unknown", date(2024, 5, 2), date(2024, 4, 19), "file", True),
    ]
    assert rows["event_time"].to_list() == [at("2024-01-25 21:00"), at("2024-02-01 14:30"), at("2024-05-02 16:00")]


def test_without_notice_it_is_known_once_it_has_happened(tmp_path):
    path = written(
        tmp_path, "AAA,2024-01-25,pre", "AAA,2024-04-25,during", "AAA,2024-07-25,post", "AAA,2024-10-24,unknown"
    )
    sessions = [date(2024, 1, 25), date(2024, 4, 25), date(2024, 7, 26), date(2024, 10, 25)]
    assert read(path, notice=0)["session"].to_list() == sessions
    assert read(path, notice=0, now="2024-07-25 20:30")["session"].to_list() == sessions[:2]


def test_a_file_that_says_since_when_a_date_was_known_is_believed(tmp_path):
    lines = ["AAA,2024-01-25,post,2024-01-04T16:00:00-05:00", "AAA,2024-04-25,post,2024-04-04T16:01:00-04:00"]
    rows = read(written(tmp_path, *lines, header="ticker,date,when,known_at"))
    assert rows["session"].to_list() == [date(2024, 1, 4), date(2024, 4, 5)]
    assert not rows["assumed"].any()
    # without a zone in the exchange's own; a day alone is known at its end
    assert read(written(tmp_path, "AAA,2024-01-25,post,2024-01-04 15:59", header="ticker,date,when,known_at"))[
        "session"
    ].to_list() == [date(2024, 1, 4)]
    assert read(written(tmp_path, "AAA,2024-01-25,post,2024-01-04", header="ticker,date,when,known_at"))[
        "session"
    ].to_list() == [date(2024, 1, 5)]


def test_a_parquet_file_holds_the_same(tmp_path):
    frame = pl.DataFrame({"ticker": ["AAA"], "date": [date(2024, 1, 25)], "when": ["post"], "source": ["mine"]})
    frame.write_parquet(tmp_path / "dates.parquet")
    assert read(tmp_path / "dates.parquet").equals(read(written(tmp_path, "AAA,2024-01-25,post")))
    moments = frame.with_columns(
        pl.col("date").cast(pl.Datetime("ns", "America/New_York")), known_at=at("2024-01-04 20:59")
    )
    moments.with_columns(pl.col("date").dt.truncate("1d")).write_parquet(tmp_path / "dates.parquet")
    assert read(tmp_path / "dates.parquet")["session"].to_list() == [date(2024, 1, 4)]


def test_a_ticker_that_is_not_asked_for_is_left_out_and_counted(tmp_path):
    path = written(tmp_path, "AAA,2024-01-25,post", "ZZZ,2024-01-25,post")
    answer = AnnouncementFile(path, CALENDAR, 14).fetch(["AAA"], DAY, DAY, fetched_at=FETCHED)
    assert answer.rows["subject"].to_list() == ["AAA"]
    assert answer.notes == ["dates.csv has 1 ticker(s) that are not in the universe"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AAA,25/01/2024,post", "row 2, column date: found '25/01/2024', expected a day as 2024-01-25"),
        ("AAA,2024-02-30,post", "row 2, column date: found '2024-02-30', expected"),
        ("AAA,,post", "row 2, column date: found None, expected"),
        ("AAA,2024-01-25,noon", "row 2, column when: found 'noon', expected one of pre, during, post, unknown"),
        ("<b>,2024-01-25,post", "row 2, column ticker: found '<b>', expected a ticker"),
        (",2024-01-25,post", "row 2, column ticker: found None, expected a ticker"),
        ("BBB,2024-02-01,post", "has BBB on 2024-02-01 at different times of the day"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(tmp_path, line, message):
    path = written(tmp_path, "BBB,2024-02-01,pre", line)
    with pytest.raises(SourceError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_file_without_a_column_or_that_is_none_is_named(tmp_path):
    with pytest.raises(SourceError, match="has the columns ticker, day and no date; expected ticker, date, when"):
        read(written(tmp_path, "AAA,2024-01-25", header="ticker,day"))
    (tmp_path / "dates.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"dates\.parquet cannot be read"):
        read(tmp_path / "dates.parquet")
    with pytest.raises(SourceError, match="row 1, column known_at: found None"):
        read(written(tmp_path, "AAA,2024-01-25,post,", header="ticker,date,when,known_at"))
    with pytest.raises(SourceError, match=r"row 1, a time: found '04\.01\.2024'"):
        read(written(tmp_path, "AAA,2024-01-25,post,04.01.2024", header="ticker,date,when,known_at"))


@pytest.mark.real_data
def test_the_dates_of_the_studies_are_read(real_data):
    rows = read(real_data("earnings_dates_2008_2020.parquet"), "AAPL", "MSFT")
    assert rows.height > 90
