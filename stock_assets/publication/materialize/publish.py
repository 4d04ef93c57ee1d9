"""The step `publication`: files first, then the ledger and the pointer, and last the rows of the store."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl

from stock_assets.features.materialize import absent_of
from stock_assets.lifecycle.evening import due_at
from stock_assets.lifecycle.freshness import GRACE
from stock_assets.lifecycle.materialize.alerts import write_open_alerts
from stock_assets.lifecycle.materialize.evening import CONTENT
from stock_assets.market.calendar import calendar_of, currency_of
from stock_assets.model.registry import IN_SERVICE
from stock_assets.objects import Place
from stock_assets.publication.layout import Facts, Pointer, Upcoming, path_of
from stock_assets.publication.ledger import Newest, entries_of, read_newest
from stock_assets.publication.materialize.cards import put_cards
from stock_assets.publication.materialize.monitoring import read_monitoring
from stock_assets.publication.materialize.sessions import awaited, put_outcomes, put_sessions
from stock_assets.publication.monitoring import fitted
from stock_assets.publication.write import NewFiles, publish
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

#: Sessions ahead that a publication names.
UPCOMING = 10
_CONTENT = f"SELECT session, {CONTENT} AS content FROM model.predictions WHERE session BETWEEN ? AND ? GROUP BY session"
_VERSIONS = "SELECT DISTINCT model_version FROM model.predictions WHERE session IN (SELECT unnest(?))"


@dataclass(frozen=True)
class DagsterView:
    """What Dagster alone knows."""

    failures: pl.DataFrame
    """`tables.MONITORING["failures"]`"""
    checks: pl.DataFrame
    """`tables.MONITORING["checks"]`"""
    url: str | None = None
    """of its web server; None outside one"""

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        return {"failures": fitted("failures", self.failures), "checks": fitted("checks", self.checks)}


@dataclass(frozen=True)
class Published:
    """What a publication published."""

    pointer: Pointer
    rows: pl.DataFrame
    """of the table publication, of the sessions that were asked for"""
    folder: Place


def publish_sessions(
    store: Warehouse,
    settings: Settings,
    sessions: Sequence[date],
    *,
    registry: Registry,
    now: datetime,
    dagster: DagsterView | None = None,
    reason: str | None = None,
) -> Published:
    """Publishes the predictions of `sessions`, ascending, with their bars, the outcomes that are known by now, the
    cards of their versions, and the monitoring tables as of the newest predicted session: one entry of the ledger.

    What is published already is not written again; where nothing at all differs, nothing is. What Dagster alone knows
    stays as it is published where `dagster` is None. `reason` says why, in one sentence; it follows from what changed
    when None.

    Raises MissingSessionsError where a session is not predicted, PublicationError for what has no place in a
    publication, RegistryError where the model registry does not answer. The store's rows are written last: where they
    cannot be, the next run of the same sessions writes them.
    """
    store.require(["predictions"], sessions, "publication")
    folder = settings.published
    before = read_newest(folder)
    new = NewFiles(folder)
    counts = put_sessions(store, settings, sessions, into=new)
    published_sessions = {*map(date.fromisoformat, before.files["predictions"] if before else ()), *sessions}
    put_outcomes(store, settings, awaited(settings, published_sessions, sessions), into=new)
    last = store.last_session("predictions") or sessions[-1]
    monitoring = read_monitoring(store, settings, registry, last=last)
    for name, rows in (monitoring.tables | (dagster.tables if dagster else {})).items():
        new.put("monitoring", name, rows)
    cards = before.files["cards"] if before else {}
    versions = set(store.read_sql("predictions", _VERSIONS, [list(sessions)])["model_version"])
    versions |= {
        version for version, digest in cards.items() if not (folder / path_of("cards", version, digest)).is_file()
    }
    put_cards(store, settings, registry, versions=versions, monitoring=monitoring, into=new)
    write_open_alerts(store, folder, now=now)
    pointer = publish(
        folder,
        new,
        replace(
            facts_of(settings, published_sessions, _dagster_url(dagster, before)),
            absent=tuple(str(table) for table in absent_of(store, settings)),
        ),
        champions=monitoring.champions,
        reason=reason or _reason(before, new, sessions),
        code_version=read_code_version(PROJECT_DIR),
        now=now,
    )
    rows = _rows(store, folder, pointer, counts=counts)
    store.replace_sessions("publication", sessions, rows)
    return Published(pointer, rows, folder)


def facts_of(settings: Settings, published_sessions: Collection[date], dagster_url: str | None) -> Facts:
    """What the predictions of the sessions `published_sessions`, of which there is one, are about."""
    calendar, rule = calendar_of(settings), settings.label_rule
    first, last = min(published_sessions), max(published_sessions)
    coming = [session for n in range(1, UPCOMING + 1) if (session := calendar.shift(last, n))]
    return Facts(
        source=settings.source,
        exchange=settings.exchange,
        zone=calendar.local_zone,
        currency=currency_of(settings),
        first_session=calendar.sessions[0],
        horizon=rule.horizon,
        buy_threshold=rule.buy_threshold,
        sell_threshold=rule.sell_threshold,
        in_service=IN_SERVICE,
        upcoming=tuple(
            Upcoming(session, calendar.closes[session], due_at(calendar, session, settings.after_close))
            for session in coming
        ),
        grace_seconds=GRACE.total_seconds(),
        dagster_url=dagster_url,
        mlflow_url=settings.mlflow_uri if (settings.mlflow_uri or "").startswith("http") else None,
        unpublished=tuple(session for session in calendar.between(first, last) if session not in published_sessions),
    )


def _dagster_url(dagster: DagsterView | None, before: Newest | None) -> str | None:
    """The address of Dagster's web server, which a process outside it does not know."""
    earlier_url = before.facts.dagster_url if before and before.facts else None
    return (dagster and dagster.url) or earlier_url


def _reason(before: Newest | None, new: NewFiles, sessions: Sequence[date]) -> str:
    """What is new in a publication, in one sentence."""
    earlier = before.files["predictions"] if before else {}
    new_sessions = [session for session in sessions if str(session) not in earlier]
    sessions_again = [
        session
        for session in sessions
        if str(session) in earlier and earlier[str(session)] != new.digests["predictions"][str(session)]
    ]
    parts = [f"{_span(new_sessions)} predicted"] if new_sessions else []
    parts += [f"{_span(sessions_again)} predicted again"] if sessions_again else []
    return " and ".join(parts) or f"what is known of {_span(sessions)} changed, not its predictions"


def _span(sessions: Sequence[date]) -> str:
    first, last = sessions[0], sessions[-1]
    return str(first) if first == last else f"{first} to {last} ({len(sessions)} sessions)"


def _rows(store: Warehouse, folder: Place, pointer: Pointer, *, counts: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table publication for the sessions of `counts`."""
    sessions = counts["session"].to_list()
    entries = entries_of(folder, pointer.entry, [str(session) for session in sessions])
    content = store.read_sql("predictions", _CONTENT, [sessions[0], sessions[-1]])
    rows = [
        (
            session,
            entries[str(session)].id,
            pointer.files["predictions"][str(session)],
            count,
            entries[str(session)].published_at,
        )
        for session, count in counts.iter_rows()
    ]
    schema = {"session": pl.Date, "entry": pl.String, "digest": pl.String, "rows": pl.Int64}
    frame = pl.DataFrame(rows, schema | {"published_at": pl.Datetime("us", "UTC")}, orient="row")
    return frame.join(content, on="session", how="left")
