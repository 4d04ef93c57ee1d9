"""The newest predicted session, predicted again by the version that now serves; the sessions before keep theirs."""

# ruff: noqa: F811, the fixtures of `predictable` are parameters of the tests

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from threading import Event, Thread

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, CutoffError, RegistryError, StockAssetsError
from stock_assets.files import locked
from stock_assets.lifecycle.champions import Promotion, champions_at, decisions_from, promotion_rows
from stock_assets.lifecycle.materialize import republish as steps
from stock_assets.lifecycle.materialize.champions import follow_aliases, read_promotions, rollback
from stock_assets.lifecycle.materialize.partitions import stored_partitions
from stock_assets.lifecycle.materialize.republish import PredictedAgain, predict_newest_again
from stock_assets.lifecycle.materialize.serving import serving_versions
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.predict import make_predictions
from stock_assets.model.materialize.versions import Version
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.predictable import (  # noqa: F401
    MODEL,
    NEWEST,
    NEXT,
    NOW,
    SESSIONS,
    config,
    filled,
    versions,
    versions_at,
)
from stock_assets_tests.lifecycle.store import MemoryRegistry
from stock_assets_tests.waiting import HANG_SECONDS


@pytest.fixture
def store(config: Settings) -> Warehouse:
    return Warehouse(config.database)


@pytest.fixture
def registry(versions: list[str], store: Warehouse) -> MemoryRegistry:
    """As the evening left it."""
    registry = MemoryRegistry(*versions, "ensemble-1", *versions_at(store, NEWEST).values())
    follow_aliases(store, registry, [MODEL, "ticker_prior", "ensemble"], session=NEWEST, now=NOW)
    return registry


def go(config: Settings, registry: MemoryRegistry | NoRegistry, minutes: int = 60, **named) -> PredictedAgain:
    now = NOW + timedelta(minutes=minutes)
    return predict_newest_again(Warehouse(config.database), config, registry, now=now, **named)


def back(config: Settings, registry, to: str, minutes: int = 30) -> None:
    now = NOW + timedelta(minutes=minutes)
    store = Warehouse(config.database)
    rollback(store, registry, calendar_of(config), model=MODEL, to=to, now=now, reason="loses since May")


def rows(store: Warehouse, *sessions: date) -> pl.DataFrame:
    return store.read("predictions").filter(pl.col("session").is_in(sessions)).sort("session", "ticker", "model")


def test_a_moved_alias_serves_the_newest_session_and_none_before_it(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str]
):
    before = rows(store, *SESSIONS)
    registry.set_alias(MODEL, "champion", versions[1])
    done = go(config, registry)
    assert done.session == NEWEST
    assert versions_at(store, NEWEST)[MODEL] == versions[1]
    assert_frame_equal(rows(store, *SESSIONS[:-1]), before.filter(pl.col("session") < NEWEST))
    changed = rows(store, NEWEST)
    others = pl.col("model") == "ticker_prior"
    assert_frame_equal(changed.filter(others), before.filter(others & (pl.col("session") == NEWEST)))
    pooled = (
        changed.filter(pl.col("model") != "ensemble").group_by("ticker").agg(pl.col("p_hold").mean()).sort("ticker")
    )
    assert changed.filter(pl.col("model") == "ensemble")["p_hold"].to_list() == pytest.approx(
        pooled["p_hold"].to_list()
    )
    (row,) = read_promotions(store).to_dicts()
    assert (row["kind"], row["version"], row["replaced"], row["serves_from"]) == (
        "alias", versions[1], versions[0], NEWEST,
    )  # fmt: skip
    assert row["reason"] == f"republish: the alias champion was set to {versions[1]} in the registry"
    assert done.reason == (
        f"republish: {versions[1]} in place of {versions[0]} on {NEWEST}, the alias champion was set to {versions[1]} "
        "in the registry"
    )
    assert registry.kept[MODEL] == {"champion": versions[1], "serving": versions[1]}


