"""Screen 6: one ticker, its prices, its probabilities through time and what came true."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.frames import PROBABILITIES
from stock_assets.pages import numbers
from stock_assets.pages.charts import lines
from stock_assets.pages.charts.bars import probability_bar
from stock_assets.pages.charts.lines import Line, Mark
from stock_assets.publication.layout import Kind
from stock_assets.publication.read import Publication
from stock_assets.publication.tables import BARS_FILE, OUTCOMES_FILE, PREDICTIONS_FILE
from stock_assets.serving.pages.announcements import of_ticker
from stock_assets.serving.pages.calls import Call, calls_of, session_before

#: Sessions of the charts, rows of the table, peers.
SESSIONS, LISTED, PEERS = 260, 15, 12
LABELS = {-1: "sell", 0: "hold", 1: "buy"}

_BAR = ("open", "high", "low", "close", "volume", "dividend", "split_ratio", "total_return", "is_member", "suspect")
_CALL = (*PROBABILITIES, "score", "rank")
_FILES = {"predictions": PREDICTIONS_FILE, "bars": BARS_FILE, "outcomes": OUTCOMES_FILE}
_OUTCOME = ("label", "horizon_end", "forward_return_horizon", "usable")


@dataclass(frozen=True)
class ModelCall:
    """What one model says of the ticker tonight."""

    model: str
    version: str
    p_sell: float
    p_hold: float
    p_buy: float
    score: float
    rank: int

    @cached_property
    def bar(self) -> Markup:
        return probability_bar(self.p_sell, self.p_hold, self.p_buy)


@dataclass(frozen=True)
class Record:
    """How the published calls of the ticker did on sessions whose labels are known and trusted."""

    scored: int
    hits: float
    """share whose most probable class came true"""
    most_frequent: str
    """the most frequent label, and the share that always saying it hits"""
    most_frequent_share: float


@dataclass(frozen=True)
class TickerView:
    """What the screen shows. The charts' rows ascend."""

    ticker: str
    name: str | None
    sector: str | None
    session: date
    model: str
    predicted: int
    """tickers with a rank"""
    call: Call | None
    """of the model in service tonight; None where it is left out"""
    reason: str | None
    """why it is left out"""
    models: tuple[ModelCall, ...]
    rows: tuple[dict[str, Any], ...]
    """session, bar, call and outcome"""
    record: Record | None
    peers: tuple[Call, ...]
    """of its sector, by rank, around its own"""
    sector_size: int
    currency: str | None
    expected: tuple[dict[str, Any], ...] = ()
    """announcements to come"""
    reactions: tuple[dict[str, Any], ...] = ()
    """to the last announcements, the newest first"""

    @property
    def last(self) -> dict[str, Any]:
        """The newest row with a bar."""
        return next((row for row in reversed(self.rows) if row["close"] is not None), self.rows[-1])

    @property
    def recent(self) -> tuple[dict[str, Any], ...]:
        return self.rows[::-1][:LISTED]

    @property
    def sessions(self) -> tuple[date, ...]:
        return tuple(row["session"] for row in self.rows)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Corporate actions and suspect bars, at the close."""
        return tuple(
            mark for place, row in enumerate(self.rows) if row["close"] is not None for mark in _marks(place, row)
        )

    @property
    def outcomes(self) -> tuple[Line, ...]:
        """Per label, the probability that it was given on the sessions on which it came true."""
        return tuple(
            Line(
                f"{name} came true",
                [row[f"p_{name}"] if row["usable"] and row["label"] == label else None for row in self.rows],
                name,
            )
            for label, name in LABELS.items()
        )

    @cached_property
    def price_chart(self) -> Markup:
        note = f"as traded{f', {self.currency}' if self.currency else ''}"
        close = Line("close", [row["close"] for row in self.rows], "service")
        return lines.LineChart(
            "Price",
            self.sessions,
            [close],
            form=lines.PRICE,
            note=note,
            marks=self.marks,
            whole=True,
            height=300,
        ).figure()

    @cached_property
    def probability_chart(self) -> Markup:
        class_lines = [Line(name, [row[f"p_{name}"] for row in self.rows], name) for name in ("buy", "hold", "sell")]
        return lines.LineChart(
            "Probabilities",
            self.sessions,
            class_lines,
            form=lines.SHARE,
            note=f"as published, of {self.model}; a dot marks the class that came true",
            dots=self.outcomes,
            zero=True,
            whole=True,
        ).figure()


def history(publication: Publication, ticker: str, session_limit: int = SESSIONS) -> pl.DataFrame:
    """One row per published session, the last `session_limit`, ascending: session, the bar, the call of the model in
    service and its outcome; null where there is none."""
    model = publication.pointer.facts.in_service
    sessions = publication.pointer.sessions[-session_limit:]
    calls = _rows(publication, "predictions", sessions, ticker=ticker).filter(pl.col("model") == model)
    rows = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    for frame, columns in (
        (calls, _CALL),
        (_rows(publication, "bars", sessions, ticker=ticker), _BAR),
        (_rows(publication, "outcomes", sessions, ticker=ticker), _OUTCOME),
    ):
        rows = rows.join(frame.select("session", *columns), on="session", how="left", maintain_order="left")
    return rows


def _rows(publication: Publication, kind: Kind, sessions: Sequence[date], *, ticker: str) -> pl.DataFrame:
    """The rows of `ticker` in the files of `sessions`, with their session. Each file is compared with its digest first;
    one scan of them all takes half as long as reading one after the other."""
    paths: dict[str, date] = {}
    for session in sessions:
        if (digest := publication.pointer.files[kind].get(str(session))) is not None:
            paths[str(publication.file(kind, str(session), digest))] = session
    if not paths:
        return _FILES[kind].empty().with_columns(session=pl.lit(None, pl.Date))
    frame = pl.scan_parquet([*paths], include_file_paths="path").filter(pl.col("ticker") == ticker).collect()
    return frame.with_columns(session=pl.Series([paths[path] for path in frame["path"]], dtype=pl.Date))


def ticker_view(publication: Publication, ticker: str) -> TickerView | None:
    """The view of `ticker`; None where no published session of the charts names it."""
    facts, session = publication.pointer.facts, publication.pointer.sessions[-1]
    tonight = publication.predictions(session).filter(pl.col("ticker") == ticker)
    rows = history(publication, ticker)
    if tonight.is_empty() and rows["close"].null_count() == rows.height == rows["score"].null_count():
        return None
    calls = calls_of(publication, session, session_before(publication, session))
    own = next((call for call in calls if call.ticker == ticker), None)
    bar = publication.bars(session).filter(pl.col("ticker") == ticker).to_dicts()
    sector = bar[0]["sector"] if bar else None
    calls_of_sector = [call for call in calls if sector and call.sector == sector]
    absent_rows = tonight.filter(pl.col("status") != "predicted")
    expected, reactions = of_ticker(publication, ticker)
    return TickerView(
        ticker=ticker,
        name=bar[0]["name"] if bar else None,
        sector=sector,
        session=session,
        model=facts.in_service,
        predicted=len(calls),
        call=own,
        reason=(absent_rows["reason"][0] if absent_rows.height else "no row of this session names it")
        if own is None
        else None,
        models=tuple(
            ModelCall(*row)
            for row in tonight.filter(pl.col("status") == "predicted")
            .sort(pl.col("model") != facts.in_service, "model")
            .select("model", "model_version", *PROBABILITIES, "score", "rank")
            .iter_rows()
        ),
        rows=tuple(rows.to_dicts()),
        record=_record(rows),
        peers=_around(calls_of_sector, own),
        sector_size=len(calls_of_sector),
        currency=facts.currency,
        expected=expected,
        reactions=reactions,
    )


def chart_data(view: TickerView) -> dict[str, Any]:
    """What the interactive chart draws, by column; `marks` and `outcomes` as on the page."""
    columns = ("open", "high", "low", "close", "volume", *PROBABILITIES)
    return {
        "sessions": [str(session) for session in view.sessions],
        **{name: [row[name] for row in view.rows] for name in columns},
        "outcome": [LABELS[row["label"]] if row["usable"] and row["label"] in LABELS else None for row in view.rows],
        "marks": [[mark.place, mark.look, mark.text] for mark in view.marks],
        "currency": view.currency,
    }


def _marks(place: int, row: dict[str, Any]) -> list[Mark]:
    marks, day = [], row["session"]
    if row["split_ratio"] not in (None, 1.0):
        text = f"split on {day}: {row['split_ratio']:g} new shares per old one"
        marks.append(Mark(place, row["close"], "split", text))
    if row["dividend"]:
        marks.append(Mark(place, row["close"], "dividend", f"dividend on {day}: {numbers.price(row['dividend'])}"))
    if row["suspect"]:
        marks.append(Mark(place, row["close"], "suspect", f"suspect on {day}: {row['suspect']}"))
    return marks


def _record(rows: pl.DataFrame) -> Record | None:
    scored_rows = rows.filter(pl.col("usable"), pl.col("score").is_not_null(), pl.col("label").is_not_null())
    if scored_rows.is_empty():
        return None
    classes = scored_rows.select(pl.concat_list(PROBABILITIES).list.arg_max().cast(pl.Int8) - 1).to_series()
    counts = scored_rows["label"].value_counts().sort("count", "label", descending=True)
    return Record(
        scored_rows.height,
        int((classes == scored_rows["label"]).sum()) / scored_rows.height,
        LABELS[counts["label"][0]],
        counts["count"][0] / scored_rows.height,
    )


def _around(calls: Sequence[Call], own: Call | None) -> tuple[Call, ...]:
    """At most PEERS of `calls` (by rank), those around `own`."""
    place = next((i for i, call in enumerate(calls) if own and call.ticker == own.ticker), 0)
    first = max(0, min(place - PEERS // 2, len(calls) - PEERS))
    return tuple(calls[first : first + PEERS])
