"""deploy/postgres/roles.sql on a real server: what each role may, and what none may."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from stock_assets_tests.deploy.tools import DEPLOY, tool
from stock_assets_tests.team.postgres import Server, running_server

PASSWORDS = {"DAGSTER_PASSWORD": "d'a g\"s$", "MLFLOW_PASSWORD": "of mlflow", "BACKUP_PASSWORD": "of backups"}


def script(server: Server, **passwords: str) -> subprocess.CompletedProcess[str]:
    address = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": "secret"}
    return subprocess.run(
        [tool("psql"), "--no-psqlrc", "--quiet", "--file", str(DEPLOY / "postgres" / "roles.sql")],
        env={"PATH": os.environ["PATH"], **address, **passwords},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def server(postgres: Server) -> Iterator[Server]:
    """A server of its own: the script changes the database `postgres`, which others' tests connect to."""
    del postgres  # skips where there is none
    with running_server() as own:
        for _ in range(2):  # as often as you like
            ran = script(own, **PASSWORDS)
            assert ran.returncode == 0, ran.stderr
            assert not ran.stderr
        yield own


def run(server: Server, role: str, database: str, statement: str) -> list[tuple]:
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=server.port,
        user=f"stock_assets_{role}",
        password=PASSWORDS[f"{role.upper()}_PASSWORD"],
        dbname=database,
    )
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.mark.parametrize("missing", PASSWORDS)
def test_a_missing_password_is_named_and_makes_nothing(postgres: Server, missing: str):
    ran = script(postgres, **{name: value for name, value in PASSWORDS.items() if name != missing})
    assert ran.returncode != 0
    assert f"{missing} is not set" in ran.stderr
    assert postgres.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'stock_assets%'") == []


@pytest.mark.parametrize(
    ("role", "database", "allowed"),
    [
        ("dagster", "dagster", True),
        ("mlflow", "mlflow", True),
        ("backup", "dagster", True),
        ("backup", "mlflow", True),
        ("dagster", "mlflow", False),
        ("mlflow", "dagster", False),
        ("dagster", "postgres", False),
        ("mlflow", "postgres", False),
        ("backup", "postgres", False),
    ],
)
def test_each_role_enters_its_own_databases_alone(server: Server, role: str, database: str, allowed: bool):
    if allowed:
        assert run(server, role, database, "SELECT current_user") == [(f"stock_assets_{role}",)]
        return
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        run(server, role, database, "SELECT 1")


@pytest.mark.parametrize("role", ["dagster", "mlflow"])
def test_an_owner_makes_tables_and_the_backup_reads_and_never_writes(server: Server, role: str):
    run(server, role, role, "CREATE TABLE rows (value int); INSERT INTO rows VALUES (7)")
    assert run(server, "backup", role, "SELECT value FROM rows") == [(7,)]
    for statement in (
        "INSERT INTO rows VALUES (8)",
        "DELETE FROM rows",
        "CREATE TABLE other (value int)",
        "DROP TABLE rows",
    ):
        with pytest.raises((psycopg2.errors.ReadOnlySqlTransaction, psycopg2.errors.InsufficientPrivilege)):
            run(server, "backup", role, statement)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run(server, "backup", role, f"BEGIN READ WRITE; {statement}")
    assert run(server, role, role, "SELECT value FROM rows") == [(7,)]


@pytest.mark.parametrize("role", ["dagster", "mlflow", "backup"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE another",
        "CREATE DATABASE another",
        "ALTER ROLE postgres PASSWORD 'mine'",
        "SET ROLE postgres",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_no_role_has_power_over_the_server(server: Server, role: str, statement: str):
    database = "dagster" if role == "backup" else role
    with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ReadOnlySqlTransaction)):
        run(server, role, database, statement)


def test_a_dump_by_the_backup_role_holds_both_databases(server: Server, tmp_path: Path):
    for name in ("dagster", "mlflow"):
        run(server, name, name, f"CREATE TABLE kept (value text); INSERT INTO kept VALUES ('of {name}')")
    (tmp_path / "BACKUP_PASSWORD").write_text(PASSWORDS["BACKUP_PASSWORD"])
    # in the place of `docker compose exec -T postgres`: the same words, on this machine
    compose = tmp_path / "compose"
    compose.write_text(
        '#!/bin/sh\n[ "$1 $2 $3" = "exec -T postgres" ] || exit 9\nshift 5\n'
        f'words=$(printf %s "$1" | sed "s#/run/secrets#{tmp_path}#")\nshift\nexec sh -c "$words" "$@"\n'
    )
    compose.chmod(0o755)
    folder = tmp_path / "dumps"
    environment = {"PATH": os.environ["PATH"], "PGPORT": str(server.port), "COMPOSE": str(compose)}
    command = [str(DEPLOY / "compose" / "dump"), str(folder)]
    dumped = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert dumped.returncode == 0, dumped.stderr
    dumps = {path.name.partition("-")[0]: path for path in folder.iterdir()}
    assert set(dumps) == {"dagster", "mlflow"}
    assert {path.stat().st_mode & 0o777 for path in dumps.values()} == {0o600}
    for name, path in dumps.items():
        server.execute(f"CREATE DATABASE restored_{name}")
        address = ["--host", "127.0.0.1", "--port", str(server.port), "--username", "postgres"]
        restore = [tool("pg_restore"), *address, "--no-owner", "--dbname", f"restored_{name}", str(path)]
        subprocess.run(restore, env={**environment, "PGPASSWORD": "secret"}, capture_output=True, check=True)
        assert server.execute("SELECT value FROM kept", f"restored_{name}") == [(f"of {name}",)]

    (tmp_path / "BACKUP_PASSWORD").write_text("another")
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert not [path for path in folder.iterdir() if path.suffix == ".dump" and path not in dumps.values()]
