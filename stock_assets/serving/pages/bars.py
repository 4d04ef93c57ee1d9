"""The screen of a market of bars: the running session, what its newest bars say, and whether the next one is late."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts.bars import probability_bar
from stock_assets.pages.numbers import plural
from stock_assets.pages.status import Trouble, Verdict
from stock_assets.publication.bar_files import BarPointer
from stock_assets.publication.layout import digest_of

#: Bars of a ticker whose scores are drawn.
DRAWN = 60
_WIDTH, _HEIGHT = 120, 26


@dataclass(frozen=True)
class Market:
    """What the layout says of the market; without `interval` before anything was published."""

    interval: str | None = None
    exchange: str | None = None
    source: str | None = None
    horizon: int | None = None
    width: float | None = None
    simulated: bool = False


@dataclass(frozen=True)
class BarCall:
    """The newest bar of a ticker, by the model in service."""

    ticker: str
    bar_end: datetime
    behind: bool
    """whether other tickers have a newer bar"""
    p_sell: float
    p_hold: float
    p_buy: float
    score: float
    expected_return: float | None
    bar: Markup
    line: Markup
    """the scores of its last DRAWN bars"""


@dataclass(frozen=True)
class RunningView:
    """What the screen shows."""

    verdict: Verdict
    alerts: tuple[Trouble, ...]
    market: Market = Market()
    session: date | None = None
    bar_end: datetime | None = None
    delay: float | None = None
    """seconds from the end of the newest bar to its publication"""
    next_bar_end: datetime | None = None
    model: str = ""
    champion: str | None = None
    trained_through: datetime | None = None
    bars: int = 0
    """published bars of the session, of one ticker at most"""
    calls: tuple[BarCall, ...] = ()
    back_test: Mapping[str, Any] | None = None
    """what is published of it (`serving.schemas.BacktestOfBars`)"""

    @property
    def title(self) -> str:
        return "Running session" if self.session is None else f"Session {self.session}"

    def etag(self, alerts: str) -> str:
        """A tag that changes with what is shown; `alerts` is the digest of the open ones."""
        tested = self.back_test and self.back_test["made_at"]
        page_parts = (self.verdict, alerts, self.bar_end, self.champion, len(self.calls), tested)
        return f'W/"{digest_of(repr(page_parts).encode())}"'


def newest_rows(rows: pl.DataFrame, model: str) -> pl.DataFrame:
    """The newest bar of every ticker that `model` predicted, sorted by ticker."""
    own = rows.filter(pl.col("model") == model).sort("bar_end")
    return own.unique("ticker", keep="last", maintain_order=True).sort("ticker")


def running_view(
    pointer_and_rows: tuple[BarPointer, pl.DataFrame] | None,
    alerts: tuple[Trouble, ...],
    now: datetime,
    *,
    back_test: Mapping[str, Any] | None = None,
) -> RunningView:
    """The view of the pointer and the rows of its session at `now` (aware), with the `back_test` that is published;
    None before a bar was published."""
    if pointer_and_rows is None:
        reason = "Bars are published once models serve a session: `stock-assets bars`, or the sensors, make them."
        return RunningView(Verdict("unusable", "Not usable: no bar is published yet", (reason,)), alerts)
    pointer, rows = pointer_and_rows
    facts: dict[str, Any] = dict(pointer.facts)
    model = str(facts["in_service"])
    own = rows.filter(pl.col("model") == model).sort("bar_end")
    newest = newest_rows(rows, model)
    next_end, late_after = (_moment(facts.get(name)) for name in ("next_bar_end", "late_after"))
    calls = [
        BarCall(
            row["ticker"],
            row["bar_end"],
            row["bar_end"] < pointer.bar_end,
            *(row[name] for name in ("p_sell", "p_hold", "p_buy", "score", "expected_return")),
            bar=probability_bar(row["p_sell"], row["p_hold"], row["p_buy"]),
            line=score_line(own.filter(pl.col("ticker") == row["ticker"])["score"].tail(DRAWN).to_list()),
        )
        for row in newest.sort(pl.col("score").abs(), descending=True).iter_rows(named=True)
    ]
    return RunningView(
        _verdict(pointer, next_end, late_after, alerts=len(alerts), now=now),
        alerts,
        Market(
            *(facts.get(name) for name in ("interval", "exchange", "source", "horizon", "barrier_width")),
            simulated=bool(facts.get("simulated")),
        ),
        pointer.session,
        pointer.bar_end,
        (pointer.published_at - pointer.bar_end).total_seconds(),
        next_end,
        model,
        facts.get("champion"),
        _moment(facts.get("trained_through")),
        own["bar_end"].n_unique(),
        tuple(calls),
        back_test,
    )


def _verdict(
    pointer: BarPointer, next_end: datetime | None, late_after: datetime | None, *, alerts: int, now: datetime
) -> Verdict:
    notes = (f"{plural(alerts, 'alert is', 'alerts are')} open: read below before use.",) if alerts else ()
    newest = numbers.moment(pointer.bar_end)
    if late_after is not None and next_end is not None and now > late_after:
        reason = f"The bar of {numbers.moment(next_end)} was due by {numbers.moment(late_after)} and is not published."
        return Verdict("late", f"Late: the bar of {newest} is the newest", (reason, *notes))
    if next_end is None:
        reason = "The calendar of the market ends with it: no further bar is expected."
    elif next_end <= now:
        reason = f"The bar of {numbers.moment(next_end)} is being made."
    else:
        reason = f"The next bar ends at {numbers.moment(next_end)}."
    return Verdict("usable", f"Usable: the bar of {newest} is the newest expected", (reason, *notes))


def score_line(scores: list[float]) -> Markup:
    """A small picture of scores, in their order, around a line at 0; one of a single score is a dot."""
    largest_score = max((abs(score) for score in scores), default=0.0) or 1.0
    middle, step = _HEIGHT / 2, _WIDTH / max(len(scores) - 1, 1)
    points = [(k * step, middle - score / largest_score * (middle - 2)) for k, score in enumerate(scores)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1] if points else (0.0, middle)
    return Markup(
        f'<svg class="spark" viewBox="-3 0 {_WIDTH + 6} {_HEIGHT}" width="{_WIDTH + 6}" height="{_HEIGHT}" role="img" '
        f'aria-label="scores of the last {len(scores)} bars, from {min(scores, default=0):.3f} to '
        f'{max(scores, default=0):.3f}"><line class="grid" x1="0" x2="{_WIDTH}" y1="{middle}" y2="{middle}"/>'
        f'<polyline class="line service" points="{path}"/>'
        f'<circle class="dot service" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
        "</svg>"
    )


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
