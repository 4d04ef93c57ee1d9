"""The history of champions and the aliases of the registry: who decides, and what a crash between them leaves."""

import shutil
import time
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from stock_assets.errors import ArtifactError, CutoffError, RegistryError, StockAssetsError
from stock_assets.lifecycle.champions import Promotion, champion_at, promotion_rows
from stock_assets.lifecycle.materialize.champions import (
    follow_aliases,
    models_in_service,
    next_session,
    read_promotions,
    record,
    record_verdicts,
    rollback,
    trained_versions,
)
from stock_assets.lifecycle.tables import PROMOTIONS
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import (
    BASE,
    CALENDAR,
    NEWER,
    NEWEST,
    NEXT,
    NOW,
    PREDICTED,
    MemoryRegistry,
    handmade_store,
)
from stock_assets_tests.tables import rows_of

IN_SERVICE = {"rnn": {"champion": BASE, "serving": BASE}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade_store(tmp_path_factory.mktemp("store") / "stock_assets.duckdb").path


@pytest.fixture
def warehouse(made: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(Path(shutil.copy(made, tmp_path)))


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry(BASE, NEWER, NEWEST, "trees-1", "ensemble-1")


def promoted(version: str, serves_from: date = NEXT, minutes: int = 0, **changes) -> Promotion:
    plain = {
        "model": "rnn",
        "version": version,
        "model_year": 2019,
        "serves_from": serves_from,
        "decided_at": NOW + timedelta(minutes=minutes),
        "outcome": "champion",
        "kind": "judged",
        "replaced": BASE,
        "reason": "promoted: better",
    }
    return Promotion(**(plain | changes))  # pyright: ignore[reportArgumentType]


def champion(warehouse: Warehouse, session: date = NEXT) -> str:
    return champion_at(read_promotions(warehouse), trained_versions(warehouse), "rnn", session=session)


def back(warehouse: Warehouse, registry, model: str = "rnn", to: str | None = None, minutes: int = 30):
    now = NOW + timedelta(minutes=minutes)
    return rollback(warehouse, registry, CALENDAR, model=model, to=to, now=now, reason="worse")


def test_what_is_trained_is_one_row_per_version(warehouse: Warehouse, tmp_path: Path):
    assert trained_versions(warehouse).select("model", "version").rows() == [
        ("ensemble", "ensemble-1"),
        ("rnn", BASE),
        ("rnn", NEWER),
        ("rnn", NEWEST),
        ("trees", "trees-1"),
    ]
    assert trained_versions(Warehouse(tmp_path / "none.duckdb")).is_empty()
    assert read_promotions(warehouse).schema == PROMOTIONS.schema


def test_a_decision_is_read_as_it_was_written_and_has_its_aliases(warehouse: Warehouse, registry: MemoryRegistry):
    decisions = [promoted(NEWER), promoted(NEWEST, minutes=1, outcome="challenger", reason="stays challenger: worse")]
    assert record(warehouse, registry, decisions) == []
    assert registry.kept == {"rnn": {"champion": NEWER, "serving": NEWER, "challenger": NEWEST}}
    rows = read_promotions(warehouse)
    assert rows.schema == PROMOTIONS.schema
    assert rows["decided_at"].to_list() == [NOW, NOW + timedelta(minutes=1)]
    assert champion(warehouse) == NEWER
    assert champion(warehouse, PREDICTED) == BASE


def test_a_version_that_was_never_registered_serves_without_an_alias(warehouse: Warehouse):
    (said,) = record(warehouse, MemoryRegistry(), [promoted(NEWER)])
    assert said.startswith(f"{NEWER} of rnn was never registered; it has no alias")
    assert champion(warehouse) == NEWER


def test_a_registry_that_is_down_does_not_undo_the_decision(warehouse: Warehouse):
    with pytest.raises(RegistryError, match=r"does not answer\. The decision is in the table promotions and holds"):
        record(warehouse, MemoryRegistry(broken=True), [promoted(NEWER)])
    assert champion(warehouse) == NEWER


# ---------------------------------------------------------------- rollback


def test_a_rollback_serves_from_the_first_session_without_a_prediction(warehouse: Warehouse, registry: MemoryRegistry):
    record(warehouse, registry, [promoted(NEWER, date(2019, 4, 1)), promoted(NEWEST, date(2019, 5, 31), 1)])
    done, notes = back(warehouse, registry)
    assert (done.version, done.replaced, done.serves_from, done.kind, notes) == (NEWER, NEWEST, NEXT, "rollback", [])
    assert (champion(warehouse, PREDICTED), champion(warehouse)) == (NEWEST, NEWER)
    assert registry.kept["rnn"] == {"champion": NEWER, "serving": NEWER}
    assert read_promotions(warehouse).row(-1, named=True)["reason"] == "worse"
    again, _ = back(warehouse, registry, minutes=31)
    assert again.version == BASE
    with pytest.raises(StockAssetsError, match=f"nothing to roll back to: {BASE} is rnn's first champion of 2019"):
        back(warehouse, registry, minutes=32)


def test_a_rollback_goes_to_any_version_that_is_named(warehouse: Warehouse, registry: MemoryRegistry):
    done, _ = back(warehouse, registry, to=NEWEST)
    assert (done.version, done.replaced, champion(warehouse)) == (NEWEST, BASE, NEWEST)


def test_a_rollback_also_takes_back_what_was_to_serve_later(warehouse: Warehouse, registry: MemoryRegistry):
    later = date(2019, 6, 10)
    record(warehouse, registry, [promoted(NEWEST, later)])
    done, _ = back(warehouse, registry)
    assert (done.version, done.serves_from) == (BASE, later)
    assert champion(warehouse, later) == BASE


@pytest.mark.parametrize(
    ("model", "to", "said"),
    [
        ("rnm", None, "there is no model rnm; expected one of ensemble, rnn, trees"),
        ("rnn", "rnn-x", f"there is no version rnn-x of rnn for model year 2019; .* 2019: {NEWER}, {NEWEST}"),
        ("rnn", BASE, f"{BASE} is the champion of rnn already; other versions of model year 2019: {NEWER}, {NEWEST}"),
        ("rnn", None, f"nothing to roll back to: {BASE} is rnn's first champion of 2019; .*: {NEWER}, {NEWEST}"),
        ("trees", None, "nothing to roll back to: trees-1 .*; other versions of model year 2019: none"),
        ("trees", NEWER, f"there is no version {NEWER} of trees"),
    ],
)
def test_a_rollback_that_cannot_be_says_what_there_is(warehouse: Warehouse, registry, model, to, said):
    with pytest.raises(StockAssetsError, match=said):
        back(warehouse, registry, model, to)
    assert read_promotions(warehouse).is_empty()
    assert registry.kept == {}


def test_a_rollback_needs_a_session_that_follows(warehouse: Warehouse, registry: MemoryRegistry):
    last = CALENDAR.sessions[-1]
    warehouse.replace_table("predictions", rows_of("predictions", pl.DataFrame({"session": [last], "model": ["rnn"]})))
    with pytest.raises(StockAssetsError, match="2019-12-31 is predicted, and the calendar of XNYS ends with it"):
        back(warehouse, registry)
    warehouse.replace_table("predictions", rows_of("predictions", pl.DataFrame({"session": [last]}).clear()))
    with pytest.raises(StockAssetsError, match="there are no predictions yet"):
        next_session(warehouse, CALENDAR)


def test_a_rollback_never_goes_to_a_version_that_knows_the_session(warehouse: Warehouse, registry: MemoryRegistry):
    warehouse.replace_table(
        "predictions", rows_of("predictions", pl.DataFrame({"session": [date(2019, 5, 29)], "model": ["rnn"]}))
    )
    with pytest.raises(CutoffError, match=f"{NEWEST} of rnn was trained through 2019-05-30, .* the session 2019-05-30"):
        back(warehouse, registry, to=NEWEST)


# ---------------------------------------------------------------- aliases


def follow(warehouse: Warehouse, registry, session: date = NEXT) -> list[str]:
    return follow_aliases(warehouse, registry, ["rnn"], session=session, now=NOW + timedelta(hours=1))


def test_first_aliases_are_set_and_then_nothing_is_done(warehouse: Warehouse, registry: MemoryRegistry):
    assert follow(warehouse, registry) == [f"rnn: the alias champion is set to {BASE}, which serves"]
    assert registry.kept == IN_SERVICE
    assert follow(warehouse, registry) == []
    assert read_promotions(warehouse).is_empty()


@pytest.mark.parametrize("chosen", [NEWEST, BASE])
def test_a_person_who_moves_the_alias_has_that_version_serve(warehouse: Warehouse, registry, chosen: str):
    """Also back to a former champion, which no promotion that was cut off can be taken for."""
    record(warehouse, registry, [promoted(NEWER, date(2019, 4, 1))])
    registry.set_alias("rnn", "champion", chosen)
    (said,) = follow(warehouse, registry)
    assert said == (
        f"rnn: the alias champion was set to {chosen} in the registry; it serves from {NEXT} on, {NEWER} did before"
    )
    row = read_promotions(warehouse).row(-1, named=True)
    assert (row["kind"], row["outcome"], row["replaced"], row["serves_from"]) == ("alias", "champion", NEWER, NEXT)
    assert (champion(warehouse, PREDICTED), champion(warehouse)) == (NEWER, chosen)
    assert registry.kept["rnn"] == {"champion": chosen, "serving": chosen}
    assert follow(warehouse, registry) == []


@pytest.mark.parametrize("done", ["nothing", "champion"])
def test_a_promotion_that_was_cut_off_is_completed_and_not_undone(warehouse: Warehouse, registry, done: str):
    follow(warehouse, registry)
    warehouse.append("promotions", promotion_rows([promoted(NEWER)]))
    if done == "champion":
        registry.set_alias("rnn", "champion", NEWER)
    assert follow(warehouse, registry) == [f"rnn: the alias champion is set to {NEWER}, which serves"]
    assert registry.kept["rnn"] == {"champion": NEWER, "serving": NEWER}
    assert read_promotions(warehouse).height == 1


def test_the_aliases_move_on_with_the_model_year(warehouse: Warehouse, registry: MemoryRegistry):
    follow(warehouse, registry)
    fresh = {"model_year": 2020, "model": "rnn", "version": "rnn-2019-12-31", "trained_through": date(2019, 12, 31)}
    warehouse.append("trained_rnn", rows_of("trained_rnn", pl.DataFrame([fresh])))
    registry.versions.add("rnn-2019-12-31")
    follow(warehouse, registry, date(2020, 1, 2))
    assert registry.kept["rnn"]["champion"] == "rnn-2019-12-31"
    assert read_promotions(warehouse).is_empty()


def test_an_alias_on_a_version_that_knows_the_session_is_refused_with_both_dates(warehouse: Warehouse, registry):
    follow(warehouse, registry)
    registry.set_alias("rnn", "champion", NEWEST)
    with pytest.raises(CutoffError, match=f"{NEWEST} of rnn was trained through 2019-05-30, .* the session 2019-05-29"):
        follow(warehouse, registry, date(2019, 5, 29))
    assert read_promotions(warehouse).is_empty()


def test_an_alias_on_a_version_of_another_year_is_refused(warehouse: Warehouse, registry: MemoryRegistry):
    follow(warehouse, registry)
    old = {"model_year": 2018, "model": "rnn", "version": "rnn-old", "trained_through": date(2017, 12, 29)}
    warehouse.append("trained_rnn", rows_of("trained_rnn", pl.DataFrame([old])))
    registry.versions.add("rnn-old")
    registry.set_alias("rnn", "champion", "rnn-old")
    with pytest.raises(ArtifactError, match=f"set to rnn-old, which is no version of model year 2019; .* {BASE}, "):
        follow(warehouse, registry)


def test_without_a_registry_there_is_nothing_to_follow(warehouse: Warehouse):
    assert follow(warehouse, NoRegistry()) == []


# ---------------------------------------------------------------- who is in service


def test_the_list_names_each_champion_with_cutoff_year_and_reason(warehouse: Warehouse, registry: MemoryRegistry):
    record(warehouse, registry, [promoted(NEWER), promoted(NEWEST, minutes=1, outcome="challenger", reason="too weak")])
    registry.set_alias("trees", "champion", "trees-1")
    rows = models_in_service(warehouse, registry, CALENDAR).to_dicts()
    assert [(row["model"], row["alias"], row["version"]) for row in rows] == [
        ("ensemble", "champion", "ensemble-1"),
        ("rnn", "champion", NEWER),
        ("rnn", "challenger", NEWEST),
        ("trees", "champion", "trees-1"),
    ]
    assert rows[1]["trained_through"] == date(2019, 3, 29)
    assert (rows[1]["model_year"], rows[1]["serves_from"], rows[1]["reason"]) == (2019, NEXT, "promoted: better")
    assert (rows[2]["serves_from"], rows[2]["reason"]) == (None, "too weak")
    assert rows[3]["serves_from"] == date(2019, 1, 1)


def test_the_list_tells_of_a_version_that_a_person_asked_for(warehouse: Warehouse, registry: MemoryRegistry):
    follow(warehouse, registry)
    registry.set_alias("rnn", "champion", NEWEST)
    rows = models_in_service(warehouse, registry, CALENDAR).filter(pl.col("model") == "rnn").to_dicts()
    assert [(row["alias"], row["version"]) for row in rows] == [("champion", BASE), ("champion (requested)", NEWEST)]


def test_the_list_is_there_before_the_first_prediction(warehouse: Warehouse, tmp_path: Path):
    empty = Warehouse(tmp_path / "none.duckdb")
    assert models_in_service(empty, NoRegistry(), CALENDAR).is_empty()
    empty.replace_table("trained_baselines", warehouse.read("trained_baselines"))
    assert models_in_service(empty, NoRegistry(), CALENDAR)["version"].to_list() == ["trees-1"]


# ---------------------------------------------------------------- at the same moment


class SlowRegistry(MemoryRegistry):
    """One whose answers take so long that two callers meet between any two of them."""

    def set_alias(self, model: str, alias: str, version: str) -> None:
        time.sleep(0.02)
        super().set_alias(model, alias, version)


@pytest.mark.parametrize("first", ["rollback", "promotion"])
def test_a_rollback_and_a_promotion_at_the_same_moment_leave_one_champion(warehouse: Warehouse, first: str):
    registry = SlowRegistry(BASE, NEWER, NEWEST)
    record(warehouse, registry, [promoted(NEWER, date(2019, 4, 1))])
    trained = trained_versions(warehouse).filter(pl.col("model") == "rnn")
    verdict = promoted(NEWEST, minutes=30, replaced=NEWER)
    notes: list[str] = []
    deeds = {
        "rollback": lambda: back(warehouse, registry, to=BASE),
        "promotion": lambda: notes.extend(record_verdicts(warehouse, registry, [verdict], versions=trained)[1]),
    }
    threads = [Thread(target=deeds[name]) for name in (first, *(deeds.keys() - {first}))]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    serving = champion(warehouse)
    assert registry.kept["rnn"]["champion"] == registry.kept["rnn"]["serving"] == serving
    assert follow_aliases(warehouse, registry, ["rnn"], session=NEXT, now=NOW) == [], "nobody moved an alias"
    if serving == BASE and notes:
        assert notes == [f"{NEWEST} waits: {BASE} replaced {NEWER} while they were compared"]


def test_a_verdict_over_a_champion_that_was_rolled_back_meanwhile_does_not_count(
    warehouse: Warehouse, registry: MemoryRegistry
):
    record(warehouse, registry, [promoted(NEWER, date(2019, 4, 1))])
    trained = trained_versions(warehouse).filter(pl.col("model") == "rnn")
    back(warehouse, registry, to=BASE)
    verdict = promoted(NEWEST, minutes=60, replaced=NEWER)
    kept, (note,) = record_verdicts(warehouse, registry, [verdict], versions=trained)
    assert (kept, note) == ([], f"{NEWEST} waits: {BASE} replaced {NEWER} while they were compared")
    assert champion(warehouse) == BASE


def test_many_rollbacks_at_once_leave_aliases_and_table_in_agreement(warehouse: Warehouse):
    registry = SlowRegistry(BASE, NEWER, NEWEST)

    done: list[str] = []

    def go(version: str, minutes: int) -> None:
        with suppress(StockAssetsError):  # it serves already
            back(warehouse, registry, to=version, minutes=minutes)
            done.append(version)

    threads = [Thread(target=go, args=(version, 9 - i)) for i, version in enumerate((NEWER, NEWEST, BASE) * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_promotions(warehouse)
    assert rows["decided_at"].n_unique() == rows.height == len(done)
    assert champion(warehouse) == rows["version"][-1], "the last to decide is the last to serve"
    assert registry.kept["rnn"]["champion"] == registry.kept["rnn"]["serving"] == champion(warehouse)
    assert follow_aliases(warehouse, registry, ["rnn"], session=NEXT, now=NOW) == []
