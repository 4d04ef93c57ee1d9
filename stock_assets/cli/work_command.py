"""The options of `stock-assets work`; what it does stands in `cli/work.py`."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer


def work_command(
    slots: Annotated[
        int | None, typer.Option(min=1, max=256, help="units that are done side by side; one per core when unset")
    ] = None,
) -> None:
    """Trains model years and does tuning trials for the steps of a team's data host, until Ctrl-C: docs/team.md."""
    from stock_assets.cli.commands import configured, out
    from stock_assets.cli.work import work

    work(
        configured(),
        slots,
        now=datetime.now(UTC),
        say=partial(out.print, highlight=False, markup=False, soft_wrap=True),
    )
