"""The sections and the figures of the evaluation report.

A new figure is a function of `plots` and an entry of FIGURES, or `add_figure` from outside; the page and the UI show
whatever is here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stock_assets.evaluation import plots
from stock_assets.evaluation.classes import calibration_table
from stock_assets.evaluation.findings import Findings
from stock_assets.evaluation.metrics import daily_rank_ic


@dataclass(frozen=True)
class Section:
    """A part of the report, below the table of scores.

    It is shown where one of its `tables` has a row, or is there at all if `empty_too`, and where it has a figure. The
    texts and tables before and after the figures are the macros `before_<id>` and `after_<id>` of
    `report_sections.html.j2`; a section of figures alone needs none.
    """

    id: str
    title: str
    tables: tuple[str, ...] = ()
    empty_too: bool = False


@dataclass(frozen=True)
class Figure:
    """One picture of the report: `draw` makes a PNG of the findings, or None where there is nothing to draw.

    `caption` names what to look for, and `section` is the `Section.id` under which it stands.
    """

    name: str
    caption: str
    section: str
    draw: Callable[[Findings], bytes | None]


SECTIONS: dict[str, Section] = {
    section.id: section
    for section in (
        Section("classes", "Class by class", ("classification",)),
        Section("calibration", "Calibration"),
        Section("rank-ic", "Rank IC through time"),
        Section("spread", "Decile spread", ("spread",)),
        Section("market", "Compared with the market", ("market",)),
        Section("survivorship", "Survivorship bias", ("survivorship",), empty_too=True),
        Section("regimes", "Calm and stormy markets", ("regimes",)),
        Section("tickers", "Ticker by ticker", ("tickers",)),
        Section("sectors", "Sector by sector", ("sectors",), empty_too=True),
        Section("input-value", "What each input is worth", ("input_value",), empty_too=True),
        Section("announcements", "Announcements", ("coming", "reactions")),
        Section("leakage", "Leakage audit", ("leakage", "lag_sweep"), empty_too=True),
        Section("suspects", "Suspect rows", ("suspects",), empty_too=True),
        Section("study", "The study's own figures", ("ablation",)),
    )
}


def _growth(findings: Findings) -> bytes | None:
    return plots.growth(findings.growth, findings.market) if findings.tables["market"].height else None


def _accuracy_by_sector(findings: Findings) -> bytes | None:
    by_sector = findings.tables["sectors"]
    if by_sector.is_empty():
        return None
    dots = findings.tickers[findings.best].join(findings.sector_of, on="ticker")
    return plots.accuracy_by_sector(dots, by_sector)


def _input_values(findings: Findings) -> bytes | None:
    measured_values = findings.tables["input_value"].drop_nulls("difference")
    return plots.input_values(measured_values) if measured_values.height else None


def _reaction_moves(findings: Findings) -> bytes | None:
    moves = findings.reactions["residual_return"]
    return None if moves.is_empty() else plots.reaction_moves(moves, findings.usual_move)


#: Every figure by name, in the order of their sections and within each.
FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure(
            "confusion",
            "Confusion matrix: the classes that the rows of each label were predicted as. Skill that is volatility "
            "separates hold from the rest; only direction separates sell from buy.",
            "classes",
            lambda findings: plots.confusion(findings.confusion, findings.best),
        ),
        Figure(
            "calibration",
            "A model is calibrated where its line follows the diagonal: of the rows given 40 %, 40 % come true.",
            "calibration",
            lambda findings: plots.calibration(calibration_table(findings.leading)),
        ),
        Figure(
            "rank_ic",
            "Running sum and rolling mean of the daily rank IC: a steady climb is a ranking that works in most months, "
            "a step is a lucky one. A t beyond 2 is rarely chance.",
            "rank-ic",
            lambda findings: plots.rank_ic_through_time(daily_rank_ic(findings.leading)),
        ),
        Figure(
            "growth",
            "What 1 has grown to, on a logarithmic scale. Most of what a portfolio of stocks earns is the market's.",
            "market",
            _growth,
        ),
        Figure(
            "accuracy_by_ticker",
            "How many tickers are predicted how well. A ticker that hardly moves, or always does, is easy: the naive "
            "baseline's spread shows how much of the width is that.",
            "tickers",
            lambda findings: plots.accuracy_by_ticker(findings.tickers),
        ),
        Figure(
            "accuracy_by_sector",
            "Compare the bars with the width of the dots: where tickers of one sector differ more than sectors do, the "
            "sector itself matters little.",
            "sectors",
            _accuracy_by_sector,
        ),
        Figure(
            "input_values",
            "What the scores gain from each group of inputs, with 95 % intervals. Left out: what no other input holds. "
            "Permuted: how much the model leans on it. Noise shows what luck looks like.",
            "input-value",
            _input_values,
        ),
        Figure(
            "reaction_moves",
            "How far a share moved on the session that showed the reaction to an announcement, less the market. The "
            "date says that it moves, not where to.",
            "announcements",
            _reaction_moves,
        ),
        Figure(
            "known_lags",
            "How long after an event its row was known. A session reads what was known at its close, whatever the "
            "event: rows left of 0 were known ahead.",
            "announcements",
            lambda findings: None if findings.lags.is_empty() else plots.known_lags(findings.lags),
        ),
        Figure(
            "lag_sweep",
            "Accuracy of copying the label of some rows ago: it falls off a cliff at the horizon, from where on the "
            "copied label is really known.",
            "leakage",
            lambda findings: None if findings.sweep.is_empty() else plots.lag_sweep(findings.sweep),
        ),
        Figure(
            "label_thresholds",
            "The target at the study's two pairs of thresholds, over all sessions and suspect rows too: a lower "
            "threshold makes its class more frequent.",
            "study",
            lambda findings: plots.label_distribution(findings.labels_by_thresholds, by="thresholds"),
        ),
        Figure(
            "label_distribution",
            "The labels by test year: holds come in calm years, so the frequencies of the past mislead about the year "
            "to come.",
            "study",
            lambda findings: plots.label_distribution(findings.labels_by_year),
        ),
        Figure(
            "price_and_volume",
            "Price and volume with the train-test split: each dashed line is a cutoff, after which a year is predicted "
            "by models that have seen only what lies before.",
            "study",
            lambda findings: plots.price_and_volume(findings.chart, findings.cutoffs, findings.ticker),
        ),
        Figure(
            "bollinger",
            "The 25-day bands follow the price more closely than the 50-day ones; both are wide where volatility is "
            "high, which is what a model learns from them.",
            "study",
            lambda findings: plots.bollinger(findings.recent, findings.ticker),
        ),
        Figure(
            "rsi_and_momentum",
            "RSI and momentum coloured by the label that followed: if they predicted the direction, the colours would "
            "part by height.",
            "study",
            lambda findings: plots.rsi_and_momentum(findings.recent, findings.ticker),
        ),
        Figure(
            "epochs",
            "Accuracy and RMSE on the validation months against the epoch: where a line turns, the network has begun "
            "to learn what does not last.",
            "study",
            lambda findings: None if findings.curves.is_empty() else plots.epochs(findings.curves),
        ),
        Figure(
            "ablation",
            "Price and volume alone against the principal components of all classic indicators, in the same logistic "
            "regression, year by year: what the study's PCA adds.",
            "study",
            lambda findings: plots.ablation(findings.tables["ablation"]),
        ),
    )
}


def add_figure(figure: Figure, section: Section | None = None) -> None:
    """Adds `figure` to the report, and `section` where it needs a new one.

    Raises ValueError where there is a figure or a section of that name, and where the figure's section is unknown.
    """
    if section is not None and section.id in SECTIONS:
        raise ValueError(f"there is a section {section.id} already; leave it out to add a figure to it")
    if figure.name in FIGURES:
        raise ValueError(f"there is a figure {figure.name} already; expected another name than {', '.join(FIGURES)}")
    sections = SECTIONS | ({section.id: section} if section else {})
    if figure.section not in sections:
        raise ValueError(f"{figure.name} stands in no section: {figure.section} is none of {', '.join(sections)}")
    SECTIONS.update(sections)
    FIGURES[figure.name] = figure


def draw(findings: Findings) -> dict[str, bytes]:
    """Every figure that has something to draw, as a PNG by name."""
    pictures = {name: figure.draw(findings) for name, figure in FIGURES.items()}
    return {name: png for name, png in pictures.items() if png is not None}
