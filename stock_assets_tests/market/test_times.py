"""Times as files write them: one moment each, or one clear error."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.times import parse_moments

NEW_YORK = ZoneInfo("America/New_York")
HALF_PAST_TWO = datetime(2018, 1, 2, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2018-01-02 14:30",
        "2018-01-02T14:30:00",
        "2018-01-02 14:30:00.000000",
        "2018/1/2 2:30 PM",
        "2018-01-02 2:30pm",
        "2018.01.02 14:30",
        "2018-01-02, 14:30",
        "20180102 14:30",
        "20180102  143000",
        "20180102143000",
        "201801021430",
        "2018-01-02T14:30:00Z",
        "20180102T143000Z",
        "2018-01-02 14:30:00+00:00",
        "2018-01-02 14:30:00 UTC",
        "2018-01-02 14:30:00 +0000 UTC",
        "2018-01-02T09:30:00-05:00",
        "2018-01-02 09:30:00 -0500",
        "2018-01-02 09:30-05",
        "2018-01-02 20:00+0530",
        "2018-01-02 09:30 EST",
        "2018-01-02 09:30:00 AM America/New_York",
        "20180102 09:30:00 US/Eastern",
        "2018-01-02T09:30-05:00[America/New_York]",
        "1514903400",
        "1514903400.0",
        "1514903400000",
        "1514903400000000",
        "1514903400000000000",
        "1.5149034e+18",
    ],
)
def test_each_form_is_the_one_moment(text: str):
    assert parse_moments(pl.Series([text])).at.to_list() == [HALF_PAST_TWO]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9], ids=["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_numbers_of_parquet_are_moments(unit: int, kind: type[pl.DataType]):
    column = pl.Series([1514903400 * unit, None, 1530628200 * unit]).cast(kind)
    assert parse_moments(column).at.to_list() == [HALF_PAST_TWO, None, datetime(2018, 7, 3, 14, 30, tzinfo=UTC)]


def test_a_fraction_of_a_second_is_kept_and_a_unit_may_change_within_a_file():
    # Binance counts in microseconds since 2025 and in milliseconds before
    column = pl.Series(["1514903400.5", "1514903400500", "1514903400500000"])
    assert parse_moments(column).at.to_list() == [HALF_PAST_TWO + timedelta(seconds=0.5)] * 3


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_typed_columns_keep_their_zone(zone: str, unit: str):
    column = pl.Series([HALF_PAST_TWO]).dt.convert_time_zone(zone).dt.cast_time_unit(unit)  # pyright: ignore[reportArgumentType]
    moments = parse_moments(column)
    assert moments.at.to_list() == [HALF_PAST_TWO]
    assert moments.wall.to_list() == [HALF_PAST_TWO.astimezone(ZoneInfo(zone)).replace(tzinfo=None)]
    assert moments.zoned


def test_times_without_a_zone_are_of_utc_or_of_the_stated_zone():
    column = pl.Series(["2018-01-02 09:30", "2018-07-02 09:30"])
    assert parse_moments(column).at.dt.hour().to_list() == [9, 9]
    for written in (column, column.str.to_datetime()):
        moments = parse_moments(written, zone="America/New_York")
        assert moments.at.dt.hour().to_list() == [14, 13]
        assert not moments.zoned


@pytest.mark.parametrize(
    ("text", "date_format", "moment"),
    [
        ("02/01/2018 14:30", "%m/%d/%Y", datetime(2018, 2, 1, 14, 30, tzinfo=UTC)),
        ("02/01/2018 14:30", "%d/%m/%Y", datetime(2018, 1, 2, 14, 30, tzinfo=UTC)),
        ("02/01/2018 14:30", "%m/%d/%Y %H:%M", datetime(2018, 2, 1, 14, 30, tzinfo=UTC)),
        ("02/01/2018 02:30 PM", "%m/%d/%Y %I:%M %p", datetime(2018, 2, 1, 14, 30, tzinfo=UTC)),
        ("02/01/2018 02:30 PM", "%m/%d/%Y", datetime(2018, 2, 1, 14, 30, tzinfo=UTC)),
        ("02.01.2018 14:30:00+01:00", "%d.%m.%Y", datetime(2018, 1, 2, 13, 30, tzinfo=UTC)),
        ("02.01.2018 14:30:00 +0100", "%d.%m.%Y %H:%M:%S %z", datetime(2018, 1, 2, 13, 30, tzinfo=UTC)),
        ("Jan 02, 2018 14:30", "%b %d, %Y", HALF_PAST_TWO),
    ],
)
def test_a_stated_format_decides(text: str, date_format: str, moment: datetime):
    assert parse_moments(pl.Series([text]), date_format).at.to_list() == [moment]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["02/01/2018 14:30"], r"row 1, .*'02/01/2018 14:30', whose order of day and month .*STOCK_ASSETS_DATE_FORMAT"),
        (["02-01-2018 14:30"], "order of day and month"),
        (["13/01/2018 14:30"], "order of day and month"),
        (["2/1/18 9:30 AM"], "order of day and month"),
        (["2018-01-02 14:30", "02/01/2018 14:30"], "row 2, .*order of day and month"),
        (["2018-13-02 14:30"], "found '2018-13-02 14:30', expected a date with the year first"),
        (["2018-02-30 14:30"], "expected a date with the year first"),
        (["2018-01-02 25:30"], "expected a date with the year first"),
        (["2018-01-02 13:30 PM"], "expected a date with the year first"),
        (["noon"], "found 'noon', expected a date"),
        (["2018-01-02 14:30", "2018-01-02 14:30Z"], "row 1, .*without a zone, which other rows name"),
        (["2018-01-02 14:30 CST"], "CST is no one offset from UTC"),
        (["2018-01-02 14:30 Moon/Base"], "Moon/Base is no one offset"),
        (["2018-11-04 01:30 America/New_York"], "America/New_York is no one offset from UTC then"),
        (["43102.6"], "'43102.6', which as seconds since 1970 would be 1970-01-01 11:58:22; expected a time from 1980"),
        (["0"], "which as seconds since 1970 would be 1970-01-01 00:00:00"),
        (["-5"], "since 1970 would be 1970-01-01 00:00:00"),
        (["9" * 25], "since 1970 would be"),
        (["1.5149E+12"], "a number that was rounded"),
        (["1514903400", "2018-01-02 14:30"], "row 2, .*expected a number as in the other rows"),
    ],
)
def test_what_is_no_one_moment_is_one_clear_error(cells: list[str], message: str):
    with pytest.raises(SourceError, match=message):
        parse_moments(pl.Series(cells))


def test_a_time_outside_of_the_stated_format_is_named():
    with pytest.raises(SourceError, match=r"row 1, .*'2018-01-02 14:30', which STOCK_ASSETS_DATE_FORMAT=%m/%d/%Y does"):
        parse_moments(pl.Series(["2018-01-02 14:30"]), "%m/%d/%Y")


def test_cells_that_are_empty_are_null_and_dates_have_no_time():
    moments = parse_moments(pl.Series(["2018-01-02", "", None]))
    assert moments.wall.dt.date().to_list() == [date(2018, 1, 2), None, None]
    assert moments.dated
    assert not parse_moments(pl.Series(["2018-01-02 00:00"])).dated


FORMS = {
    "zone": lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "no zone": lambda at: at.strftime("%Y-%m-%d %H:%M:%S"),
    "two offsets a year": lambda at: at.astimezone(NEW_YORK).isoformat(),
    "offset": lambda at: at.astimezone(ZoneInfo("Asia/Kolkata")).strftime("%Y/%m/%d %H:%M:%S%z"),
    "half days": lambda at: at.strftime("%Y-%m-%d %I:%M:%S %p"),
    "compact": lambda at: at.strftime("%Y%m%d%H%M%S"),
    "seconds": lambda at: str(int(at.timestamp())),
    "milliseconds": lambda at: str(int(at.timestamp()) * 1000),
    "float": lambda at: str(at.timestamp()),
    "number": lambda at: int(at.timestamp()) * 10**9,
}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    form=st.sampled_from(sorted(FORMS)),
    moments=st.lists(st.datetimes(datetime(1980, 1, 2), datetime(2099, 12, 30)), min_size=1, max_size=20),
)
def test_any_form_of_the_same_moments_is_the_same_moments(form: str, moments: list[datetime]):
    moments = [moment.replace(microsecond=0, tzinfo=UTC) for moment in moments]
    assert parse_moments(pl.Series([FORMS[form](at) for at in moments])).at.to_list() == moments


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    first_is_day=st.booleans(),
    moments=st.lists(st.datetimes(datetime(1980, 1, 2), datetime(2099, 12, 30)), min_size=1, max_size=10),
)
def test_no_order_of_day_and_month_is_guessed(first_is_day: bool, moments: list[datetime]):
    date_format = "%d/%m/%Y" if first_is_day else "%m/%d/%Y"
    moments = [moment.replace(second=0, microsecond=0, tzinfo=UTC) for moment in moments]
    column = pl.Series([at.strftime(f"{date_format} %H:%M") for at in moments])
    with pytest.raises(SourceError, match="order of day and month"):
        parse_moments(column)
    assert parse_moments(column, date_format).at.to_list() == moments
