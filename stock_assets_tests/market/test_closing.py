"""An old snapshot with END open is closed at its last session, in one line, until its files hold newer ones."""

import io
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from rich.console import Console

from stock_assets.cli.serve import check_snapshot
from stock_assets.closed_snapshot import NAME, note_of
from stock_assets.errors import SettingsError
from stock_assets.lifecycle.materialize.operations import freshness_of
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.closing import close_where_old, newer_session
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.settings import Settings, read_settings

SESSIONS = trading_calendar("XNYS", date(2016, 1, 4), date(2018, 3, 29)).sessions
LATER = datetime(2026, 1, 5, tzinfo=UTC)


def write(path: Path, last: date) -> None:
    rows = [f"{day},10,11,9,10,100" for day in SESSIONS if day <= last]
    path.write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that ends on 2017-12-29, which the environment names as the snapshot."""
    path = tmp_path / "AAPL.csv"
    write(path, date(2017, 12, 29))
    for name, value in {
        "CONFIG": "off",
        "SOURCE": "snapshot",
        "SNAPSHOT": path,
        "START": "2016-01-04",
        "FIRST_MODEL_YEAR": "2017",
        "DATA_DIR": tmp_path / "data",
    }.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", str(value))
    monkeypatch.delenv("STOCK_ASSETS_END", raising=False)
    return path


def started() -> tuple[Settings, str]:
    """The settings after a start, and what it prints."""
    out = io.StringIO()
    settings = check_snapshot(read_settings(), Console(file=out, width=500))
    return settings, out.getvalue()


@pytest.mark.usefixtures("old")
def test_an_old_snapshot_ends_by_itself_in_every_process_and_says_so_in_one_line():
    assert read_settings().end is None
    settings, printed = started()
    assert settings.end == date(2017, 12, 29) == read_settings().end
    (line,) = [line for line in printed.splitlines() if "snapshot end" in line]
    assert line.startswith("the files of the snapshot end on 2017-12-29, so it is closed there")
    state = freshness_of(read_settings(), date(2017, 12, 29), LATER)
    assert state.fresh
    assert "closed at 2017-12-29" in state.reason
    assert started()[0].end == date(2017, 12, 29)  # a second start sees the same


def test_newer_rows_are_an_alarm_until_the_next_start_which_goes_on_to_them(old: Path):
    started()
    settings = read_settings()
    old.touch()  # changed, and nothing new
    assert newer_session(settings) is None
    write(old, date(2018, 2, 28))
    assert newer_session(settings) == date(2018, 2, 28)
    state = freshness_of(settings, date(2017, 12, 29), LATER)
    assert (state.fresh, state.sessions_behind) == (False, 40)
    assert "hold sessions to 2018-02-28, and the snapshot is closed at 2017-12-29: start it again" in state.reason
    assert started()[0].end == date(2018, 2, 28)
    assert freshness_of(read_settings(), date(2018, 2, 28), LATER).fresh


def test_files_that_cannot_be_read_any_more_are_no_silence(old: Path):
    started()
    old.write_text("Date,Open,High,Low,Close,Volume\n2018-01-02,ten,11,9,10,100\n")
    state = freshness_of(read_settings(), date(2017, 12, 29), LATER)
    assert not state.fresh
    assert "the files of the closed snapshot have changed: " in state.reason


def test_a_snapshot_of_last_week_goes_on_and_an_end_of_one_s_own_stays(old: Path, monkeypatch: pytest.MonkeyPatch):
    settings = read_settings()
    source = SnapshotSource(old, trading_calendar("XNYS", date(2016, 1, 4), date(2018, 3, 29)))
    assert close_where_old(settings, source, datetime(2018, 1, 12, tzinfo=UTC)) is None
    assert note_of(settings.data_dir, old) is None
    assert close_where_old(settings, source, datetime(2018, 2, 1, tzinfo=UTC)) == date(2017, 12, 29)
    monkeypatch.setenv("STOCK_ASSETS_END", "2017-11-30")
    assert read_settings().end == date(2017, 11, 30)
    assert newer_session(read_settings()) is None


def test_a_note_of_other_files_and_a_damaged_one_close_nothing(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    started()
    write(tmp_path / "MSFT.csv", date(2018, 2, 28))
    monkeypatch.setenv("STOCK_ASSETS_SNAPSHOT", str(tmp_path / "MSFT.csv"))
    assert read_settings().end is None
    monkeypatch.setenv("STOCK_ASSETS_SNAPSHOT", str(old))
    (tmp_path / "data" / NAME).write_text('{"snapshot": 1}')
    assert read_settings().end is None
    assert started()[0].end == date(2017, 12, 29)


@pytest.mark.usefixtures("old")
def test_an_end_that_no_model_year_fits_leaves_no_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_FIRST_MODEL_YEAR", "2018")
    with pytest.raises(
        SettingsError, match=r"FIRST_MODEL_YEAR=2018; expected a year up to STOCK_ASSETS_END=2017-12-29"
    ):
        started()
    assert read_settings().end is None
