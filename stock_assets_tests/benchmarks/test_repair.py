"""How well repair finds what is broken may get better, not worse."""

import pytest

from benchmarks.repair import healthy, measured

#: kind: precision, recall, false returns mended, false figures kept out, at least.
FLOORS = {
    "unit": (1.0, 1.0, 5, 5),
    "split": (1.0, 0.69, 9, 13),
    "dividend": (0.97, 0.77, 35, 39),
    "adjustment": (1.0, 0.99, 115, 116),
    "no_price": (1.0, 1.0, 0, 101),
    "frozen": (1.0, 1.0, 0, 101),
}


@pytest.mark.real_data
def test_precision_and_recall_stay_above_their_floors(real_data):
    scores = {score.kind: score for score in measured(real_data("yfinance_repair_cases.parquet"))}
    assert set(scores) == set(FLOORS)
    fallen = {
        kind: score
        for kind, score in scores.items()
        if any(
            figure < floor
            for figure, floor in zip(
                (score.precision, score.recall, score.mended, score.kept_out), FLOORS[kind], strict=True
            )
        )
    }
    assert fallen == {}
    assert {kind: score.false for kind, score in scores.items()} == {
        "unit": 5,
        "split": 13,
        "dividend": 54,
        "adjustment": 116,
        "no_price": 101,
        "frozen": 101,
    }


@pytest.mark.real_data
def test_ten_ordinary_years_ring_three_times(real_data):
    bars, findings = healthy(real_data("yahoo_102_tickers_with_actions_2016_2026.parquet"))
    assert bars == 256_209
    told = findings.filter(findings["kind"].is_in(["unit", "split", "dividend", "adjustment", "no_price"]))
    assert sorted(told.select("ticker", "kind").iter_rows()) == [
        ("AMCR", "adjustment"),
        ("AMCR", "adjustment"),
        ("DHR", "dividend"),
    ]
