"""One market, written in every form that is read: the same bars come back."""

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets_tests.market.vendor_files import FORMS, PRICES, VendorForm

FIRST, LAST = date(2020, 3, 2), date(2020, 3, 13)  # summer time begins in New York on the 8th
CALENDARS = {name: trading_calendar(name, FIRST, date(2020, 3, 31)) for name in ("XNYS", "XSHG", "24/7")}
LATER = datetime(2021, 1, 1, tzinfo=UTC)
TICKERS = {"XNYS": ("AAPL", "MSFT"), "XSHG": ("000001", "600000"), "24/7": ("BTC", "ETH")}

#: From a cent up to six digits: with thousands and without.
price = st.one_of(st.integers(2, 9_999), st.integers(10_000, 99_999_999)).map(lambda cents: cents / 100)


@st.composite
def markets(draw: st.DrawFn, exchange: str) -> pl.DataFrame:
    """ticker, session, open, high, low, close, volume of two tickers on every session."""
    sessions = CALENDARS[exchange].between(FIRST, LAST)
    rows = []
    for ticker in TICKERS[exchange]:
        for session in sessions:
            low, *between, high = sorted(draw(st.tuples(price, price, price, price)))
            open_, close = draw(st.permutations(between))
            rows.append((ticker, session, open_, high, low, close, 10_000 * draw(st.integers(101, 99_999))))
    names = ["ticker", "session", *PRICES, "volume"]
    return pl.DataFrame(rows, names, orient="row")


def read(form: VendorForm, folder: Path, market: pl.DataFrame) -> pl.DataFrame:
    source = SnapshotSource(folder, CALENDARS[form.exchange], reading=form.reading)
    tickers = [ticker + form.suffix for ticker in TICKERS[form.exchange]]
    assert source.universe()["ticker"].to_list() == tickers
    return source.fetch(tickers, FIRST, LAST, fetched_at=LATER).bars.select(market.columns)


def as_read(form: VendorForm, market: pl.DataFrame) -> pl.DataFrame:
    return market.with_columns(pl.col("ticker") + form.suffix, pl.col("volume").cast(pl.Float64))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_holds_the_same_bars(form: VendorForm):
    @settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(market=markets(form.exchange))
    def check(market: pl.DataFrame) -> None:
        with tempfile.TemporaryDirectory() as folder:
            form.write(market, Path(folder))
            assert_frame_equal(read(form, Path(folder), market), as_read(form, market), abs_tol=1e-9, rel_tol=1e-12)

    check()
