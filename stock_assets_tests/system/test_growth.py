"""Three evenings and their nights, and a night years later: what goes, and what is still there."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import dagster as dg
from dagster._core.test_utils import freeze_time
from polars.testing import assert_frame_equal

from benchmarks.growth import BEFORE, LOOKS, bytes_by_kind, evenings_of, play
from stock_assets.lifecycle.materialize.serving import serving_versions
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.time_travel import tables_as_of
from stock_assets.settings import settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.system.test_drill import moment

EVENINGS = 3


def memory(instance: dg.DagsterInstance) -> dict[str, object]:
    """What the platform and the UI ask Dagster for."""
    return {
        key.to_user_string(): (
            instance.get_materialized_partitions(key),
            event and event.asset_materialization,
        )
        for key in instance.all_asset_keys()
        for event in [instance.get_latest_materialization_event(key)]
    }


def test_what_is_old_goes_and_what_is_needed_stays(tmp_path: Path):
    with evenings_of(tmp_path / "data") as (config, running, defs):
        calendar, store = calendar_of(config), Warehouse(config.database)
        first = calendar.position(BEFORE) + 1
        sessions = calendar.sessions[first : first + EVENINGS]
        play(running, defs, sessions, with_tidying=True)
        assert store.sessions("predictions") >= set(sessions)
        ticks = Counter(status_of_ticks(config.dagster_home))
        assert ticks["SKIPPED"] < 2.2 * LOOKS * len(list(defs.sensors or ())), "those of a day, and not of all"
        shards = config.dagster_home / "history" / "runs"
        assert {log.stat().st_size for log in shards.glob("*-*.db-wal")} <= {0}
        before = bytes_by_kind(config)
        remembered = memory(running.instance)
        rows = {table: store.read(table) for table in store.row_counts()}
        as_of = tables_as_of(store, config, moment(sessions[1]))
        registry = open_registry(config.mlflow_uri, config.mlflow_artifacts)
        pca = str(store.read("pca_components")["pca_version"][0])
        asked = {"sessions": list(sessions), "pca_version": pca, "now": moment(sessions[-1])}
        serving = serving_versions(store, registry, **asked)
        with freeze_time(moment(sessions[-1]) + timedelta(days=2000)):
            assert defs.resolve_job_def("tidy").execute_in_process(instance=running.instance).success
        after = bytes_by_kind(config)
        assert after["events of one run each"] < before["events of one run each"] / 3
        assert memory(running.instance) == remembered
        assert set(store.row_counts()) == set(rows)
        for table, stored in rows.items():
            assert_frame_equal(store.read(table), stored, check_row_order=False)
        for table, known in tables_as_of(store, config, moment(sessions[1])).items():
            assert_frame_equal(known, as_of[table], check_row_order=False)
        assert serving_versions(store, registry, **asked) == serving
        for table in ("trained_rnn", "trained_baselines"):
            assert all((config.artifacts / folder).is_dir() for folder in rows[table]["artifact"])
    settings.cache_clear()


def status_of_ticks(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "schedules" / "schedules.db")) as ticks:
        return [status for (status,) in ticks.execute("SELECT status FROM job_ticks")]