def test_only_the_version_that_begins_to_serve_is_asked(
    config: Settings, registry: MemoryRegistry, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    predict = Version.predict

    def counted(version: Version, *arguments) -> pl.DataFrame:
        asked.append(version.version)
        return predict(version, *arguments)

    monkeypatch.setattr(Version, "predict", counted)
    registry.set_alias(MODEL, "champion", versions[1])
    done = go(config, registry)
    assert asked == [versions[1]]
    assert done.predictions is not None
    assert done.predictions.rows.group_by("model").len().sort("model").rows() == [
        ("class_prior", 4), ("ensemble", 4), ("ticker_prior", 4),
    ]  # fmt: skip


def test_a_rollback_serves_the_newest_session_as_well(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str]
):
    back(config, registry, versions[1])
    done = go(config, registry)
    assert [(p.version, p.serves_from, p.kind, p.reason) for p in done.decisions] == [
        (versions[1], NEWEST, "rollback", "republish: loses since May")
    ]
    assert versions_at(store, NEWEST)[MODEL] == versions[1]
    assert versions_at(store, SESSIONS[-2])[MODEL] == versions[0]


def test_without_a_registry_the_newest_decision_is_followed(config: Settings, store: Warehouse, versions: list[str]):
    back(config, NoRegistry(), versions[1])
    go(config, NoRegistry())
    assert versions_at(store, NEWEST)[MODEL] == versions[1]


def test_an_alias_moved_after_a_rollback_holds_for_every_session_to_come(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str]
):
    back(config, registry, versions[1])
    registry.set_alias(MODEL, "champion", versions[0])
    done = go(config, registry)
    assert [(p.version, p.serves_from) for p in done.decisions] == [(versions[0], NEXT)], "it serves the newest already"
    assert done.predictions is None
    assert follow_aliases(store, registry, [MODEL], session=NEXT, now=NOW) == []
    assert registry.kept[MODEL] == {"champion": versions[0], "serving": versions[0]}


@pytest.mark.parametrize("how", ["alias", "rollback"])
def test_the_evening_after_goes_on_with_the_version(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], how: str
):
    if how == "alias":
        registry.set_alias(MODEL, "champion", versions[1])
    else:
        back(config, registry, versions[1])
    go(config, registry)
    assert follow_aliases(store, registry, [MODEL], session=NEXT, now=NOW + timedelta(hours=20)) == []
    again = rows(store, *SESSIONS)
    remade = make_predictions(
        store,
        config,
        SESSIONS,
        assign=lambda pca: serving_versions(store, registry, SESSIONS, pca_version=pca, now=NOW),
    )
    assert_frame_equal(remade.rows.sort("session", "ticker", "model"), again)
    back(config, registry, versions[0], minutes=90)
    go(config, registry, minutes=91)
    assert versions_at(store, NEWEST)[MODEL] == versions[0]
    assert_frame_equal(rows(store, *SESSIONS[:-1]), again.filter(pl.col("session") < NEWEST))


@pytest.mark.parametrize("how", ["alias", "rollback"])
def test_a_version_trained_through_the_session_is_refused_with_both_dates(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], how: str
):
    if how == "alias":
        registry.set_alias(MODEL, "champion", versions[2])
    else:
        back(config, registry, versions[2])
    before, decided, aliases = rows(store, *SESSIONS), read_promotions(store), registry.aliases()
    with pytest.raises(CutoffError, match=f"{versions[2]}.* was trained through {NEWEST}, .* the session {NEWEST} "):
        go(config, registry)
    assert_frame_equal(rows(store, *SESSIONS), before)
    assert_frame_equal(read_promotions(store), decided)
    assert registry.aliases() == aliases
    assert go(config, registry, model="ticker_prior").decisions == [], "another model is not held up"


