"""The addresses of an installation, which `settings.Settings` inherits: Dagster's storage and the store of the tables.

A profile (single, team, cloud) is these addresses and a dagster.yaml: docs/team.md.
"""

import re

from pydantic import BaseModel, Field, field_validator

from stock_assets.addresses import redacted

#: psycopg2 by name: SQLAlchemy 2.1 takes another driver for `postgresql://`, which dagster-postgres does not install.
POSTGRES = "postgresql+psycopg2://"
#: What the address of a DuckLake begins with.
LAKE = "ducklake:"
#: Settings that may hold the password of a server in an address.
ADDRESSES = ("dagster", "store")


class AddressSettings(BaseModel):
    """Where Dagster's storage and the tables are."""

    dagster: str | None = Field(
        default=None,
        repr=False,
        description=f"a folder, or {POSTGRES}user@host/database: where Dagster keeps runs, events and schedules; the "
        "folder dagster in the data folder when unset",
    )
    store: str | None = Field(
        default=None,
        repr=False,
        description=f"the DuckDB file of the tables, or {LAKE}{POSTGRES}user@host/database: a DuckLake; "
        "stock_assets.duckdb in the data folder when unset",
    )
    lake_files: str | None = Field(
        default=None,
        description="a folder or s3://bucket/prefix: where the Parquet files of a DuckLake are; the folder lake in the "
        "data folder when unset",
    )

    @field_validator("dagster")
    @classmethod
    def _is_of_dagster(cls, value: str | None) -> str | None:
        return value if value is None else dagster_address(value)

    @field_validator("store", mode="before")
    @classmethod
    def _is_a_store(cls, value: object) -> object:
        if value is None:
            return None
        text = str(value)
        if text.startswith(LAKE):
            return LAKE + lake_catalog(text)
        if re.match(r"[A-Za-z][\w+.-]*://", text):
            raise ValueError(f"the address {redacted(text)} is no file")
        if "?" in text or not text.endswith(".duckdb"):
            raise ValueError("not a path that ends in .duckdb")
        return text

    @field_validator("lake_files")
    @classmethod
    def _holds_files(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not re.fullmatch(r"s3://[a-z0-9][\w.-]+(/[^?#@'\"]*)?", value):
            raise ValueError("neither a folder nor s3://bucket/prefix")
        return value

    @property
    def dagster_postgres(self) -> str | None:
        """The address of Dagster's database, with its password; None where Dagster's storage is a folder."""
        return self.dagster if self.dagster is not None and self.dagster.startswith(POSTGRES) else None


def lake_catalog(address: str) -> str:
    """The address of Postgres in that of a DuckLake. Raises ValueError, without a password, for anything else.

    >>> lake_catalog("ducklake:postgresql+psycopg2://me@host/lake")
    'postgresql+psycopg2://me@host/lake'
    """
    catalog = address.removeprefix(LAKE)
    if not catalog.startswith(POSTGRES):
        raise ValueError(f"the catalog of a DuckLake is no {POSTGRES}")
    return dagster_address(catalog)


def dagster_address(value: str) -> str:
    """`value`, a folder or an address of Postgres with its driver. Raises ValueError, without a password, for anything
    else.

    >>> dagster_address("/srv/dagster")
    '/srv/dagster'
    >>> dagster_address("postgresql://me:secret@host/dagster")
    Traceback (most recent call last):
    ValueError: the scheme postgresql:// takes a driver that dagster-postgres does not install (dagster#33958)
    """
    scheme, separator, remainder = value.partition("://")
    if not separator:
        return value
    if f"{scheme}://" == POSTGRES:
        if not re.fullmatch(r"[^/]*/[^/?#]+(\?.*)?", remainder):
            raise ValueError("an address of Postgres without a database")
        return value
    if scheme.split("+")[0] in ("postgres", "postgresql"):
        raise ValueError(
            f"the scheme {scheme}:// takes a driver that dagster-postgres does not install (dagster#33958)"
        )
    raise ValueError(f"the scheme {scheme}:// is neither a folder nor Postgres")
