"""Lines through sessions, with bands, levels and marks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts import canvas
from stock_assets.pages.charts.canvas import Plot, Scale, px


@dataclass(frozen=True)
class Line:
    """One line: a value per session, None where it has none."""

    name: str
    values: Sequence[float | None]
    look: str
    """a class of the style: service, ensemble, naive, buy, hold, sell, expected, …"""
    low: Sequence[float | None] = ()
    """the lower end of its band, a value per session; empty for a line without one"""
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Mark:
    """A sign at one session: one of MARKS."""

    place: int
    """of its session"""
    value: float
    look: str
    text: str


@dataclass(frozen=True)
class Format:
    """How the values of a chart are labelled."""

    axis: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    value: Callable[[float | None], str] = numbers.score


#: The names of the marks in a legend.
MARKS = {"dividend": "dividend", "split": "split", "suspect": "suspect bar"}
LOSS = Format(lambda tick: f"{tick:.3f}".rstrip("0").rstrip("."), numbers.score)
GAIN = Format(lambda tick: f"{tick:+g}".replace("-", numbers.MINUS) if tick else "0", lambda v: numbers.signed(v, 3))
SHARE = Format(lambda tick: numbers.percent(tick, 0), numbers.percent)
CORRELATION = Format(lambda tick: f"{tick:g}".replace("-", numbers.MINUS), lambda v: numbers.signed(v, 3))
PRICE = Format(lambda tick: f"{tick:,g}", numbers.price)


@dataclass(frozen=True)
class LineChart:
    """A chart of `drawn` over `sessions`, which ascend and are spaced evenly. A line of one value is a dot."""

    title: str
    sessions: Sequence[date]
    drawn: Sequence[Line]
    form: Format = LOSS
    note: str = ""
    marks: Sequence[Mark] = ()
    dots: Sequence[Line] = ()
    """drawn as one dot per value"""
    zero: bool = False
    """whether 0 is on the axis"""
    whole: bool = False
    """whether it fills the page's width"""
    height: float = 230

    @property
    def ticks(self) -> list[float]:
        """Of the vertical axis; they reach around every value."""
        lines = (*self.drawn, *self.dots)
        values = canvas.finite(v for line in lines for column in (line.values, line.low, line.high) for v in column)
        values += [mark.value for mark in self.marks] + ([0.0] if self.zero else [])
        return canvas.nice_ticks(min(values, default=0.0), max(values, default=1.0))

    def picture(self, width: float, look: str) -> str:
        """The SVG of this width."""
        ticks = self.ticks
        plot = Plot.of(width, self.height, [self.form.axis(tick) for tick in ticks])
        y = Scale(ticks[0], ticks[-1], plot.bottom, plot.top)
        x = session_scale(plot, len(self.sessions))
        body = canvas.y_axis(plot, y, ticks, label_of=self.form.axis) + canvas.session_axis(plot, self.sessions, x)
        body += "".join(_band(line, x, y) for line in self.drawn) + "".join(_line(line, x, y) for line in self.drawn)
        body += "".join(_dots(line, x, y) for line in self.dots) + "".join(_mark(mark, x, y) for mark in self.marks)
        reach = f' data-from="{px(x(0))}" data-to="{px(x(max(len(self.sessions) - 1, 0)))}"'
        return canvas.svg(plot, self.summary, body, look=look, values=reach)

    @property
    def summary(self) -> str:
        """What a screen reader says of the chart: the range and the last value of each line."""
        last = "; ".join(
            f"{line.name} {self.form.value(values[-1])}"
            for line in self.drawn
            if (values := canvas.finite(line.values))
        )
        if not last:
            return f"{self.title}: no value"
        return f"{self.title}, {self.sessions[0]} to {self.sessions[-1]}. Last values: {last}"

    def figure(self) -> Markup:
        """The figure with its legend; the values under the pointer are for a script."""
        read_out = {
            "x": [str(session) for session in self.sessions],
            "y": [[line.name, line.look, [self.form.value(v) for v in line.values]] for line in self.drawn],
        }
        looks = {mark.look for mark in self.marks}
        legend = [(line.look, line.name) for line in self.drawn]
        legend += [(f"mark {look}", name) for look, name in MARKS.items() if look in looks]
        width = canvas.WHOLE if self.whole else canvas.HALF
        return canvas.figure(self.title, self.picture, note=self.note, legend=legend, width=width, values=read_out)


def session_scale(plot: Plot, sessions: int) -> Scale:
    """The place of a session's number on the x axis; a single one is in the middle."""
    inset = 4.0
    if sessions < 2:
        middle = (plot.left + plot.right) / 2
        return Scale(0, 1, middle, middle)
    return Scale(0, sessions - 1, plot.left + inset, plot.right - inset)


def _runs(values: Sequence[float | None]) -> list[list[int]]:
    """The places of consecutive values, run by run."""
    runs: list[list[int]] = [[]]
    for i, value in enumerate(values):
        if value is not None:
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _line(line: Line, x: Scale, y: Scale) -> str:
    values = [0.0 if v is None else v for v in line.values]
    parts = []
    for run in _runs(line.values):
        if len(run) == 1:
            parts.append(f'<circle class="dot {line.look}" cx="{px(x(run[0]))}" cy="{px(y(values[run[0]]))}" r="3"/>')
        else:
            points = " ".join(f"{px(x(i))},{px(y(values[i]))}" for i in run)
            parts.append(f'<polyline class="line {line.look}" points="{points}"/>')
    return "".join(parts)


def _band(line: Line, x: Scale, y: Scale) -> str:
    if not line.low:
        return ""
    edges = [
        (low, high) if low is not None and high is not None else None
        for low, high in zip(line.low, line.high, strict=True)
    ]
    parts = []
    for run in _runs([None if edge is None else edge[0] for edge in edges]):
        pairs = [(i, edge) for i in run if (edge := edges[i])]
        points = [f"{px(x(i))},{px(y(high))}" for i, (_, high) in pairs]
        points += [f"{px(x(i))},{px(y(low))}" for i, (low, _) in reversed(pairs)]
        parts.append(f'<polygon class="band {line.look}" points="{" ".join(points)}"/>')
    return "".join(parts)


def _dots(line: Line, x: Scale, y: Scale) -> str:
    """Every value as a dot, all in one path: a stroke without length and with round ends."""
    points = "".join(f"M{px(x(i))} {px(y(value))}h0" for i, value in enumerate(line.values) if value is not None)
    return f'<path class="dots {line.look}" d="{points}"/>' if points else ""


def _mark(mark: Mark, x: Scale, y: Scale) -> str:
    title = f"<title>{canvas.escape(canvas.one_line(mark.text))}</title>"
    cx, cy = x(mark.place), y(mark.value)
    if mark.look == "suspect":
        points = f"{px(cx)},{px(cy - 5)} {px(cx + 5)},{px(cy + 4)} {px(cx - 5)},{px(cy + 4)}"
        return f'<polygon class="mark suspect" points="{points}">{title}</polygon>'
    return (
        f'<rect class="mark {mark.look}" x="{px(cx - 3.5)}" y="{px(cy - 3.5)}" width="7" height="7" '
        f'transform="rotate(45 {px(cx)} {px(cy)})">{title}</rect>'
    )
