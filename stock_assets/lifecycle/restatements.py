"""What has to be made again when what is stored already changes: a bar, the market context, or a side input."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from stock_assets.features import market_context
from stock_assets.features.lookback import LOOKBACK_SESSIONS, MAX_MISSED
from stock_assets.features.side_features import SIDE_FEATURES
from stock_assets.frames import KEYS
from stock_assets.lifecycle.evening import FEATURES, SERVED, Work, with_side_inputs
from stock_assets.market.adjustments import as_traded, differs, latest_versions
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.repair import priced
from stock_assets.model.registry import longest_lookback

#: What is made of the market context, without what comes after the predictions.
CONTEXT_FEATURES = ("stationary_features", "pca_components")

#: (assets, first partition, last partition) of one run.
Step = tuple[tuple[str, ...], str, str]


@dataclass(frozen=True)
class Affected:
    """The ranges to make again, ends included."""

    chain: tuple[date, date]
    """of everything from daily_bars to predictions"""
    labels: tuple[date, date] | None
    """None where no label of the changed bars is known yet"""


@dataclass(frozen=True)
class Watch:
    """How far the watch for restatements is: the cursor of its sensor."""

    through: datetime
    """everything fetched up to then was compared with what is stored"""
    steps: tuple[Step, ...] = ()
    """the runs that remake what was found; kept until all succeeded, so that a killed one is asked for again"""

    @classmethod
    def parse(cls, text: str) -> "Watch":
        """The watch that `text` wrote.

        >>> Watch.parse(Watch(datetime(2026, 3, 4), ((("labels",), "2026-03-02", "2026-03-03"),)).text()).steps
        ((('labels',), '2026-03-02', '2026-03-03'),)
        """
        content = json.loads(text)
        steps = tuple((tuple(assets), first, last) for assets, first, last in content["steps"])
        return cls(datetime.fromisoformat(content["through"]), steps)

    def text(self) -> str:
        """The watch as JSON."""
        return json.dumps({"through": self.through.isoformat(), "steps": self.steps})

    def works(self) -> list[Work]:
        """The runs of `steps`, in order; each name is of this restatement alone."""
        works = []
        for assets, first, last in self.steps:
            name = f"restated {assets[0]} of {self.through.isoformat()}"
            works.append(Work(name, assets, first, last, f"{name}: {first} to {last}"))
        return works


def stale_bars(raw: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """ticker, session of the bars that the newest versions in `raw` (of raw_ohlcv) contradict, or that are missing.

    `bars` (of daily_bars) are those stored of the same sessions. A bar that was made from the newest version is not
    stale, though repair may have changed its figures; a bar that does not name its version is judged by its figures. A
    version without a possible price makes no bar, so no bar of it is missing.
    """
    figures = ["open", "high", "low", "close", "volume", "dividend", "split_ratio"]
    without_actions = pl.when(pl.col("split_ratio").is_null()).then(pl.col("adj_close") / pl.col("previous_adj_close"))
    newest = as_traded(latest_versions(priced(raw)[0])).with_columns(total_return=without_actions - 1)
    made_from = ["fetched_at"] if "fetched_at" in bars.columns else []
    pairs = newest.select(*KEYS, *figures, "total_return", "fetched_at").join(
        bars.select(*KEYS, *figures, "total_return", *made_from),
        on=KEYS,
        how="left",
        suffix="_stored",
    )
    # the return of a source with corporate actions follows from the closes of two bars, which are compared
    differences = [
        *(differs(name, f"{name}_stored") for name in figures),
        pl.col("total_return").is_not_null() & differs("total_return", "total_return_stored"),
    ]
    if made_from:
        pairs = pairs.filter((pl.col("fetched_at") > pl.col("fetched_at_stored")).fill_null(value=True))
    return pairs.filter(pl.any_horizontal(differences)).select(KEYS).sort("session", "ticker")


def reach(look_back: int) -> int:
    """Sessions after a change whose predictions it reaches: the look-back of the features that read it, and the rows of
    features that a model reads, of a ticker that missed as many sessions as it may."""
    return look_back + longest_lookback() + MAX_MISSED


def affected(
    calendar: TradingCalendar,
    changed_bars: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    predicted_through: date,
    labelled_through: date,
) -> Affected:
    """What the bars of `changed_bars` (ticker, session; at least one row) reach: features and predictions forward as
    far as a look-back goes, labels backward as far as a horizon does.

    `labels` are rows of that table (ticker, session, horizon_end) around the changed sessions; both `_through` are the
    last sessions that are made.
    """
    first, last = changed_bars["session"].min(), changed_bars["session"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    end = min(calendar.shift(last, reach(LOOKBACK_SESSIONS)) or calendar.sessions[-1], predicted_through)
    touched_sessions = labels.join(changed_bars.rename({"session": "changed"}), on="ticker").filter(
        pl.col("changed").is_between("session", "horizon_end")
    )["session"]
    begin = min([first, *touched_sessions.to_list()])
    through = min(last, labelled_through)
    return Affected((first, max(first, end)), (begin, through) if begin <= through else None)


def affected_by_context(
    calendar: TradingCalendar, sessions: Collection[date], predicted_through: date
) -> tuple[date, date] | None:
    """First and last session whose features or predictions a change of the market context at `sessions` reaches.

    A session after `predicted_through` was made of nothing yet and does not count; None where no other is left.
    """
    sessions_in_reach = [session for session in sessions if session <= predicted_through]
    if not sessions_in_reach:
        return None
    return min(sessions_in_reach), min(
        calendar.shift(max(sessions_in_reach), reach(market_context.LOOKBACK)) or calendar.sessions[-1],
        predicted_through,
    )


def affected_by_side_rows(
    calendar: TradingCalendar, late_rows: pl.DataFrame, predicted_through: date, *, look_back: int
) -> tuple[date, date] | None:
    """First and last session whose features or predictions the side rows `late_rows` (session, event_time) reach, where
    the features that read them look back `look_back` sessions: from the session at which they were known until the
    event is as far back. None where none of them was known by `predicted_through`."""
    rows_in_reach = late_rows.filter(pl.col("session") <= predicted_through)
    if rows_in_reach.is_empty():
        return None
    first = rows_in_reach["session"].min()
    last = pl.concat([rows_in_reach["session"], rows_in_reach["event_time"].dt.date().alias("session")]).max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    latest = calendar.between(first, max(last, first))[-1]
    end = calendar.shift(latest, reach(look_back)) or calendar.sessions[-1]
    return first, min(end, predicted_through)


def steps_of(affected_ranges: Affected, first_served: date, side_inputs: Sequence[str] = ()) -> list[Step]:
    """The runs that make `affected_ranges` again, one after the other; no model serves before `first_served`.
    `side_inputs` are the assets of those that are on."""
    steps = _steps(with_side_inputs(FEATURES, side_inputs), affected_ranges.chain, first_served)
    if affected_ranges.labels:
        first, last = affected_ranges.labels
        if first >= first_served:  # what came true of these sessions is shown and published again
            return [*steps, (("labels", "operations", "publication"), str(first), str(last))]
        steps.append((("labels",), str(first), str(last)))
        if last >= first_served:
            steps.append((("operations", "publication"), str(first_served), str(last)))
    return steps


def steps_of_context(session_range: tuple[date, date], first_served: date) -> list[Step]:
    """The runs that make again what `affected_by_context` found."""
    return _steps(CONTEXT_FEATURES, session_range, first_served)


def steps_of_side_rows(session_range: tuple[date, date], first_served: date) -> list[Step]:
    """The runs that make again what `affected_by_side_rows` found."""
    return _steps((SIDE_FEATURES,), session_range, first_served)


def _steps(features: Sequence[str], span: tuple[date, date], first_served: date) -> list[Step]:
    """Features and predictions of `span`: in one run, or in two where it begins before predictions do."""
    first, last = span
    if first >= first_served:
        return [((*features, *SERVED), str(first), str(last))]
    steps: list[Step] = [(tuple(features), str(first), str(last))]
    if last >= first_served:
        steps.append((SERVED, str(first_served), str(last)))
    return steps
