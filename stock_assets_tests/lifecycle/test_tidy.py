"""The nightly tidying: it keeps what serves or served, and one part that cannot be done stops no other."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.lifecycle.champions import Promotion, promotion_rows
from stock_assets.lifecycle.materialize import tidy as module
from stock_assets.lifecycle.materialize.retired_models import remove_losers
from stock_assets.lifecycle.materialize.tidy import tidy
from stock_assets.lifecycle.retention import Removed, Retention
from stock_assets.market.calendar import calendar_of
from stock_assets.market.outcomes import without_old_reasons
from stock_assets.market.tables import FETCH_OUTCOMES, OUTCOME_SCHEMA
from stock_assets.model.materialize.versions import usable
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.artifacts import MODEL, save_artifact
from stock_assets.storage.registry import NoRegistry, Registry
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

NOW = datetime(2026, 11, 3, 3, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=500)


class Kept(NoRegistry):
    """A registry that keeps the names of versions, and the aliases of some."""

    def __init__(self, versions: dict[str, datetime], aliases: dict[str, dict[str, str]]) -> None:
        self.tracked, self.named = versions, aliases

    def versions(self) -> dict[str, datetime]:
        return self.tracked

    def aliases(self) -> dict[str, dict[str, str]]:
        return self.named

    def remove(self, versions) -> int:
        for version in versions:
            del self.tracked[version]
        return len(versions)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(data_dir=tmp_path, start=date(2020, 1, 2), tickers=("SIM01",))


@pytest.fixture
def store(settings: Settings) -> Warehouse:
    return Warehouse(settings.database, wait=0)


def trained(store: Warehouse, *versions: tuple[str, date]) -> None:
    rows = pl.DataFrame(
        {
            "model_year": [2025] * len(versions),
            "model": ["rnn"] * len(versions),
            "version": [version for version, _ in versions],
            "trained_through": [through for _, through in versions],
        },
        schema_overrides={"model_year": pl.Int32},
    )
    store.append("trained_rnn", rows_of("trained_rnn", rows))


def test_a_version_that_serves_or_served_or_may_serve_stays(store: Warehouse, settings: Settings):
    names = ("base", "champion", "predicted", "aliased", "loser", "young")
    trained(store, *((name, date(2024, 12, 31) + timedelta(days=i)) for i, name in enumerate(names)))
    decided = {"model": "rnn", "model_year": 2025, "serves_from": date(2025, 3, 3), "decided_at": LONG_AGO}
    store.append(
        "promotions",
        promotion_rows(
            [
                Promotion(version="champion", outcome="champion", kind="judged", replaced="base", reason="", **decided),
                Promotion(version="loser", outcome="challenger", kind="judged", replaced="base", reason="", **decided),
            ]
        ),
    )
    rows = pl.DataFrame({"ticker": ["SIM01"], "session": [date(2025, 2, 3)], "model_version": ["predicted"]})
    store.append("predictions", rows_of("predictions", rows))
    registry = Kept(dict.fromkeys(names, LONG_AGO) | {"young": NOW, "unfinished": LONG_AGO}, {"rnn": {"x": "aliased"}})
    tidying = tidy(store, settings, registry, now=NOW)
    assert Removed("registered versions that never served", 1) in tidying.removed
    assert set(registry.tracked) == {"base", "champion", "predicted", "aliased", "young", "unfinished"}


def save_model(settings: Settings, name: str, at: datetime = LONG_AGO) -> Path:
    folder = save_artifact(settings.artifacts / "trained_rnn" / "2025" / name, {"w": np.arange(9.0)}, {"name": name})
    os.utime(folder / MODEL, (at.timestamp(), at.timestamp()))
    return folder


@pytest.fixture
def losers(store: Warehouse, settings: Settings) -> Registry:
    """A base, its champion, and challengers of the model year 2025, each with a saved model."""
    names = ("base", "champion", "loser", "rolled", "young", "unjudged")
    rows = [
        {"model_year": 2025, "model": "rnn", "version": name, "trained_through": date(2024, 12, 31) + timedelta(days=i)}
        for i, name in enumerate(names)
    ]
    folders = {save_model(settings, name).name: f"trained_rnn/2025/{name}" for name in names}
    trained = pl.DataFrame(rows).with_columns(artifact=pl.col("version").replace(folders))
    store.append("trained_rnn", rows_of("trained_rnn", trained))
    judged = {"model": "rnn", "model_year": 2025, "serves_from": date(2025, 3, 3), "kind": "judged", "reason": ""}
    decisions = [
        ("champion", "champion", LONG_AGO), ("loser", "challenger", LONG_AGO), ("rolled", "challenger", LONG_AGO),
        ("rolled", "champion", LONG_AGO + timedelta(days=1)), ("young", "challenger", NOW - timedelta(days=30)),
    ]  # fmt: skip
    promotions = [
        Promotion(version=version, outcome=outcome, replaced="base", decided_at=at, **judged)  # pyright: ignore[reportArgumentType]
        for version, outcome, at in decisions
    ]
    store.append("promotions", promotion_rows(promotions))
    return NoRegistry()


def saved(settings: Settings) -> set[str]:
    """Those with a file in them."""
    return {file.parent.name for file in (settings.artifacts / "trained_rnn" / "2025").glob("*/*")}


def test_the_saved_model_of_a_challenger_that_lost_long_ago_goes_and_its_row_stays(
    store: Warehouse, settings: Settings, losers: Registry
):
    before = store.read("trained_rnn").sort("version")
    save_model(settings, "of a killed training")
    save_model(settings, "of a training under way", NOW)
    removed = {found.kind: found for found in tidy(store, settings, losers, now=NOW).removed}
    kind = "saved models of challengers that lost"
    assert removed[kind].count == 2
    assert saved(settings) == {"base", "champion", "rolled", "young", "unjudged", "of a training under way"}
    after = store.read("trained_rnn").sort("version")
    assert_frame_equal(after.drop("artifact"), before.drop("artifact"))
    assert after.filter(pl.col("artifact").is_null())["version"].to_list() == ["loser"]
    assert list(problems_of(settings.data_dir)) == []
    assert Removed(kind, 0) in tidy(store, settings, losers, now=NOW).removed
    row = after.filter(pl.col("version") == "loser").row(0, named=True) | {"pca_version": "p"}
    with pytest.raises(ArtifactError, match="loser lost as a challenger long ago"):
        usable(row, date(2026, 1, 2), "p")


@pytest.mark.parametrize("step", range(5))
def test_a_kill_while_models_are_removed_leaves_no_row_without_its_model(
    store: Warehouse, settings: Settings, losers: Registry, step: int, monkeypatch: pytest.MonkeyPatch
):
    """Dies after the rows are written, the folder is renamed, and each file is gone."""
    calls = iter(range(100))

    class Killed(BaseException):
        pass

    def dying(act: Callable[..., object]) -> Callable[..., object]:
        def then_dies(*arguments: object, **options: object) -> object:
            done = act(*arguments, **options)
            if next(calls) == step:
                raise Killed
            return done

        return then_dies

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "replace_rows", dying(Warehouse.replace_rows))
        for name in ("rename", "unlink", "rmdir"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        with pytest.raises(Killed):
            remove_losers(store, settings, losers, before=NOW - Retention().unserved)
    assert [problem for problem in problems_of(settings.data_dir) if "names" in problem] == []
    remove_losers(store, settings, losers, before=NOW - Retention().unserved)
    assert saved(settings) == {"base", "champion", "rolled", "young", "unjudged"}


def test_checkpoints_of_trainings_that_never_went_on_go(store: Warehouse, settings: Settings):
    files = {}
    for name, age in ((".checkpoint-rnn-2025-12-31", 31), (".checkpoint-rnn-2026-10-01", 1), ("model.json", 400)):
        files[name] = settings.artifacts / "trained_rnn" / "2026" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(b"12345")
        moment = (NOW - timedelta(days=age)).timestamp()
        os.utime(files[name], (moment, moment))
    tidying = tidy(store, settings, NoRegistry(), now=NOW)
    assert Removed("checkpoints of trainings", 1, 5) in tidying.removed
    assert [name for name, file in files.items() if file.exists()] == [".checkpoint-rnn-2026-10-01", "model.json"]


def outcomes(*rows: tuple[str, date, date, str, str]) -> pl.DataFrame:
    return pl.DataFrame([(*row, LONG_AGO) for row in rows], OUTCOME_SCHEMA, orient="row")


def test_old_words_of_a_vendor_are_joined_and_no_outcome_is_lost(store: Warehouse, settings: Settings):
    """2020-01-02 is a Thursday, and the 6th follows the 3rd."""
    days = [date(2020, 1, day) for day in (2, 3, 6, 7, 8)]
    stored = outcomes(
        *(("A", day, day, "error", f"HTTP 50{i}") for i, day in enumerate(days[:3])),
        ("A", days[3], days[3], "halted", "bars before and after"),
        ("A", days[4], days[4], "error", "HTTP 504"),
        ("B", days[0], days[0], "error", "one"),
        ("B", days[2], days[2], "error", "not its neighbour"),
    )
    expected = outcomes(
        ("A", days[0], days[2], "error", "HTTP 502"),
        ("A", days[3], days[3], "halted", "bars before and after"),
        ("A", days[4], days[4], "error", "HTTP 504"),
        ("B", days[0], days[0], "error", "one"),
        ("B", days[2], days[2], "error", "not its neighbour"),
    )
    calendar = calendar_of(settings)
    assert_frame_equal(without_old_reasons(stored, date(2020, 2, 1), calendar), expected)
    assert_frame_equal(without_old_reasons(stored, days[0], calendar), stored)
    store.append("fetch_outcomes", stored)
    assert Removed("reasons of fetch_outcomes", 2) in tidy(store, settings, NoRegistry(), now=NOW).removed
    assert_frame_equal(FETCH_OUTCOMES.fit(store.read("fetch_outcomes")).sort("ticker", "first"), expected)
    assert Removed("reasons of fetch_outcomes", 0) in tidy(store, settings, NoRegistry(), now=NOW).removed


def test_what_cannot_be_done_is_left_and_told_and_the_rest_goes_on(
    store: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    def no_room(*_: object) -> None:
        raise StockAssetsError("no room for the copy")

    store.append("fetch_outcomes", outcomes())
    monkeypatch.setattr(module, "compact", no_room)
    tidying = tidy(store, settings, NoRegistry(), now=NOW)
    assert tidying.failures == ["store compacted: no room for the copy"]
    assert len(tidying.removed) > 5


def test_a_market_that_was_never_started_has_nothing_to_tidy(store: Warehouse, settings: Settings):
    tidying = tidy(store, settings, NoRegistry(), now=NOW, keep=Retention(events=timedelta(0)))
    assert not tidying.failures
    assert {removed.count for removed in tidying.removed} == {0}
    assert not settings.database.exists()


def test_what_was_removed_is_a_line():
    assert str(Removed("event files of runs", 1234, 5_600_000)) == "event files of runs: 1,234, 5.6 MB"
