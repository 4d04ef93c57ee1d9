"""Dagster's memory and the store: where they differ a person is called, and the difference is requested."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.definitions import build_definitions
from stock_assets.defs.comparison import keys_of
from stock_assets.defs.runs import RANGE_END, RANGE_START
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.evening import TRADED
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.lifecycle.partitions import KEY, ON_DEMAND, Search, Stored, compared, held_by_both, works_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.defs.test_automation import run
from stock_assets_tests.lifecycle.store import CALENDAR, PREDICTED, forget, handmade_store, lose, publish_nothing

NOW = datetime(2019, 6, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = ["2019-05-28", "2019-05-29", "2019-05-30", "2019-05-31"]


class Inbox:
    name = "inbox"

    def __init__(self) -> None:
        self.messages: list[Alert] = []

    def send(self, alert: Alert, _repeated: int) -> None:
        self.messages.append(alert)


@pytest.fixture
def instance(fresh_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    return fresh_instance


@pytest.fixture
def market(tmp_path: Path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)


class Desk:
    """The sensor on a store and an instance, from tick to tick."""

    def __init__(self, instance: dg.DagsterInstance, market: Settings) -> None:
        self.instance, self.inbox, self.cursor = instance, Inbox(), None
        self.repository = build_definitions(market).get_repository_def()
        self.store = Warehouse(market.database)

    def tick(self, now: datetime) -> dg.RunRequest | str:
        resources = {"warehouse": self.store, "channels": cast(Sequence, [self.inbox]), "clock": lambda: now}
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=self.repository, resources=resources
        )
        done = self.repository.get_sensor_def("store_comparison").evaluate_tick(context)
        self.cursor = done.cursor or self.cursor
        for event in done.asset_events:
            self.instance.report_runless_asset_event(event)
        return done.run_requests[0] if done.run_requests else str(done.skip_message)

    def materialized(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def settled(self, now: datetime) -> list[tuple[list[str], str | None, str | None]]:
        """What the sensor asks for until it is done; every run succeeds without making anything."""
        asked = []
        while isinstance(request := self.tick(now), dg.RunRequest):
            assets = [key.to_user_string() for key in request.asset_selection or ()]
            asked.append((assets, request.tags.get(RANGE_START), request.tags.get(RANGE_END)))
            run(self.instance, dg.DagsterRunStatus.SUCCESS, None, **request.tags)
        return asked


def test_what_only_the_store_has_is_reported_and_nothing_is_made_of_it(instance: dg.DagsterInstance, market: Settings):
    handmade_store(market.database)
    desk = Desk(instance, market)
    assert "partition(s) of the store were reported to Dagster" in str(desk.tick(NOW))
    assert desk.materialized("predictions") == {str(day) for day in CALENDAR.between(date(2019, 5, 1), PREDICTED)}
    assert desk.materialized("trained_rnn") == {"2019"}
    assert desk.materialized("drift") == set(), "a session without a row may never have been made"
    assert instance.get_latest_materialization_event(dg.AssetKey("operations")) is not None
    assert "were compared at 2019-06-01 01:00 UTC" in str(desk.tick(NOW + timedelta(hours=1)))
    assert desk.tick(NOW + DAY) == "Dagster and the store hold the same"
    assert desk.inbox.messages == []


def test_lost_rows_are_an_alert_and_are_made_again(instance: dg.DagsterInstance, market: Settings):
    store = handmade_store(market.database)
    rows = store.read("predictions")
    desk = Desk(instance, market)
    desk.tick(NOW)
    lose(store, "predictions", date(2019, 5, 2), date(2019, 5, 3), date(2019, 5, 20))
    assert "the store lacks predictions 2019-05-02 to 2019-05-20 (3)" in str(desk.tick(NOW + DAY))
    (alert,) = desk.inbox.messages
    assert alert.title == "the store lost 3 partition(s) that were made"
    assert desk.settled(NOW + DAY)[:2] == [
        (["predictions", *TRADED, "publication"], "2019-05-02", "2019-05-03"),
        (["predictions", *TRADED, "publication"], "2019-05-20", "2019-05-20"),
    ]
    assert [record.alert.key for record in open_alerts(store)] == [KEY], "they are not there yet"
    assert len(desk.inbox.messages) == 1, "nor asked for again before the next day"
    assert "the store lacks" in str(desk.tick(NOW + 2 * DAY))
    store.replace_sessions("predictions", days := sorted(set(rows["session"])), rows)
    publish_nothing(store, *days)
    desk.settled(NOW + 2 * DAY)
    assert open_alerts(store) == []


def test_a_store_that_is_gone_is_made_again_in_flow_order(instance: dg.DagsterInstance, market: Settings):
    handmade_store(market.database)
    desk = Desk(instance, market)
    desk.tick(NOW)
    market.database.unlink()
    lacks = str(desk.tick(NOW + DAY))
    assert "trained_ensemble 2019, predictions 2019-05-01 to 2019-05-31 (22), operations" in lacks
    asked = [assets for assets, _, _ in desk.settled(NOW + DAY)]
    assert sorted(asked[:2]) == [["trained_baselines"], ["trained_rnn"]]
    assert asked[2:] == [["trained_ensemble"], ["predictions", *TRADED, "publication"], ["operations"]]


def test_a_partition_that_was_never_recorded_is_lost_where_dagster_holds_it(
    instance: dg.DagsterInstance, market: Settings
):
    store = handmade_store(market.database)
    desk = Desk(instance, market)
    desk.tick(NOW)
    forget(store, "predictions", PREDICTED)
    assert "the store lacks predictions 2019-05-31" in str(desk.tick(NOW + DAY))


KEYS = st.sampled_from(DAYS)


@given(st.frozensets(KEYS), st.frozensets(KEYS), st.frozensets(KEYS), st.frozensets(KEYS))
def test_every_partition_is_there_or_made_and_what_is_lost_is_requested(held, with_rows, without, lost):
    stored = {"drift": Stored(with_rows, without - with_rows, lost - with_rows - without)}
    keys, materialized = {"drift": DAYS}, {"drift": held}
    found, agreed = compared(keys, materialized, stored), held_by_both(keys, materialized, stored)["drift"]
    there = stored["drift"].there
    assert agreed <= there, "what is not asked for is in the store"
    assert agreed | set(found.lost.get("drift", ())) >= held
    assert set(found.unreported.get("drift", ())) == with_rows - held
    asked = [day for work in works_of(found, keys, now=NOW) for day in DAYS if str(work.first) <= day <= str(work.last)]
    assert sorted(asked) == sorted(held - there)


def test_many_stretches_are_one_run_and_what_is_on_demand_is_left_to_a_person():
    days = [f"2019-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 29)]
    every_other = {"drift": days[::2], **{asset: {""} for asset in ON_DEMAND}}
    keys = {"drift": days, **dict.fromkeys(ON_DEMAND)}
    found = compared(keys, every_other, dict.fromkeys(keys, Stored()))
    assert set(found.lost) == {"drift", *ON_DEMAND}
    (work,) = works_of(found, keys, now=NOW)
    assert (work.assets, work.first, work.last) == (("drift",), days[0], days[-2])
    assert Search.parse(Search(NOW, (work,)).text()) == Search(NOW, (work,))


def test_every_asset_of_the_platform_is_a_table_that_is_compared(market: Settings):
    keys = keys_of(build_definitions(market).get_repository_def(), NOW)
    every = {asset: set(of_asset or [""]) for asset, of_asset in keys.items()}
    assert set(compared(keys, every, dict.fromkeys(keys, Stored())).lost) == set(keys)
