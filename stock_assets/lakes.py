"""The address of a DuckLake: the Postgres database of its catalog, and the folder or bucket of its Parquet files."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Lake:
    """The address of a lake."""

    catalog: str = field(repr=False)
    """postgresql+psycopg2://user:password@host/database"""
    files: str
    """a folder, or s3://bucket/prefix"""

    def __str__(self) -> str:
        return f"the {self.name}"

    @property
    def name(self) -> str:
        """Without user and password, as a file has a name."""
        from sqlalchemy import make_url

        url = make_url(self.catalog)
        return f"lake {url.database} on {url.host or 'this machine'}"

    def words(self) -> dict[str, Any]:
        """What libpq connects by."""
        from sqlalchemy import make_url

        url = make_url(self.catalog)
        url_words = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        all_words = {**url_words, "dbname": url.database, "connect_timeout": 10, **url.query}
        return {name: str(value) for name, value in all_words.items() if value is not None}
