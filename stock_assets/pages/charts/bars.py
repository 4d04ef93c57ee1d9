"""Bars, histograms, heat maps and intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

from stock_assets.escape import one_line, shortened
from stock_assets.pages import numbers
from stock_assets.pages.charts import canvas
from stock_assets.pages.charts.canvas import Plot, Scale, px


@dataclass(frozen=True)
class Shares:
    """One histogram: a share per bin."""

    name: str
    values: Sequence[float]
    look: str


def probability_bar(p_sell: float, p_hold: float, p_buy: float) -> Markup:
    """The three probabilities of one row as one bar of three colours."""
    parts, x = [], 0.0
    for look, share in (("sell", p_sell), ("hold", p_hold), ("buy", p_buy)):
        parts.append(canvas.box((x, 0), (100 * share, 10), look))
        x += 100 * share
    title = f"sell {numbers.percent(p_sell)}, hold {numbers.percent(p_hold)}, buy {numbers.percent(p_buy)}"
    return Markup(
        f'<svg class="split" role="img" viewBox="0 0 100 10" preserveAspectRatio="none"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )


def histogram(
    title: str, edges: Sequence[float | None], groups: Sequence[Shares], *, note: str = "", percent: bool = False
) -> Markup:
    """Shares by bin, the groups side by side in each. `edges` are one more than bins; None reaches without end."""
    top = max(canvas.finite(v for group in groups for v in group.values), default=0.0) or 1.0
    ticks = canvas.nice_ticks(0.0, top, 4)
    bins = len(edges) - 1

    def label(edge: float | None) -> str:
        if edge is None:
            return ""
        return numbers.percent(edge, 0) if percent else f"{edge:.3g}".replace("-", numbers.MINUS)

    def picture(width: float, look: str) -> str:
        plot = Plot.of(width, 190, [numbers.percent(tick, 0) for tick in ticks])
        y = Scale(0, ticks[-1], plot.bottom, plot.top)
        step = (plot.right - plot.left) / bins
        bar = step * 0.8 / len(groups)
        body = canvas.y_axis(plot, y, ticks, label_of=lambda tick: numbers.percent(tick, 0))
        for g, group in enumerate(groups):
            for i, value in enumerate(group.values):
                left = plot.left + i * step + step * 0.1 + g * bar
                body += canvas.box((left, y(value)), (bar, plot.bottom - y(value)), group.look)
        label_step = max(1, -(-bins // max(2, int((plot.right - plot.left) / 52))))
        for i in range(0, bins + 1, label_step):
            body += canvas.text((plot.left + i * step, plot.bottom + 17), label(edges[i]), anchor="middle")
        return canvas.svg(plot, title, body, look=look)

    return canvas.figure(title, picture, note=note, legend=[(group.look, group.name) for group in groups])


def diverging_bars(title: str, rows: Sequence[tuple[str, float, str]], *, note: str = "", whole: bool = True) -> Markup:
    """Horizontal bars to both sides of 0: (name, value, label) each; `whole` where it fills the page's width."""
    reach = max((abs(value) for _, value, _ in rows), default=0.0) or 1.0
    line = 26.0

    def picture(width: float, look: str) -> str:
        names = min(230.0, width * 0.4)
        plot = Plot(width, line * len(rows) + 6, names, width - 8, 2, line * len(rows) + 4)
        middle, half = (plot.left + plot.right) / 2, (plot.right - plot.left) / 2 - 52
        body = canvas.rule((middle, plot.top), (middle, plot.bottom), "axis")
        for i, (name, value, label) in enumerate(rows):
            y, length = plot.top + i * line, half * abs(value) / reach
            end = middle + (length if value >= 0 else -length)
            body += canvas.text((plot.left - 8, y + 17), shortened(name, int(names / 6.9)), anchor="end", look="name")
            body += canvas.box((min(middle, end), y + 5), (length, line - 10), "buy" if value >= 0 else "sell")
            body += canvas.text(
                (end + (5 if value >= 0 else -5), y + 17), label, anchor="start" if value >= 0 else "end"
            )
        summary = "; ".join(f"{name} {label}" for name, _, label in rows)
        return canvas.svg(plot, f"{title}: {summary}", body, look=look)

    return canvas.figure(title, picture, note=note, width=canvas.WHOLE if whole else canvas.HALF)