def test_a_second_time_writes_nothing(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    registry.set_alias(MODEL, "champion", versions[1])
    first = go(config, registry)
    decided, contents = read_promotions(store), rows(store, *SESSIONS)
    monkeypatch.setattr(Warehouse, "write", lambda *_: pytest.fail("nothing is left to be written"))
    second = go(config, registry, minutes=120)
    assert (second.decisions, second.predictions, second.reason, second.notes) == ([], None, first.reason, [])
    assert_frame_equal(read_promotions(store), decided)
    assert_frame_equal(rows(store, *SESSIONS), contents)


def test_a_session_that_another_version_had_predicted_is_predicted_again(
    config: Settings, store: Warehouse, versions: list[str]
):
    """As after a rollback that was recorded between the last look of an evening and its commit."""
    cause = Promotion(MODEL, versions[1], 2019, NEWEST, NOW, "champion", "rollback", versions[0], "late")
    store.append("promotions", promotion_rows([cause]))
    done = go(config, NoRegistry())
    assert done.decisions == []
    assert done.predictions is not None
    assert versions_at(store, NEWEST)[MODEL] == versions[1]


def test_bad_questions_are_one_error_each(config: Settings, store: Warehouse, registry: MemoryRegistry):
    with pytest.raises(ArtifactError, match="no model rnm with a version for 2019; expected one of class_prior, ens"):
        go(config, registry, model="rnm")
    registry.versions.add("class_prior-old")
    registry.set_alias(MODEL, "champion", "class_prior-old")
    with pytest.raises(ArtifactError, match="set to class_prior-old, which is no version of model year 2019"):
        go(config, registry)
    store.replace_table("predictions", store.read("predictions").clear())
    with pytest.raises(StockAssetsError, match="there are no predictions yet"):
        go(config, registry)


def test_the_store_and_dagster_hold_the_same_partitions_before_and_after(
    config: Settings, store: Warehouse, versions: list[str]
):
    keys = {"predictions": [str(day) for day in SESSIONS], "daily_bars": [str(day) for day in SESSIONS]}
    before = stored_partitions(store, keys)
    back(config, NoRegistry(), versions[1])
    go(config, NoRegistry())
    assert stored_partitions(store, keys) == before


# ---------------------------------------------------------------- cut off, overtaken, two at once


class Killed(BaseException):
    """In the place of a process that ends without a word."""


@contextmanager
def killed_at(at: int) -> Iterator[list[str]]:
    """Ends the step before its commit of that number (from 0): the store's, then each alias."""
    done: list[str] = []
    write, set_alias = Warehouse.write, MemoryRegistry.set_alias

    def counted(what: str) -> None:
        if len(done) == at:
            raise Killed
        done.append(what)

    def counted_write(store: Warehouse, changes: list[Change]) -> None:
        counted("+".join(sorted({change.table for change in changes})))
        write(store, changes)

    def counted_alias(of: MemoryRegistry, model: str, alias: str, version: str) -> None:
        counted(alias)
        set_alias(of, model, alias, version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "write", counted_write)
        patch.setattr(MemoryRegistry, "set_alias", counted_alias)
        yield done


STEPS = ["predictions+promotions", "champion", "serving"]


@pytest.mark.parametrize("how", ["alias", "rollback"])
@pytest.mark.parametrize("at", range(len(STEPS) + 1))
def test_what_a_killed_process_left_out_is_completed_by_the_next(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], at: int, how: str
):
    if how == "alias":
        registry.set_alias(MODEL, "champion", versions[1])
    else:
        back(config, registry, versions[1])
    decided, before = read_promotions(store).height, rows(store, *SESSIONS)
    with killed_at(at) as done:
        with suppress(Killed):
            go(config, registry)
        assert done == STEPS[:at], "every step is killed once"
    half = rows(store, *SESSIONS)
    if at == 0:
        assert_frame_equal(half, before)
        assert read_promotions(store).height == decided
    go(config, registry, minutes=61)
    assert versions_at(store, NEWEST)[MODEL] == versions[1]
    assert read_promotions(store).height == decided + 1
    assert registry.kept[MODEL] == {"champion": versions[1], "serving": versions[1]}
    assert_frame_equal(rows(store, *SESSIONS[:-1]), before.filter(pl.col("session") < NEWEST))


def test_a_registry_that_goes_down_on_the_way_leaves_a_decision_that_holds(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str]
):
    registry.set_alias(MODEL, "champion", versions[1])
    registry.broken = True
    with pytest.raises(RegistryError, match=r"does not answer\. The decision is in the table promotions and holds"):
        go(config, registry)
    assert versions_at(store, NEWEST)[MODEL] == versions[1]


