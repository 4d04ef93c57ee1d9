"""The example for Streamlit shows what is published; it is an extra, so it may be absent."""

from pathlib import Path

import pytest

from stock_assets.settings import PROJECT_DIR
from stock_assets_tests.waiting import HANG_SECONDS

testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is an extra: pip install '.[streamlit]'")
APP = PROJECT_DIR / "examples" / "streamlit_app.py"
pytestmark = pytest.mark.filterwarnings("default")  # those of streamlit are none of ours


def test_it_shows_the_newest_session(api: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_API_URL", api)
    app = testing.AppTest.from_file(str(APP), default_timeout=HANG_SECONDS).run()
    assert not app.exception
    assert not app.error
    assert app.title[0].value == "rnn of 2026-11-20"
    assert app.warning[0].value == "SIMULATED market: no real prices"
    assert app.dataframe[1].value["ticker"].iloc[0] == "AAPL"  # rank 1


def test_a_server_that_is_absent_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_API_URL", "http://127.0.0.1:1")
    app = testing.AppTest.from_file(str(APP), default_timeout=HANG_SECONDS).run()
    assert not app.exception
    assert "nothing answers at http://127.0.0.1:1" in app.error[0].value


def test_the_example_is_short():
    assert len(Path(APP).read_text().splitlines()) <= 70