def heat_map(
    title: str,
    names: Sequence[str],
    sessions: Sequence[date],
    *,
    levels: Sequence[Sequence[int | None]],
    legend: Sequence[str],
    note: str = "",
) -> Markup:
    """One row per name, one cell per session, coloured by its level: 0 for the first of `legend`."""
    line = 18.0

    def picture(width: float, look: str) -> str:
        room = min(190.0, width * 0.4)
        plot = Plot(width, line * len(names) + 26, room, width - 8, 0, line * len(names))
        step = (plot.right - plot.left) / max(len(sessions), 1)
        body = ""
        for row, (name, cells) in enumerate(zip(names, levels, strict=True)):
            y = row * line
            label = shortened(name, int(room / 6.9))
            body += canvas.text((plot.left - 6, y + 13), label, anchor="end", look="name")
            body += "".join(_stretches(cells, (plot.left, y), (step, line - 2)))
        body += canvas.session_axis(plot, sessions, lambda i: plot.left + (i + 0.5) * step)
        return canvas.svg(plot, f"{title}: {len(names)} columns over {len(sessions)} sessions", body, look=look)

    keys = [(f"level-{i}", name) for i, name in enumerate(legend)]
    return canvas.figure(title, picture, note=note, legend=keys, width=canvas.WHOLE)


def _stretches(cells: Sequence[int | None], corner: canvas.Point, cell: canvas.Point) -> list[str]:
    """A rectangle per stretch of equal cells; none where there is no value."""
    (left, y), (step, height) = corner, cell
    boxes, start = [], 0
    for i in range(1, len(cells) + 1):
        if i == len(cells) or cells[i] != cells[start]:
            if cells[start] is not None:
                size = ((i - start) * step, height)
                boxes.append(canvas.box((left + start * step, y), size, f"level-{cells[start]}"))
            start = i
    return boxes


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    name: str
    value: float
    low: float | None
    high: float | None
    look: str
    label: str


def intervals(title: str, rows: Sequence[Interval], *, note: str = "", unit: str = "") -> Markup:
    """A dot with its interval per row, beside a line at 0."""
    values = [0.0, *canvas.finite(v for row in rows for v in (row.value, row.low, row.high))]
    ticks = canvas.nice_ticks(min(values), max(values), 3)
    line = 28.0

    def picture(width: float, look: str) -> str:
        room = min(200.0, width * 0.38)
        plot = Plot(width, line * len(rows) + 26, room, width - 16, 0, line * len(rows))
        x = Scale(ticks[0], ticks[-1], plot.left, plot.right)
        body = "".join(
            canvas.rule((x(tick), 0), (x(tick), plot.bottom), "zero" if tick == 0 else "grid")
            + canvas.text((x(tick), plot.bottom + 17), f"{tick:g}".replace("-", numbers.MINUS), anchor="middle")
            for tick in ticks
        )
        for i, row in enumerate(rows):
            y = (i + 0.5) * line
            body += canvas.text((plot.left - 8, y + 4), shortened(row.name, int(room / 6.9)), anchor="end", look="name")
            if row.low is not None and row.high is not None:
                body += canvas.rule((x(row.low), y), (x(row.high), y), f"whisker {row.look}")
            dot = f'<circle class="dot {row.look}" cx="{px(x(row.value))}" cy="{px(y)}" r="4.5">'
            body += f"{dot}<title>{escape(one_line(row.label))}</title></circle>"
        return canvas.svg(plot, f"{title}, {unit}", body, look=look)

    return canvas.figure(title, picture, note=note)


def reliability_chart(
    title: str, classes: Sequence[tuple[str, str, Sequence[tuple[float, float, int]]]], *, note: str = ""
) -> Markup:
    """How often a class came true by its probability: (name, look, points), a point (probability, frequency, rows)."""
    points = [point for _, _, points_of_class in classes for point in points_of_class]
    ticks = canvas.nice_ticks(0.0, max([p for point in points for p in point[:2]], default=1.0), 4)
    largest_count = max((rows for _, _, rows in points), default=1) or 1

    def picture(width: float, look: str) -> str:
        plot = Plot.of(width, 386, [numbers.percent(tick, 0) for tick in ticks])
        x = Scale(ticks[0], ticks[-1], plot.left + 6, plot.right - 12)
        y = Scale(ticks[0], ticks[-1], plot.bottom, plot.top)
        body = canvas.y_axis(plot, y, ticks, label_of=lambda tick: numbers.percent(tick, 0))
        for tick in ticks:
            body += canvas.text((x(tick), plot.bottom + 17), numbers.percent(tick, 0), anchor="middle")
        body += canvas.rule((x(ticks[0]), y(ticks[0])), (x(ticks[-1]), y(ticks[-1])), "ideal")
        for name, colour, points_of_class in classes:
            path = " ".join(f"{px(x(p))},{px(y(f))}" for p, f, _ in points_of_class)
            body += f'<polyline class="line {colour}" points="{path}"/>'
            for p, f, rows in points_of_class:
                label = f"{name}: said {numbers.percent(p)}, came true {numbers.percent(f)}, {numbers.count(rows)} rows"
                radius = px(2.5 + 3.5 * (rows / largest_count) ** 0.5)
                body += f'<circle class="dot {colour}" cx="{px(x(p))}" cy="{px(y(f))}" r="{radius}">'
                body += f"<title>{escape(label)}</title></circle>"
        return canvas.svg(plot, title, body, look=look)

    return canvas.figure(title, picture, note=note, legend=[(look, name) for name, look, _ in classes])
