"""A figure that is added from outside is drawn from the findings and shown on the page, in a section old or new."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stock_assets.evaluation import plots
from stock_assets.evaluation.figures import FIGURES, SECTIONS, Figure, Section, add_figure
from stock_assets.evaluation.findings import Findings
from stock_assets.evaluation.report import Report, render_report
from stock_assets_tests.evaluation.test_report import REAL, SCORES, Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


def one_line(findings: Findings) -> bytes | None:
    """A picture of the mean log-losses; none for a single model."""
    losses = findings.tables["walk_forward"]["log_loss"]

    def draw(figure: "MatplotlibFigure") -> None:
        figure.subplots().plot(losses)

    return plots.picture(draw, 2.0) if len(losses) > 1 else None


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    figures, sections = dict(FIGURES), dict(SECTIONS)
    yield
    FIGURES.clear()
    FIGURES.update(figures)
    SECTIONS.clear()
    SECTIONS.update(sections)


def drawn(scores: Any) -> bytes | None:
    findings: Any = SimpleNamespace(tables={"walk_forward": scores})  # the figure looks at no more
    return FIGURES["losses"].draw(findings)


def test_a_toy_figure_stands_in_its_section():
    add_figure(Figure("losses", "All the losses.", "calibration", one_line))
    png = drawn(SCORES)
    assert png is not None
    html = render_report(Report("t", {"walk_forward": SCORES}, {"losses": png}, REAL))
    assert "Calibration" in Page(html).text
    assert "All the losses." in html.split('<h2 id="calibration">')[1]
    assert drawn(SCORES[:1]) is None


def test_a_toy_figure_brings_a_section_of_its_own():
    add_figure(Figure("losses", "All the losses.", "toys", one_line), Section("toys", "Toys"))
    png = drawn(SCORES)
    assert png is not None
    html = render_report(Report("t", {"walk_forward": SCORES}, {"losses": png}, REAL))
    assert '<a href="#toys">Toys</a>' in html
    assert "All the losses." in html.split('<h2 id="toys">')[1]
    without = render_report(Report("t", {"walk_forward": SCORES}, {}, REAL))
    assert "Toys" not in without


def test_a_figure_without_a_place_or_a_name_of_its_own_is_refused():
    with pytest.raises(ValueError, match="losses stands in no section: toys is none of classes"):
        add_figure(Figure("losses", "", "toys", one_line))
    with pytest.raises(ValueError, match="there is a figure growth already"):
        add_figure(Figure("growth", "", "market", one_line))
    with pytest.raises(ValueError, match="there is a section market already"):
        add_figure(Figure("losses", "", "market", one_line), Section("market", "Market"))
    assert "losses" not in FIGURES