def test_a_session_that_is_predicted_meanwhile_is_named_and_nothing_is_changed(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    registry.set_alias(MODEL, "champion", versions[1])
    looks = iter([NEWEST, NEWEST, NEXT])
    monkeypatch.setattr(Warehouse, "last_session", lambda *_: next(looks))
    before = rows(store, *SESSIONS)
    with pytest.raises(StockAssetsError, match=f"{NEXT} was predicted while {NEWEST} was predicted again, and nothing"):
        go(config, registry)
    assert_frame_equal(rows(store, *SESSIONS), before)
    assert read_promotions(store).is_empty()


def test_two_at_once_decide_once(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    registry.set_alias(MODEL, "champion", versions[1])
    ended: list[PredictedAgain] = []
    begun = Event()
    make = steps.make_predictions

    def slow(*arguments, **named):
        begun.set()
        return make(*arguments, **named)

    monkeypatch.setattr(steps, "make_predictions", slow)
    threads = [Thread(target=lambda: ended.append(go(config, registry))) for _ in range(3)]
    for thread in threads:
        thread.start()
        begun.wait(HANG_SECONDS)
    for thread in threads:
        thread.join()
    assert sorted(len(done.decisions) for done in ended) == [0, 0, 1]
    assert read_promotions(store).height == 1
    assert versions_at(store, NEWEST)[MODEL] == versions[1]
    assert rows(store, NEWEST).select("ticker", "model").is_duplicated().any() is False


def test_it_waits_for_a_store_and_for_a_decision_that_is_under_way(
    config: Settings, store: Warehouse, registry: MemoryRegistry, versions: list[str]
):
    registry.set_alias(MODEL, "champion", versions[1])
    ended: list[PredictedAgain] = []
    thread = Thread(target=lambda: ended.append(go(config, registry)))
    with locked(store.path.parent / ".promotions.lock"):
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert versions_at(store, NEWEST)[MODEL] == versions[0]
    thread.join()
    assert versions_at(store, NEWEST)[MODEL] == versions[1]


# ---------------------------------------------------------------- which decisions

TRAINED = pl.DataFrame(
    [("m", 2019, version, date(2018, 12, 31 - i)) for i, version in enumerate("cba")],
    schema={"model": pl.String, "model_year": pl.Int32, "version": pl.String, "trained_through": pl.Date},
    orient="row",
)


@hypothesis_settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 27), st.booleans()), max_size=6),
    st.sampled_from("abc"),
    st.integers(1, 28),
)
def test_the_decisions_hold_from_the_session_on_and_change_nothing_before_it(
    history: list[tuple[str, int, bool]], version: str, day: int
):
    plain = {"model": "m", "model_year": 2019, "kind": "alias", "replaced": None, "reason": ""}
    promotions = promotion_rows(
        [
            Promotion(
                version=v, serves_from=date(2019, 6, d), decided_at=NOW + timedelta(minutes=i),
                outcome="champion" if serves else "challenger", **plain,  # pyright: ignore[reportArgumentType]
            )
            for i, (v, d, serves) in enumerate(history)
        ]
    )  # fmt: skip
    session = date(2019, 6, day)
    cause = Promotion(
        version=version,
        serves_from=date.max,
        decided_at=NOW + timedelta(hours=1),
        outcome="champion",
        **plain,  # pyright: ignore[reportArgumentType]
    )
    decisions = decisions_from(promotions, TRAINED, cause, session=session)
    days = [date(2019, 6, d) for d in range(1, 31)]
    before = champions_at(promotions, TRAINED, "m", sessions=days)
    after = champions_at(pl.concat([promotions, promotion_rows(decisions)]), TRAINED, "m", sessions=days)
    assert after == {d: before[d] if d < session else version for d in days}
    assert all(decision.replaced == before[decision.serves_from] != version for decision in decisions)
    assert decisions_from(pl.concat([promotions, promotion_rows(decisions)]), TRAINED, cause, session=session) == []
