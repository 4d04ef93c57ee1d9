"""The announcements of the simulated market: what was filed, and its calendar with every date as it was published.

Its laws are in `market.sources.simulated_schedule`. Nothing in it is real.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import ClassVar

import numpy as np
import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources.simulated_companies import DELISTED, TICKERS
from stock_assets.market.sources.simulated_schedule import MOMENTS, NEVER, QUARTER, SETTLED, quarter, quarters
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import ROWS, announcement_rows
from stock_assets.tables import UTC_TIME

#: A date of a company, its moment, when it is known, and whether it is withdrawn then.
_Row = tuple[str, date, str, datetime, bool]
_SCHEMA = pl.Schema(
    {"ticker": pl.String, "day": pl.Date, "moment": pl.String, "known_at": UTC_TIME, "withdrawn": pl.Boolean}
)


@dataclass(frozen=True)
class SimulatedAnnouncements:
    """The calendar and the filings of the simulated market (`SideSource`): of `tickers`, of all where it is None.

    A coming date has the origin `calendar` and is known since the middle of the session in which it was published, 17
    to 33 sessions ahead. A date that moves is withdrawn when the other one is published. What happened has the origin
    `filed`, known from its acceptance: at least half an hour before the open, in the middle of the session, or within
    the hour after the close. Where sessions follow each other without a pause, all is during a session. Dates after the
    end of the calendar are left out.
    """

    name: ClassVar[str] = "simulated"

    calendar: TradingCalendar
    seed: int = 0
    tickers: tuple[str, ...] | None = None

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: the same rows whatever range they are asked for in.

        Raises SourceError for a ticker that this market does not have.
        """
        offered_tickers = self.tickers or TICKERS
        if unknown := sorted(set(subjects) - set(offered_tickers)):
            raise SourceError(
                f"the simulated market has no ticker {unknown[0]}; it has {offered_tickers[0]} to {offered_tickers[-1]}"
            )
        sessions = self.calendar.between(first, last)
        if not sessions:
            return SideAnswer(ROWS.to_frame())
        span = range(self.calendar.position(sessions[0]), self.calendar.position(sessions[-1]) + 1)
        companies = sorted({TICKERS.index(ticker) for ticker in subjects})
        published_rows, filed_rows = (
            pl.DataFrame(list(rows), _SCHEMA, orient="row").filter(pl.col("known_at") <= fetched_at)
            for rows in (self._published(companies, span), self._filed(companies, span))
        )
        filed_rows = filed_rows.with_columns(event_time="known_at")  # it is accepted when it is announced
        rows = [
            announcement_rows(frame, self.calendar, origin=origin, source=self.name, fetched_at=fetched_at)
            for origin, frame in (("calendar", published_rows), ("filed", filed_rows))
        ]
        return SideAnswer(pl.concat(rows).sort("subject", "known_at", "event_time"))

    def _published(self, companies: Sequence[int], span: range) -> Iterator[_Row]:
        """What the calendar publishes in the sessions at the positions of `span`."""
        for k in quarters(span[0], span[-1]):
            q = quarter(self.seed, k)
            for j in companies:
                first, final, moved_position = int(q.first[j]), int(q.final[j]), int(q.moved[j])
                versions = [(first, int(q.published[j]), False)]
                if moved_position != NEVER:
                    versions += [(first, moved_position, True), (final, moved_position, False)]
                for at, known_position, withdrawn in versions:
                    exists = known_position in span and q.due[j] >= SETTLED[j] and known_position < DELISTED[j]
                    if exists and at < len(self.calendar.sessions):
                        day, moment, _ = self._announced(at, MOMENTS[q.moment[j]], int(q.minute[j]))
                        yield TICKERS[j], day, moment, self._middle(known_position), withdrawn

    def _filed(self, companies: Sequence[int], span: range) -> Iterator[_Row]:
        """What was filed of the reaction sessions at the positions of `span`."""
        for k in quarters(span[0], span[-1]):
            q = quarter(self.seed, k)
            for j in companies:
                at = {int(q.final[j])} if q.due[j] >= SETTLED[j] else set()
                at |= {int(p) for p in QUARTER * k + np.flatnonzero(q.sudden[:, j]) if p >= SETTLED[j]}
                for position in sorted(p for p in at if p in span and p < DELISTED[j]):
                    day, moment, accepted_at = self._announced(position, MOMENTS[q.moment[j]], int(q.minute[j]))
                    yield TICKERS[j], day, moment, accepted_at, False

    def _announced(self, position: int, moment: str, minute: int) -> tuple[date, str, datetime]:
        """Day, moment and acceptance of an announcement with its reaction session at `position`."""
        session, before = self.calendar.sessions[position], self.calendar.sessions[position - 1]
        (opening, _), (_, closing) = self._hours(session), self._hours(before)
        if moment == "pre" and (accepted_at := opening - timedelta(minutes=30 + minute)) > closing:
            return session, moment, accepted_at
        if moment == "post" and (accepted_at := closing + timedelta(minutes=1 + minute)) < opening:
            return before, moment, accepted_at
        return session, "during", self._middle(position)

    def _middle(self, position: int) -> datetime:
        opening, closing = self._hours(self.calendar.sessions[position])
        return opening + (closing - opening) / 2

    def _hours(self, session: date) -> tuple[datetime, datetime]:
        """Open and close; noon and the end of its day in UTC where the calendar has none."""
        noon = datetime.combine(session, time(12), UTC)
        return self.calendar.opens.get(session, noon), self.calendar.closes.get(
            session, self.calendar.day_over(session)
        )
