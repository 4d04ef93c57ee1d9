"""The open alerts as the lifecycle keeps them beside the publication."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stock_assets.errors import PublicationError
from stock_assets.objects import Place
from stock_assets.pages.status import Trouble
from stock_assets.publication.layout import ALERTS, Facts, digest_of, parse_json


@dataclass(frozen=True)
class OpenAlerts:
    """The alerts of `live/alerts.json`: {"alerts": [{key, title, text, run_id, first_at, last_at, count}, …]}."""

    rows: tuple[dict[str, Any], ...] = ()
    digest: str = ""
    """of the file, which changes with it"""


def read_alerts(folder: Place, *, trouble: str | None = None) -> OpenAlerts:
    """The open alerts beside the publication in `folder`, and `trouble`, why what is published is not served.

    A damaged file is an alert of its own: the page says so rather than that all is well.
    """
    own = () if trouble is None else ({"title": "the newest publication is not served as it is", "text": trouble},)
    path = folder / ALERTS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return OpenAlerts(own, trouble or "")
    except OSError as error:
        return OpenAlerts((*own, _damage(f"{ALERTS} cannot be read: {error.strerror}")), str(error.errno))
    try:
        rows = parse_json(Path(ALERTS), content)["alerts"]
        alerts = tuple({**row, "title": str(row["title"])} for row in rows if row.get("resolved_at") is None)
    except (PublicationError, KeyError, TypeError, AttributeError) as error:
        alerts = (_damage(f"{ALERTS} is damaged: {error}"),)
    return OpenAlerts((*own, *alerts), digest_of(content + (trouble or "").encode()))


def troubles(alerts: OpenAlerts, facts: Facts | None) -> tuple[Trouble, ...]:
    """The alerts as a page shows them, the newest first."""
    rows = [
        Trouble(
            row["title"],
            str(row.get("text") or ""),
            _moment(row.get("first_at")),
            _moment(row.get("last_at")),
            run_address(facts, row.get("run_id")),
            int(row.get("count") or 1),
        )
        for row in alerts.rows
    ]
    return tuple(sorted(rows, key=lambda row: row.last_at or datetime.min.replace(tzinfo=UTC), reverse=True))


def run_address(facts: Facts | None, run_id: str | None) -> str | None:
    """The page of a run in Dagster; None where its address is not known."""
    return f"{facts.dagster_url.rstrip('/')}/runs/{run_id}" if facts and facts.dagster_url and run_id else None


def _damage(text: str) -> dict[str, Any]:
    return {"title": "the open alerts cannot be read", "text": text}


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
