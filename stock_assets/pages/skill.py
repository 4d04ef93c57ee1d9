"""Is it still good? The skill of the model in service on the sessions that it has predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts import bars, lines
from stock_assets.pages.charts.lines import Line

#: Sessions of the rolling means.
WINDOW = 21
NAIVE, ENSEMBLE = "naive", "ensemble"


@dataclass(frozen=True)
class SkillView:
    """What the section on skill shows. Sessions ascend."""

    model: str
    """the model in service"""
    scored: int
    """sessions whose labels are known"""
    scored_through: date | None
    loss: float | None
    """mean over the last WINDOW scored sessions, nats"""
    low: float | None
    """the 95 % interval of it; None with too few sessions"""
    high: float | None
    naive_loss: float | None
    """of the best naive baseline over the same sessions"""
    rolling_sessions: tuple[date, ...]
    rolling: tuple[Line, ...]
    gain: tuple[Line, ...]
    sessions: tuple[date, ...]
    expected: tuple[Line, ...]
    accuracy: Line
    rank_ic: Line
    reliability: tuple[tuple[str, str, list[tuple[float, float, int]]], ...]
    recent: tuple[dict[str, Any], ...]
    """the newest sessions, the newest first"""
    predicted_through: date | None
    """the newest predicted session, also where nothing was measured yet"""

    @property
    def advantage(self) -> float | None:
        """The naive baseline's log-loss less the model's: above 0 while the model has skill."""
        return None if self.loss is None or self.naive_loss is None else self.naive_loss - self.loss

    @property
    def verdict(self) -> str:
        """The skill of the last WINDOW scored sessions in a sentence."""
        if self.advantage is None:
            return "No label of a predicted session is known yet, so nothing can be said about skill."
        lead = f"{numbers.score(abs(self.advantage))} nats"
        if self.advantage <= 0:
            return f"No skill lately: {lead} worse than the best naive baseline."
        if self.high is None or self.naive_loss is None:
            return f"{lead} better than the best naive baseline, over too few sessions for an interval."
        if self.high > self.naive_loss:
            return f"{lead} better than the best naive baseline, but not beyond doubt: the 95 % interval reaches it."
        return f"{lead} better than the best naive baseline, and the 95 % interval ends below it."

    @property
    def has_rank_ic(self) -> bool:
        return any(value is not None for value in self.rank_ic.values)

    @property
    def has_expected(self) -> bool:
        return any(line.look == "expected" for line in self.expected)

    @cached_property
    def loss_chart(self) -> Markup:
        return lines.LineChart(
            "Log-loss",
            self.rolling_sessions,
            self.rolling,
            note=f"mean over the last {WINDOW} scored sessions, nats; lower is better; shaded: 95 % interval",
            whole=True,
            height=260,
        ).figure()

    @cached_property
    def gain_chart(self) -> Markup:
        note = "running sum of the naive log-loss less the model's, nats; it climbs while there is skill"
        return lines.LineChart(
            "Gain over the best naive baseline", self.rolling_sessions, self.gain, form=lines.GAIN, note=note, zero=True
        ).figure()

    @cached_property
    def expected_chart(self) -> Markup:
        note = f"means over {WINDOW} sessions, nats; labels come a horizon later, what was expected is known at once"
        return lines.LineChart("Expected and realised log-loss", self.sessions, self.expected, note=note).figure()

    @cached_property
    def accuracy_chart(self) -> Markup:
        note = f"share of rows whose most probable class came true, mean over {WINDOW} sessions"
        return lines.LineChart(
            "Accuracy", self.sessions, [self.accuracy], form=lines.SHARE, note=note, height=190
        ).figure()

    @cached_property
    def rank_ic_chart(self) -> Markup:
        note = f"Spearman correlation of score and return, mean over {WINDOW} sessions"
        return lines.LineChart(
            "Rank correlation", self.sessions, [self.rank_ic], form=lines.CORRELATION, note=note, zero=True, height=190
        ).figure()

    @cached_property
    def reliability_chart(self) -> Markup:
        note = "across: probability that was published; up: share that came true; on the dashed line both agree"
        return bars.reliability_chart("Reliability", self.reliability, note=note)


def skill_view(
    sessions: pl.DataFrame,
    rolling: pl.DataFrame,
    reliability: pl.DataFrame,
    *,
    model: str,
    listed: int = 10,
    predicted_through: date | None = None,
) -> SkillView:
    """The view of `sessions` (one row per predicted session), `rolling` (session, model, log_loss, low, high, gain;
    the best naive baseline is the model `naive`) and `reliability` (class, bin, probability, frequency, rows).
    `predicted_through` is the newest predicted session where `sessions` may lack it."""
    sessions = sessions.sort("session")
    scored_sessions = sessions.drop_nulls("log_loss")
    days = rolling["session"].unique().sort()
    last = rolling.filter(pl.col("session") == days.max(), pl.col("model") == model).to_dicts() if len(days) else []
    naive = rolling.filter(pl.col("session") == days.max(), pl.col("model") == NAIVE).to_dicts() if len(days) else []
    smooth = sessions.with_columns(
        pl.when(pl.col(name).is_not_null()).then(pl.col(name).rolling_mean(WINDOW, min_samples=1))
        for name in ("log_loss", "naive_log_loss", "expected_log_loss", "accuracy", "rank_ic")
    )
    models = [name for name in (model, ENSEMBLE, NAIVE) if name in rolling["model"].unique()]
    return SkillView(
        model=model,
        scored=scored_sessions.height,
        scored_through=scored_sessions["session"].max(),  # pyright: ignore[reportArgumentType]: a date
        loss=last[0]["log_loss"] if last else None,
        low=last[0]["low"] if last else None,
        high=last[0]["high"] if last else None,
        naive_loss=naive[0]["log_loss"] if naive else None,
        rolling_sessions=tuple(days),
        rolling=tuple(_line_of(rolling, days, name, column="log_loss", model=model) for name in models),
        gain=tuple(_line_of(rolling, days, name, column="gain", model=model) for name in models if name != NAIVE),
        sessions=tuple(sessions["session"]),
        expected=tuple(
            Line(title, _floats(smooth[column]), look)
            for title, column, look in (
                ("expected", "expected_log_loss", "expected"),
                ("realised", "log_loss", "service"),
                ("best naive", "naive_log_loss", "naive"),
            )
            if smooth[column].count()
        ),
        accuracy=Line(model, _floats(smooth["accuracy"]), "service"),
        rank_ic=Line(model, _floats(smooth["rank_ic"]), "service"),
        reliability=_classes(reliability),
        recent=tuple(sessions.reverse().head(listed).to_dicts()),
        predicted_through=predicted_through or sessions["session"].max(),  # pyright: ignore[reportArgumentType]: a date
    )


def look_of(name: str, service: str) -> str:
    """The class of a model's line."""
    return NAIVE if name == NAIVE else "service" if name == service else "ensemble" if name == ENSEMBLE else "other"


def _line_of(rolling: pl.DataFrame, days: pl.Series, name: str, *, column: str, model: str) -> Line:
    rows = pl.DataFrame({"session": days}).join(rolling.filter(pl.col("model") == name), on="session", how="left")
    title = "best naive" if name == NAIVE else name
    band = column == "log_loss" and name == model and rows["low"].null_count() < rows.height
    low, high = (_floats(rows["low"]), _floats(rows["high"])) if band else ((), ())
    return Line(title, _floats(rows[column]), look_of(name, model), low, high)


def _classes(reliability: pl.DataFrame) -> tuple[tuple[str, str, list[tuple[float, float, int]]], ...]:
    rows = reliability.drop_nulls(["probability", "frequency"]).sort("bin")
    return tuple(
        (name, name, list(points.iter_rows()))
        for name in ("sell", "hold", "buy")
        if (points := rows.filter(pl.col("class") == name).select("probability", "frequency", "rows")).height
    )


def _floats(column: pl.Series) -> Sequence[float | None]:
    return tuple(column.to_list())
