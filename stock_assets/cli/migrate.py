"""`stock-assets migrate`: one machine's platform to a team's database and bucket, and back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console

from stock_assets.address_settings import LAKE, POSTGRES, dagster_address, lake_catalog
from stock_assets.cli.home import holder_of, lock_file, lock_home
from stock_assets.errors import MoveError, SettingsError
from stock_assets.lakes import Lake
from stock_assets.objects import ObjectPath, Place, place_of
from stock_assets.settings import Settings
from stock_assets.storage.backup import PUBLISHED, STORE
from stock_assets.storage.object_move import move_objects
from stock_assets.storage.warehouse import Warehouse

#: A target of the command line: the address of a database, a lake, a bucket, or the data folder of a single machine.
Target = str | Lake | ObjectPath | Path


def migrate(settings: Settings, targets: Sequence[str], *, dry_run: bool, now: datetime, out: Console) -> None:
    """Moves Dagster's memory, saved models, the publication and the tables to `targets`, and says what was moved.

    The settings are not changed, and neither is what they name: the command prints which settings name the new places.

    Raises SettingsError for a target that is none and for the database of another platform; MoveError for a target that
    holds something else, and where something is under way; StockAssetsError where a server works on the platform.
    """
    plan = [_target_of(settings, target) for target in targets]
    with _nothing_works(settings):
        for target in plan:
            if isinstance(target, str):
                _to_database(settings, target, dry_run=dry_run, now=now, out=out)
            elif isinstance(target, Lake):
                _tables_to(settings, Warehouse(settings.database, lake=target), dry_run=dry_run, out=out)
                _say(out, "set STOCK_ASSETS_STORE to its address to use them there; the file stays as it was")
            elif isinstance(target, ObjectPath):
                _objects_to(settings, target, target / PUBLISHED, dry_run=dry_run, out=out)
                _say(out, f"set STOCK_ASSETS_ARTIFACTS={target} to use them there")
            else:
                _to_folder(settings, target, dry_run=dry_run, now=now, out=out)
    if dry_run:
        _say(out, "nothing was written: this was a dry run")


def _target_of(settings: Settings, address: str) -> Target:
    """What a target on the command line is. Raises SettingsError for one that is none, or where there is nothing to
    move to it."""
    if address.startswith(LAKE):
        if settings.lake is not None:
            raise SettingsError("the tables are in a lake already; expected the settings of before the move")
        return settings.lake_at(_checked_address(address, lake_catalog))
    if address.startswith(("postgres", POSTGRES)):
        database = _checked_address(address, dagster_address)
        if settings.dagster_postgres is not None:
            raise SettingsError(
                "Dagster's storage is a database already; expected the settings of before the move: unset "
                "STOCK_ASSETS_DAGSTER for this command. From one database to another go pg_dump and pg_restore"
            )
        return database
    place = place_of(address)
    if isinstance(place, ObjectPath):
        if settings.artifacts == place:
            raise SettingsError(f"the setting artifacts is {place} already; expected the settings of before the move")
        return place
    if settings.dagster_postgres is None and settings.lake is None and settings.artifacts == place / "artifacts":
        raise SettingsError(
            f"nothing is to be moved to {place}: Dagster's storage, artifacts and tables are there; expected "
            f"{POSTGRES}user@host/database, s3://bucket/prefix or gs://bucket/prefix"
        )
    _require_own_folder(settings, place)
    return place


def _checked_address(address: str, check: Callable[[str], str]) -> str:
    try:
        return check(address)
    except ValueError as error:
        raise SettingsError(f"--to: {error}; expected {POSTGRES}user@host/database") from None


def _require_own_folder(settings: Settings, folder: Path) -> None:
    """Raises MoveError for the data folder of another platform."""
    from stock_assets.storage.platform_row import IDENTITY

    if folder.resolve() == settings.data_dir.resolve():
        return
    for name in (STORE, IDENTITY):
        if (folder / name).exists():
            raise MoveError(
                f"{folder} is the data folder of another platform: it has {name}; expected {settings.data_dir}, or a "
                "folder without one"
            )


@contextmanager
def _nothing_works(settings: Settings) -> Iterator[None]:
    """No server and no daemon works on the platform, and none begins to. Raises StockAssetsError where one does."""
    with ExitStack() as locks:
        home = settings.dagster_home
        if home.exists():
            locks.enter_context(lock_home(home))
            locks.enter_context(
                lock_file(home / "daemon.lock", lambda owner: f"a dagster-daemon works on {home} (process {owner})")
            )
        if settings.dagster_postgres:
            _hold(locks, settings.dagster_postgres)
        yield


def _hold(locks: ExitStack, address: str) -> None:
    """Holds the lock of the daemon of a database, which answers."""
    from stock_assets.cli.daemon_lock import lock_database

    locks.enter_context(closing(lock_database(address)))


def _to_database(settings: Settings, address: str, *, dry_run: bool, now: datetime, out: Console) -> None:
    from stock_assets.storage.dagster_move import to_database
    from stock_assets.storage.platform_row import Platform, require_no_other_platform, require_platform, shown

    home, platform = settings.dagster_home, Platform(settings.data_dir, settings.database)
    require_no_other_platform(address, platform, now=now)
    with ExitStack() as locks:
        _hold(locks, address)
        if not dry_run:
            require_platform(address, platform, now=now)
        migration = to_database(home, address, dry_run=dry_run)
    if migration.was_there:
        _say(out, f"{migration.text} are in {shown(address)} already, as in {home}")
    else:
        _say(out, f"{migration.text} {'would go' if dry_run else 'went'} from {home} to {shown(address)}")
    _say(out, "set STOCK_ASSETS_DAGSTER to its address to use them there; the folder stays as it was")


def _to_folder(settings: Settings, folder: Path, *, dry_run: bool, now: datetime, out: Console) -> None:
    if (address := settings.dagster_postgres) is not None:
        from stock_assets.storage.dagster_move import to_folder
        from stock_assets.storage.platform_row import Platform, require_no_other_platform, shown

        home = folder / "dagster"
        require_no_other_platform(address, Platform(settings.data_dir, settings.database), now=now)
        if home != settings.dagster_home and (owner := holder_of(home / "owner.lock")):
            raise MoveError(f"another stock-assets run works on {folder} (process {owner}); stop it")
        migration = to_folder(address, home, dry_run=dry_run)
        if migration.was_there:
            _say(out, f"{migration.text} are in {home} already, as in {shown(address)}")
        else:
            _say(out, f"{migration.text} {'would go' if dry_run else 'went'} from {shown(address)} to {home}")
        _say(out, f"unset STOCK_ASSETS_DAGSTER, or set it to {home}, to use them there; the database stays as it was")
    if settings.lake is not None:
        _tables_to(settings, Warehouse(folder / STORE), dry_run=dry_run, out=out)
        _say(out, "unset STOCK_ASSETS_STORE to use them in the data folder; the lake stays as it was")
    if settings.artifacts != folder / "artifacts":
        _objects_to(settings, folder / "artifacts", folder / PUBLISHED, dry_run=dry_run, out=out)
        _say(out, "unset STOCK_ASSETS_ARTIFACTS to use them in the data folder")


def _tables_to(settings: Settings, target: Warehouse, *, dry_run: bool, out: Console) -> None:
    source = Warehouse.of(settings)
    if not dry_run:
        from stock_assets.storage.store_copy import copy_store

        copy_store(source, target)
    rows = source.row_counts()
    verb = "would go to" if dry_run else "are the same in"
    _say(out, f"{sum(rows.values()):,} rows of {len(rows)} tables of {source.place.name} {verb} {target.place.name}")


def _objects_to(
    settings: Settings, artifacts: Place, publication_folder: Place, *, dry_run: bool, out: Console
) -> None:
    """Models and reports first, and what is published after them."""
    for source, target in ((settings.artifacts, artifacts), (settings.published, publication_folder)):
        migration = move_objects(source, target, dry_run=dry_run)
        were_there = (
            f", {migration.number - migration.new:,} of them before" if migration.new < migration.number else ""
        )
        verb = "would be" if dry_run else "are"
        _say(
            out,
            f"{migration.number:,} files of {source} ({migration.bytes / 1e6:.1f} MB) {verb} in {target}{were_there}",
        )


def _say(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
