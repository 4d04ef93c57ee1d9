"""A bar check from outside: one record puts its reason into `suspect`, the UI's checks and what may stop a run."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from stock_assets.defs.checks import daily_bar_results, daily_bar_specs
from stock_assets.errors import StockAssetsError
from stock_assets.market import quality
from stock_assets.market.adjustments import clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.quality import BarCheck, register_bar_check
from stock_assets_tests.market.generators import raw_answer, universe_of

DAYS = trading_calendar("XNYS", date(2015, 1, 2)).sessions[:60]


@pytest.fixture(autouse=True)
def own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "BAR_CHECKS", dict(quality.BAR_CHECKS))


def penny_stocks(against_vendor: bool) -> BarCheck:
    return BarCheck("penny", "its price is below 1", pl.col("close") < 1, against_vendor)


@pytest.mark.parametrize("against_vendor", [True, False])
def test_a_registered_check_flags_its_bars_and_is_shown(against_vendor: bool):
    register_bar_check(penny_stocks(against_vendor))
    closes = {"A": [10.0] * 60, "B": [10.0] * 59 + [0.9], "C": [10.0] * 59 + [0.8], "D": [2.0] * 59 + [0.9]}
    raw = pl.concat(raw_answer(DAYS, values, ticker) for ticker, values in closes.items())
    universe = universe_of(raw)
    bars, findings = clean_bars_and_findings(raw, universe, DAYS)
    last = bars.filter(pl.col("session") == DAYS[-1]).sort("ticker")
    # what the package's own checks say counts first
    assert last["suspect"].to_list() == [None, "absurd_return", "absurd_return", "absurd_return"]

    calm = raw_answer(DAYS, [1.1] * 55 + [0.95] * 5, "E")
    bars, findings = clean_bars_and_findings(pl.concat([raw, calm]), universe_of(calm), DAYS)
    flagged = bars.filter(pl.col("suspect") == "penny")
    assert flagged.select("ticker", "session").rows() == [("E", day) for day in DAYS[55:]]

    texts = {spec.name: spec.description for spec in daily_bar_specs()}
    assert texts["no_penny"] == "no bar is suspect because its price is below 1"
    both = pl.concat([flagged, flagged.with_columns(ticker=pl.lit("F"))])
    results = {result.check_name: result for result in daily_bar_results(both, universe, findings)}
    assert not results["no_penny"].passed
    stops = results["no_penny"].severity == dg.AssetCheckSeverity.ERROR
    assert stops == against_vendor


def test_two_checks_have_two_names():
    with pytest.raises(StockAssetsError, match="a bar check named gap is registered already"):
        register_bar_check(BarCheck("gap", "another one", pl.lit(value=True)))
