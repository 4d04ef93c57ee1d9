"""Tables and sentences for a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stock_assets.errors import MissingTableError
from stock_assets.escape import one_line, terminal
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    import polars as pl


def frame_table(frame: "pl.DataFrame") -> Table:
    """`frame` as a table; what is null stays empty."""
    table = Table(*(Column(cell(name)) for name in frame.columns))
    for row in frame.iter_rows():
        table.add_row(*("" if value is None else cell(value) for value in row))
    return table


def cell(value: object) -> Text:
    """A value on one line; what a vendor has put into it neither colours the terminal nor ends the row."""
    return Text(one_line(value))


def summarise(settings: Settings, seconds: float, out: Console) -> None:
    """Shows the rows per table, the seconds, and the score next to that of the best naive baseline."""
    warehouse = Warehouse.of(settings)
    table = Table("table", "rows", title=f"{seconds:.0f} s")
    for name, rows in warehouse.row_counts().items():
        table.add_row(cell(name), f"{rows:,}")
    out.print(table)
    try:
        scores = warehouse.read("evaluation_report")
    except MissingTableError:
        return
    out.print(terminal(score_line(scores)), highlight=False, soft_wrap=True)


def score_line(scores: "pl.DataFrame") -> str:
    """The best model's mean of yearly log-losses, with its interval, next to that of the best naive baseline."""
    from stock_assets.evaluation.metrics import best_naive
    from stock_assets.model.registry import naive_baselines

    means = scores.filter(scores["year"].is_null())
    best = means.filter(~means["model"].is_in(naive_baselines())).sort("log_loss").row(0, named=True)
    naive = best_naive(means, naive_baselines())
    assert naive is not None  # the report refuses predictions without one
    return (
        f"walk-forward, mean of yearly scores: {best['model']} log-loss {best['log_loss']:.4f} "
        f"[{best['log_loss_low']:.4f}, {best['log_loss_high']:.4f}], accuracy {best['accuracy']:.3f}; best naive "
        f"baseline {naive['model']} log-loss {naive['log_loss']:.4f}, accuracy {naive['accuracy']:.3f}"
    )
