"""The options of `stock-assets migrate`; what it does stands in `cli/migrate.py`, which brings Dagster along."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def migrate_command(
    to: Annotated[
        list[str],
        typer.Option(metavar="TARGET", help="a Postgres address, s3:// or gs:// bucket, or a data folder; repeatable"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="compare and count, and write nothing")] = False,
) -> None:
    """Moves Dagster's runs and events, models and the publication to a database and a bucket, or back."""
    from stock_assets.cli.commands import configured, out
    from stock_assets.cli.migrate import migrate

    migrate(configured(), to, dry_run=dry_run, now=datetime.now(UTC), out=out)
