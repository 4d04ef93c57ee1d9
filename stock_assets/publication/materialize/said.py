"""What was said each evening: the predictions that were published of a session before the next one opened."""

from collections.abc import Mapping
from datetime import date, datetime
from io import BytesIO

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.objects import Place
from stock_assets.publication.layout import Entry
from stock_assets.publication.read import chain_to, open_publication, read_ledger
from stock_assets.publication.tables import PREDICTIONS_FILE


def said_each_evening(
    folder: Place, calendar: TradingCalendar, *, first: date | None = None, last: date | None = None
) -> tuple[pl.DataFrame, dict[date, datetime]]:
    """(the predictions of each session from `first` to `last`, as they stood when the next session opened; when each
    was published, by session).

    `PREDICTIONS_FILE` with session, predicted rows alone. A session that was published later, such as by a backfill, is
    left out: nobody could act on it.
    """
    empty = PREDICTIONS_FILE.empty().with_columns(session=pl.lit(None, pl.Date))
    publication = open_publication(folder)
    if publication is None:
        return empty, {}
    newest = _published_in_time(chain_to(read_ledger(folder), publication.pointer.entry), calendar)
    parts, moments = [empty], {}
    for session, (digest, moment) in sorted(newest.items()):
        if (first is None or first <= session) and (last is None or session <= last):
            content = publication.content("predictions", str(session), digest)
            rows = pl.read_parquet(BytesIO(content)).with_columns(session=pl.lit(session))
            parts.append(rows.filter(pl.col("status") == "predicted"))
            moments[session] = moment
    return pl.concat(parts), moments


def _published_in_time(chain: list[Entry], calendar: TradingCalendar) -> Mapping[date, tuple[str, datetime]]:
    """(digest, moment) of the newest file of each session that was published before the next session opened."""
    newest: dict[date, tuple[str, datetime]] = {}
    for entry in chain:
        for key, digest in entry.files["predictions"].items():
            session = date.fromisoformat(key)
            upcoming = calendar.shift(session, 1) if calendar.is_session(session) else None
            if upcoming is not None and entry.published_at < calendar.opens[upcoming]:
                newest[session] = (digest, entry.published_at)
    return newest
