"""What every chart is made of: scales, readable ticks, axes, and the figure around the pictures."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

from stock_assets.escape import lines, one_line
from stock_assets.pages import numbers

#: Widths of the two pictures, in pixels: half a page, a whole page, and a phone.
HALF, WHOLE, PHONE = 540, 1096, 330
Point = tuple[float, float]
_CHARACTER = 6.9
"""width of a character of an axis"""


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to pixels, from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True)
class Plot:
    """The area of a picture inside its axes."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of(cls, width: float, height: float, labels: Iterable[str], *, top: float = 10) -> "Plot":
        """Room on the left for `labels`, on the bottom for one line of text."""
        left = 10 + _CHARACTER * max(map(len, labels), default=0)
        return cls(width, height, left, width - 12, top, height - 26)


def nice_ticks(low: float, high: float, tick_limit: int = 5) -> list[float]:
    """At most `tick_limit` + 1 round numbers that reach around [low, high].

    >>> nice_ticks(0.9, 4.2)
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    >>> nice_ticks(1.031, 1.044, 4)
    [1.03, 1.035, 1.04, 1.045]
    """
    if not high > low:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / tick_limit
    power = 10.0 ** floor(log10(rough))
    step = next(unit * power for unit in (1, 2, 2.5, 5, 10, 20) if _count(low, high, unit * power) <= tick_limit + 1)
    first, digits = floor(low / step + 1e-9), max(0, 2 - floor(log10(step)))
    return [round((first + i) * step, digits) + 0.0 for i in range(_count(low, high, step))]


def _count(low: float, high: float, step: float) -> int:
    return ceil(high / step - 1e-9) - floor(low / step + 1e-9) + 1


def session_ticks(sessions: Sequence[date], tick_limit: int) -> list[tuple[int, str]]:
    """(place, label) of at most `tick_limit` sessions: the first ones of months, or some sessions of a short stretch.

    >>> session_ticks([date(2026, 11, 19), date(2026, 11, 20)], 6)
    [(0, '19 Nov'), (1, '20 Nov')]
    """
    if not sessions:
        return []
    months = [i for i in range(1, len(sessions)) if sessions[i].month != sessions[i - 1].month]
    if len(months) < 3:
        step = ceil(len(sessions) / tick_limit)
        return [(i, f"{sessions[i].day} {sessions[i]:%b}") for i in range(0, len(sessions), step)]
    for month_step in (1, 2, 3, 6, 12):
        positions = [i for i in months if (sessions[i].month - 1) % month_step == 0]
        if len(positions) <= tick_limit:
            break
    else:
        positions = positions[:: ceil(len(positions) / tick_limit)]
    return [(i, numbers.month(sessions[i])) for i in positions]


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that a chart can show."""
    return [value for value in values if value is not None and isfinite(value)]


def px(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def text(place: Point, label: str, *, anchor: str = "start", look: str = "tick") -> str:
    """A line of text in a picture."""
    x, y = place
    return f'<text class="{look}" x="{px(x)}" y="{px(y)}" text-anchor="{anchor}">{escape(one_line(label))}</text>'


def rule(start: Point, end: Point, look: str = "grid") -> str:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{look}" x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}"/>'


def box(corner: Point, size: Point, look: str) -> str:
    """A filled rectangle with its upper left corner."""
    (x, y), (width, height) = corner, size
    return f'<rect class="{look}" x="{px(x)}" y="{px(y)}" width="{px(max(width, 0))}" height="{px(max(height, 0))}"/>'


def y_axis(plot: Plot, scale: Scale, ticks: Sequence[float], *, label_of: Callable[[float], str]) -> str:
    """Horizontal lines with their labels."""
    return "".join(
        rule((plot.left, scale(tick)), (plot.right, scale(tick)), "zero" if tick == 0 else "grid")
        + text((plot.left - 6, scale(tick) + 4), label_of(tick), anchor="end")
        for tick in ticks
    )


def session_axis(plot: Plot, sessions: Sequence[date], place: Callable[[float], float]) -> str:
    """Marks and labels of the sessions below the plot."""
    parts = [rule((plot.left, plot.bottom), (plot.right, plot.bottom), "axis")]
    for i, label in session_ticks(sessions, max(2, int((plot.right - plot.left) / 62))):
        half = _CHARACTER * len(label) / 2
        x = min(max(place(i), half), plot.width - half)
        parts += [
            rule((place(i), plot.bottom), (place(i), plot.bottom + 4), "axis"),
            text((x, plot.bottom + 17), label, anchor="middle"),
        ]
    return "".join(parts)


def svg(plot: Plot, title: str, body: str, *, look: str, values: str = "") -> str:
    """One picture; `values` are further attributes that the script reads."""
    return (
        f'<svg class="{look}" role="img" viewBox="0 0 {px(plot.width)} {px(plot.height)}"{values}>'
        f"<title>{escape(lines(title))}</title>{body}</svg>"
    )


def figure(
    title: str,
    pictures: Callable[[float, str], str],
    *,
    note: str = "",
    legend: Sequence[tuple[str, str]] = (),
    width: float = HALF,
    values: object = None,
) -> Markup:
    """The figure of a chart: its title, the legend (look, name), two pictures of `pictures(width, look)`, a note.

    `values`, as JSON, are what a script shows under the pointer.
    """
    keys = "".join(f'<li><i class="key {look}"></i>{escape(one_line(name))}</li>' for look, name in legend)
    data = "" if values is None else f' data-values="{escape(json.dumps(values, separators=(",", ":")))}"'
    parts = [f"<b>{escape(title)}</b>", f"<span>{escape(note)}</span>" if note else ""]
    caption = f"<figcaption>{''.join(parts)}</figcaption>"
    caption += f'<ul class="legend">{keys}</ul>' if keys else ""
    return Markup(  # every part of it is escaped above
        f'<figure class="chart"{data}>{caption}<div class="picture">{pictures(width, "wide")}'
        f"{pictures(PHONE, 'narrow')}</div></figure>"
    )
