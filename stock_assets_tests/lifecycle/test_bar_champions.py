"""Champion and challenger below a day: which version serves which bars, in whatever steps it is made."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stock_assets.cli.bars import make_due
from stock_assets.errors import ArtifactError
from stock_assets.lifecycle.bars import BarState, judging_due, promotion_due
from stock_assets.lifecycle.materialize.bar_champions import BARS
from stock_assets.lifecycle.materialize.champions import models_in_service, read_promotions, rollback
from stock_assets.lifecycle.materialize.retired_models import remove_losers
from stock_assets.market.calendar import calendar_of, trading_calendar
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.model.bar_baselines import BarClassPrior
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS, BarModelEntry
from stock_assets.model.materialize.bars import answers_of_version
from stock_assets.settings import Settings
from stock_assets.storage.trainings import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.lifecycle.bar_market import FIRST_SERVED, hours, use_quick_models
from stock_assets_tests.lifecycle.test_bars import QUIET, rows

#: The first training serves from the 22nd, the next ones from the 24th, the 26th, …
SECOND, THIRD = date(2025, 6, 24), date(2025, 6, 26)
#: The one of the 24th is judged on the sessions through the 28th, and may serve from the 30th on.
PROMOTED_FROM, END = date(2025, 6, 30), datetime(2025, 7, 1, 0, 6, tzinfo=UTC)


class Aliases:
    """A registry that keeps names of versions and aliases in memory."""

    def __init__(self) -> None:
        self.tracked: dict[str, str] = {}
        self.of: dict[str, dict[str, str]] = {}

    def track(self, training) -> None:
        assert training.folder.is_dir()
        self.tracked[training.version] = training.model

    def aliases(self) -> dict[str, dict[str, str]]:
        return {model: dict(names) for model, names in self.of.items()}

    def set_alias(self, model: str, alias: str, version: str) -> None:
        assert self.tracked[version] == model
        self.of.setdefault(model, {})[alias] = version


def first_is_bad(lesson):
    """A class prior; that of the first training takes hold for all but impossible."""
    model = BarClassPrior.fit(lesson)
    if lesson.cutoff < datetime(2025, 6, 22, tzinfo=UTC):
        tensors, description = model.to_artifact()
        model = BarClassPrior.from_artifact(
            {n: np.tile([0.45, 0.1, 0.45], (len(x), 1)) for n, x in tensors.items()}, description
        )
    return model


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    use_quick_models(monkeypatch)
    entry = BarModelEntry(
        name=BAR_IN_SERVICE, role="champion", title="of a test", train=first_is_bad, load=BarClassPrior.from_artifact
    )
    monkeypatch.setitem(BAR_MODELS, BAR_IN_SERVICE, entry)
    return hours(tmp_path / "data").model_copy(update={"training_every": 2})


def made(config: Settings, *moments: datetime, registry: Any = None) -> Warehouse:
    store = Warehouse(config.database)
    for now in moments:
        make_due(store, config, SimulatedBars.of(config), now=now, say=QUIET, registry=registry or NoRegistry())
    return store


def test_a_better_challenger_serves_from_the_second_session_after_its_window(config: Settings, tmp_path: Path):
    registry = Aliases()
    store = made(config, END, registry=registry)
    promotions = read_promotions(store).sort("serves_from")
    first, promoted = promotions["replaced"][0], promotions["version"][0]
    assert promotions.select("outcome", "serves_from", "window_first", "window_last").row(0) == (
        "champion",
        PROMOTED_FROM,
        SECOND,
        date(2025, 6, 28),
    )
    assert registry.of[BAR_IN_SERVICE]["champion"] == promoted
    # by hand: two priors and the classes of the window, each session as heavy as its rows
    labels = declared("bar_labels").fit(store.read("bar_labels", SECOND, date(2025, 6, 28))).drop_nulls("label")
    labels = labels.filter(pl.col("known_at") <= datetime(2025, 6, 29, tzinfo=UTC))
    answers = rows(store, "bar_predictions").filter(pl.col("model") == BAR_IN_SERVICE)
    priors = {v: answers.filter(pl.col("model_version") == v).row(0, named=True) for v in (first, promoted)}
    names = {-1: "p_sell", 0: "p_hold", 1: "p_buy"}
    keyed = labels.join(answers.select("ticker", "bar_end"), on=["ticker", "bar_end"], how="semi")
    gains = [np.log(priors[promoted][names[k]] / priors[first][names[k]]) for k in keyed["label"]]
    assert promotions["improvement"][0] == pytest.approx(np.mean(gains), abs=1e-9)
    assert promotions["rows"][0] == len(gains)
    served = answers.group_by("session").agg(pl.col("model_version").unique()).sort("session")
    assert dict(served.filter(pl.col("session") < PROMOTED_FROM).explode("model_version").iter_rows()) == dict.fromkeys(
        [FIRST_SERVED + timedelta(days=k) for k in range(8)], first
    )
    assert dict(
        served.filter(pl.col("session") >= PROMOTED_FROM).explode("model_version").iter_rows()
    ) == dict.fromkeys([PROMOTED_FROM], promoted)
    # the same market day by day
    daily = config.model_copy(update={"data_dir": tmp_path / "daily"})
    evenings = [datetime(2025, 6, 22 + k, 0, 6, tzinfo=UTC) for k in range(9)]
    again = made(daily, *evenings, END)
    kept = ["version", "serves_from", "outcome", "replaced", "improvement", "improvement_low"]
    assert read_promotions(again).select(kept).equals(read_promotions(store).select(kept))
    assert rows(again, "bar_predictions").equals(rows(store, "bar_predictions"))
    # what serves is listed, and the saved model of what lost goes once it is old
    shown = models_in_service(store, registry, calendar_of(config), model_tables=BARS)
    lost = set(promotions.filter(pl.col("outcome") == "challenger")["version"])
    assert shown.select("model", "alias", "version", "model_year", "serves_from").rows() == [
        (BAR_IN_SERVICE, "champion", promoted, None, PROMOTED_FROM),
        *((BAR_IN_SERVICE, "challenger", version, None, None) for version in lost),
    ]
    assert len(lost) == 1
    assert remove_losers(store, config, registry, before=END + timedelta(days=9000))[0] == 0, "it has an alias"
    registry.of[BAR_IN_SERVICE]["challenger"] = promoted
    assert remove_losers(store, config, registry, before=END)[0] == 0, "they lost at that moment, and not before"
    count, freed = remove_losers(store, config, registry, before=END + timedelta(days=9000))
    assert (count, freed > 0) == (len(lost), True)
    trained = declared("trained_bar_models").fit(store.read("trained_bar_models"))
    assert set(trained.filter(pl.col("artifact").is_null())["version"]) == lost
    assert all((config.artifacts / folder).is_dir() for folder in trained["artifact"].drop_nulls())
    gone = trained.filter(pl.col("artifact").is_null()).row(0, named=True)
    with pytest.raises(ArtifactError, match="lost as a challenger long ago"):
        answers_of_version(store, config, gone, sessions=[PROMOTED_FROM])


def test_an_alias_that_a_person_moves_serves_from_the_next_session_and_a_rollback_undoes_it(config: Settings):
    registry = Aliases()
    store = made(config, datetime(2025, 6, 25, 3, 0, 5, tzinfo=UTC), registry=registry)
    versions = declared("trained_bar_models").fit(store.read("trained_bar_models"))
    second = versions.filter(pl.col("model") == BAR_IN_SERVICE, pl.col("session") == SECOND)["version"][0]
    first = registry.of[BAR_IN_SERVICE]["champion"]
    registry.set_alias(BAR_IN_SERVICE, "champion", second)
    made(config, datetime(2025, 6, 25, 4, 0, 5, tzinfo=UTC), registry=registry)
    assert set(rows(store, "bar_predictions").filter(model=BAR_IN_SERVICE)["model_version"]) == {first}
    made(config, datetime(2025, 6, 26, 1, 0, 5, tzinfo=UTC), registry=registry)
    (decision,) = read_promotions(store).to_dicts()
    assert (decision["kind"], decision["version"], decision["serves_from"]) == ("alias", second, THIRD)
    served = rows(store, "bar_predictions").filter(pl.col("model") == BAR_IN_SERVICE)
    assert set(served.filter(pl.col("session") == THIRD)["model_version"]) == {second}
    assert set(served.filter(pl.col("session") < THIRD)["model_version"]) == {first}
    back, notes = rollback(
        store,
        registry,
        calendar_of(config),
        model=BAR_IN_SERVICE,
        to=None,
        now=datetime(2025, 6, 26, 2, tzinfo=UTC),
        reason="a test",
    )
    assert (back.version, back.serves_from, notes) == (first, date(2025, 6, 27), [])
    assert registry.of[BAR_IN_SERVICE]["champion"] == first


def test_a_verdict_is_due_once_its_window_is_labelled_and_what_it_may_serve_waits_for_it():
    calendar = trading_calendar("24/7", date(2025, 6, 1), date(2025, 7, 30))
    now = datetime(2025, 7, 5, tzinfo=UTC)

    def state(labelled_through: date) -> BarState:
        labelled = set(calendar.between(date(2025, 6, 1), labelled_through))
        return BarState(now, labelled, set(calendar.sessions), set(), challengers=[SECOND, THIRD])

    assert promotion_due(calendar, state(date(2025, 6, 27))) is None
    work = promotion_due(calendar, state(date(2025, 6, 28)))
    assert work is not None
    assert work.assets == ("promotions",)
    judged = judging_due(calendar, state(date(2025, 7, 3)))
    assert judged is not None
    assert judged.last == str(PROMOTED_FROM - timedelta(days=1))
