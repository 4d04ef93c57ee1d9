"""The look of all pictures: colours, shapes, legends, and the PNG that they become.

Every picture is a Figure of its own: no pyplot, no global state, nothing to close. Colours are Okabe & Ito's, which
colour-blind readers can distinguish; sell, hold and buy also differ in shape.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colour and shape of each class.
COLOURS = {-1: "#d55e00", 0: "#7f7f7f", 1: "#0072b2"}
MARKERS = {-1: "v", 0: "o", 1: "^"}
INK, FAINT = "#222222", "#d9d9d9"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Inches, and pixels an inch.
WIDTH, _DPI = 9.0, 100
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    # a name that holds dollars is no formula
    "text.parse_math": False,
}


def picture(draw: Callable[["Figure"], None], height: float) -> bytes:
    """A PNG of 900 pixels by `height` × 100, with what `draw` draws on its figure."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        if layout := figure.get_layout_engine():  # now, or saving draws all of it once more to find its layout
            layout.execute(figure)
            figure.set_layout_engine(None)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def legend_below(figure: "Figure", column_limit: int = 7, side: Literal["left", "center"] = "center") -> None:
    """One legend of all axes below them, of at most `column_limit` columns.

    A phone shows the left of a picture first: a legend on that side is in view.
    """
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        place: Any = f"outside lower {side}"
        figure.legend(handles.values(), handles.keys(), loc=place, ncols=min(len(handles), column_limit))


def groups(frame: pl.DataFrame, key: str) -> list[tuple[Any, pl.DataFrame]]:
    """(value, its rows) of each value of `key`, ascending."""
    return [(rows[key][0], rows) for rows in frame.sort(key, maintain_order=True).partition_by(key)]


def colours(names: pl.Series) -> dict[Any, str]:
    """One colour per name, the same in every picture that shows the same names."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(names.unique().sort())}


def dates(axes: Any) -> None:
    """A few dates below `axes`, shortened where they repeat."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
