"""The job rollback as the UI launches it, on a store whose rows were made by hand."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.lifecycle.materialize.champions import read_promotions
from stock_assets.settings import read_settings
from stock_assets.storage.registry import MlflowRegistry, NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import BASE, NEWER, NEXT, NOW, MemoryRegistry, handmade_store


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    folder = tmp_path_factory.mktemp("champions")
    span = {"start": date(2018, 1, 2), "end": date(2019, 12, 31), "first_model_year": 2019}
    settings = read_settings(source="simulated", data_dir=folder, **span)
    handmade_store(settings.database)
    return build_definitions(settings)


@pytest.fixture
def warehouse(definitions: dg.Definitions) -> Warehouse:
    found = (definitions.resources or {})["warehouse"]
    assert isinstance(found, Warehouse)
    return found


def go_back(definitions: dg.Definitions, registry: MemoryRegistry, *, fail: bool = False, **config: str):
    job = definitions.resolve_job_def("rollback")
    clock = dg.ResourceDefinition.hardcoded_resource(lambda: NOW)
    return job.execute_in_process(
        run_config={"ops": {"set_champion": {"config": config}}},
        resources={**(definitions.resources or {}), "registry": registry, "clock": clock},
        raise_on_error=not fail,
    )


def test_the_job_sets_the_champion_and_tells_so(definitions: dg.Definitions, warehouse: Warehouse):
    registry = MemoryRegistry(BASE, NEWER)
    assert go_back(definitions, registry, model="rnn", version=NEWER, reason="a drill").success
    row = read_promotions(warehouse).row(-1, named=True)
    assert (row["version"], row["replaced"], row["serves_from"], row["decided_at"]) == (NEWER, BASE, NEXT, NOW)
    assert (row["kind"], row["reason"]) == ("rollback", "a drill")
    result = go_back(definitions, registry, model="rnn")
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    told = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert (told["champion"], told["replaced"], told["serves_from"]) == (BASE, NEWER, str(NEXT))
    assert registry.kept["rnn"]["champion"] == BASE


def test_the_job_fails_with_what_there_is(definitions: dg.Definitions, warehouse: Warehouse):
    before = read_promotions(warehouse).height
    result = go_back(definitions, MemoryRegistry(), fail=True, model="rnm")
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error
    assert "there is no model rnm; expected one of ensemble, rnn, trees" in (error.cause or error).message
    assert read_promotions(warehouse).height == before


def test_the_launchpad_explains_what_it_asks_for(definitions: dg.Definitions):
    job = definitions.resolve_job_def("rollback")
    assert "stock-assets rollback MODEL" in (job.description or "")
    (op,) = job.graph.node_defs
    assert isinstance(op, dg.OpDefinition)
    assert op.pool == "duckdb"
    fields = op.config_schema.config_type.fields  # pyright: ignore[reportAttributeAccessIssue]
    assert {name: field.is_required for name, field in fields.items()} == {
        "model": True,
        "version": False,
        "reason": False,
    }
    assert all(field.description for field in fields.values())


def test_the_registry_follows_the_settings(tmp_path: Path, definitions: dg.Definitions):
    registry = (definitions.resources or {})["registry"]
    assert isinstance(registry, MlflowRegistry)
    assert registry.uri.endswith("/mlflow/mlflow.db")
    off = build_definitions(read_settings(source="simulated", data_dir=tmp_path, mlflow="off"))
    assert isinstance((off.resources or {})["registry"], NoRegistry)
