"""`stock-assets status`, for a person, for cron and for a monitor outside."""

import json
from datetime import datetime

from rich.console import Console

from stock_assets.cli.api import answers, expected_api
from stock_assets.cli.home import owner_of
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.materialize.status import ApiState, status_of
from stock_assets.settings import Settings


def show_status(settings: Settings, out: Console, *, as_json: bool, now: datetime) -> int:
    """Shows how things stand at `now`; the exit code.

    Raises StockAssetsError, which exits with 2, for whatever keeps it from looking.
    """
    try:
        url = expected_api(settings.dagster_home)
        api = ApiState(url, answers(url)) if url else None
        status = status_of(settings, now=now, server=owner_of(settings.dagster_home), api=api)
    except StockAssetsError:
        raise
    except Exception as error:  # a traceback exits with 1, which would say that it had looked
        raise StockAssetsError(f"how things stand cannot be told: {type(error).__name__}: {error}") from error
    lines = [json.dumps(status.facts(), indent=1)] if as_json else status.lines()
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    return status.code
