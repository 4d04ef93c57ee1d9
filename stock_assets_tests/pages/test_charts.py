"""The charts: ticks, gaps, escaping, and figures of any length."""

import re
from datetime import date, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.pages.charts import bars, canvas, lines
from stock_assets.pages.charts.lines import Line, LineChart, Mark

HOSTILE = '<b a="1">&'
DAYS = [date(2026, 1, 2) + timedelta(days=n) for n in range(400)]


def parsed(figure: str) -> ElementTree.Element:
    """The figure as XML: what is not escaped does not parse."""
    return ElementTree.fromstring(figure)


def coordinates(figure: str) -> list[float]:
    return [float(n) for n in re.findall(r'(?:cx|cy|x|y|x1|x2|y1|y2|width|height)="(-?[\d.]+)"', figure)]


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(2, 8))
def test_ticks_are_round_few_and_reach_around(low: float, span: float, most: int):
    ticks = canvas.nice_ticks(low, low + span, most)
    assert 2 <= len(ticks) <= most + 1
    assert ticks == sorted({*ticks})
    slack = 1e-6 * max(abs(low), span, 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


@pytest.mark.parametrize("count", [0, 1, 2, 5, 60, 400])
def test_ticks_of_sessions_are_readable(count: int):
    ticks = canvas.session_ticks(DAYS[:count], 6)
    assert len(ticks) <= 6
    assert len({place for place, _ in ticks}) == len(ticks)
    assert bool(ticks) == bool(count)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 400])
def test_a_line_chart_of_any_length(count: int):
    values = [None if i % 5 == 3 else 1.0 + i / 100 for i in range(count)]
    line = Line(HOSTILE, values, "service", [v and v - 0.1 for v in values], [v and v + 0.1 for v in values])
    marks = [Mark(0, 1.0, "suspect", HOSTILE)] if count else []
    figure = LineChart(HOSTILE, DAYS[:count], [line], note=HOSTILE, marks=marks, dots=[line]).figure()
    root = parsed(figure)
    assert [svg.get("class") for svg in root.iter("svg")] == ["wide", "narrow"]
    assert HOSTILE in "".join(root.itertext())
    width = max(float(svg.get("viewBox", "").split()[2]) for svg in root.iter("svg"))
    assert all(-1 <= n <= width + 1 for n in coordinates(figure))


def test_a_gap_divides_a_line():
    figure = LineChart("t", DAYS[:5], [Line("a", [1, 2, None, 2, None], "service")]).figure()
    assert figure.count("<polyline") == 2, "one in each picture"
    assert figure.count('class="dot service"') == 2


def test_a_line_lies_where_its_values_are():
    chart = LineChart("t", DAYS[:3], [Line("a", [0.0, 5.0, 10.0], "service")])
    (points,) = re.findall(r'<polyline class="line service" points="([^"]+)"', chart.picture(canvas.HALF, "wide"))
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, point.split(","))) for point in points.split()]
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert y2 < y0, "up is more"


def test_every_other_chart_escapes_and_fits():
    shares = bars.Shares(HOSTILE, [0.2, 0.8], "buy")
    row = bars.Interval(HOSTILE, 0.1, -0.1, 0.3, "service", HOSTILE)
    for figure in (
        bars.histogram(HOSTILE, [None, 0.5, None], [shares]),
        bars.diverging_bars(HOSTILE, [(HOSTILE, 0.2, "+20 %"), (HOSTILE, -0.1, "-10 %")]),
        bars.heat_map(HOSTILE, [HOSTILE], DAYS[:3], levels=[[0, None, 2]], legend=["a", "b", "c"]),
        bars.intervals(HOSTILE, [row]),
        bars.reliability_chart(HOSTILE, [(HOSTILE, "buy", [(0.2, 0.3, 10), (0.4, 0.5, 1)])]),
    ):
        assert HOSTILE in "".join(parsed(figure).itertext())
    assert bars.probability_bar(0.2, 0.3, 0.5).count("<rect") == 3
    assert lines.session_scale(canvas.Plot.of(330, 100, ["1"]), 1)(0) > 0
