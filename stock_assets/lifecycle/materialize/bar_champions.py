"""Champion and challenger of the model in service at intervals below a day: the same rule, table and aliases as at a
day, on days of bars.

The first version serves until a later one is promoted. A training makes a challenger, which is judged once the first
JUDGED sessions that it could have served are over. Both predict these, and neither has seen them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import polars as pl

from stock_assets.features.bar_tables import BAR_LABELS
from stock_assets.frames import BAR_KEYS
from stock_assets.lifecycle.bars import JUDGED_SESSIONS, served_from
from stock_assets.lifecycle.champions import BAR_YEAR, Promotion, Window, champion_at, champions_at, judge
from stock_assets.lifecycle.materialize.champions import (
    JudgedChallengers,
    follow_aliases,
    read_promotions,
    record_verdicts,
)
from stock_assets.lifecycle.materialize.kept import Kept, trained_versions
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.bar_models import BAR_IN_SERVICE
from stock_assets.model.bar_tables import TRAINED_BAR_MODELS
from stock_assets.model.materialize.bars import answers_of_version
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

#: The model in service: naive models and references are of the newest training, so that skill is never measured against
#: an old yardstick.
BARS = Kept(
    {
        "trained_bar_models": (
            f"SELECT DISTINCT model, {BAR_YEAR} AS model_year, version, CAST(cutoff AS DATE) AS trained_through "
            f"FROM model.trained_bar_models WHERE model = '{BAR_IN_SERVICE}'"
        )
    },
    predictions="bar_predictions",
    year=BAR_YEAR,
)
#: Whole days are drawn (decision 0283).
OF_BARS = Window(tuple(BAR_KEYS), smallest=JUDGED_SESSIONS, block=1)


def serving_bar_versions(
    store: Warehouse, registry: Registry, sessions: Sequence[date], *, now: datetime
) -> dict[date, str]:
    """The version of BAR_IN_SERVICE that serves each of `sessions`, once an alias that a person moved is followed: it
    serves from the first session without a prediction on. Raises as `follow_aliases` and `champions_at`."""
    with store.reading():
        last = store.last_session("bar_predictions")
    new = [session for session in sessions if last is None or session > last]
    if new:
        follow_aliases(store, registry, [BAR_IN_SERVICE], session=new[-1], now=now, model_tables=BARS)
    with store.reading():
        promotions, versions = read_promotions(store), trained_versions(store, BARS)
    return champions_at(promotions, versions, BAR_IN_SERVICE, sessions=sessions, year=BAR_YEAR)


def judge_bar_challengers(
    store: Warehouse, settings: Settings, registry: Registry, *, now: datetime
) -> JudgedChallengers:
    """Judges every version of BAR_IN_SERVICE whose window is over and that was not judged yet, the oldest first, and
    records each verdict before the next one: a version is compared with the champion that it would replace.

    It looks at labels that were known at the close of the window, and serves from the second session after it on, so
    the verdicts are the same whenever they are made; where predictions of later sessions are there already, after the
    newest of these. Raises as `judge` and `champions.record`.
    """
    calendar, recorded_verdicts, messages = calendar_of(settings), list[Promotion](), list[str]()
    versions = bar_challengers(store)
    all_versions = trained_versions(store, BARS)
    for row in versions.iter_rows(named=True):
        window = calendar.between(row["session"], calendar.sessions[-1])[:JUDGED_SESSIONS]
        serves_from = served_from(calendar, row["session"])
        if serves_from is None or not _is_made(store, window):
            break
        new_verdicts: list[Promotion] = []
        while not new_verdicts:  # once more where a person moved the champion meanwhile
            verdict = _verdict(store, settings, calendar, row=row, window=window, serves_from=serves_from, now=now)
            serves_from = _not_predicted(store, calendar, serves_from)
            new_verdicts, notes = record_verdicts(
                store, registry, [replace(verdict, serves_from=serves_from)], versions=all_versions
            )
            messages += [f"{verdict.version} {verdict.reason}", *notes]
        recorded_verdicts += new_verdicts
    if versions.is_empty():
        record_verdicts(store, registry, [], versions=all_versions)  # the table is there from the first look on
    return JudgedChallengers(recorded_verdicts, messages)


def bar_challengers(store: Warehouse) -> pl.DataFrame:
    """model, version, cutoff, artifact and the first session that it was trained for, of the versions of BAR_IN_SERVICE
    but for the first one, on which nothing was decided yet; ascending."""
    with store.reading():
        rows = TRAINED_BAR_MODELS.fit(store.read_or(TRAINED_BAR_MODELS.empty(), "trained_bar_models"))
        decided_versions = read_promotions(store)["version"]
    rows = rows.filter(pl.col("model") == BAR_IN_SERVICE).sort("cutoff", "session")
    rows = rows.unique("version", keep="first", maintain_order=True)[1:]
    rows = rows.filter(~pl.col("version").is_in(decided_versions.implode()))
    return rows.select("model", "version", "cutoff", "artifact", "session")


def _not_predicted(store: Warehouse, calendar: TradingCalendar, session: date) -> date:
    """`session`, or the one after the newest that is predicted where that is later."""
    last_predicted = store.last_session("bar_predictions")
    return session if last_predicted is None else max(session, calendar.shift(last_predicted, 1) or last_predicted)


def _is_made(store: Warehouse, window: Sequence[date]) -> bool:
    return len(window) == JUDGED_SESSIONS and set(window) <= store.sessions("bar_labels", window[0], window[-1])


def _verdict(
    store: Warehouse,
    settings: Settings,
    calendar: TradingCalendar,
    *,
    row: Mapping[str, Any],
    window: Sequence[date],
    serves_from: date,
    now: datetime,
) -> Promotion:
    """The verdict on the version of `row`, over the champion of the session that it would serve from."""
    versions = trained_versions(store, BARS)
    name = champion_at(read_promotions(store), versions, BAR_IN_SERVICE, session=serves_from, year=BAR_YEAR)
    stored_models = TRAINED_BAR_MODELS.fit(store.read("trained_bar_models"))
    champion = stored_models.filter(pl.col("version") == name).row(0, named=True)
    version, reason = row["version"], "stays challenger: the champion learned from later bars"
    decision = Promotion(BAR_IN_SERVICE, version, BAR_YEAR, serves_from, now, "challenger", "judged", name, reason)
    if champion["cutoff"] >= row["cutoff"]:  # a person moved the alias: it has seen the window
        return decision
    labels = BAR_LABELS.fit(store.read("bar_labels", window[0], window[-1])).drop_nulls("label")
    labels = labels.filter(pl.col("known_at") <= calendar.closes[window[-1]])
    serving, newer = (
        answers_of_version(store, settings, version_row, sessions=window) for version_row in (champion, row)
    )
    verdict = judge(serving, newer, labels, seed=settings.seed, window=OF_BARS)
    outcome = "champion" if verdict.promote else "challenger"
    return replace(decision, outcome=outcome, reason=verdict.reason, verdict=verdict)
