"""`stock-assets models` and `stock-assets rollback`, with the registry off and once with a real one."""

from pathlib import Path

import pytest

from stock_assets.lifecycle.materialize.champions import read_promotions
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.cli.conftest import Call, one_line
from stock_assets_tests.lifecycle.store import BASE, NEWER, NEWEST, handmade_store


@pytest.fixture(autouse=True)
def _without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_ASSETS_START", "2018-01-02")
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", "off")


@pytest.fixture
def store(data_dir: Path) -> Warehouse:
    return handmade_store(data_dir / "stock_assets.duckdb")


def cells(said: str) -> list[list[str]]:
    lines = [line.strip("│").split("│") for line in said.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines]


def test_a_rollback_says_what_serves_from_when_on_and_the_list_shows_it(call: Call, store: Warehouse):
    code, said, complaint = call("rollback", "rnn", "--to", NEWER, "--reason", "[loses] since May")
    assert (code, complaint) == (0, "")
    assert said == (
        f"{NEWER} is the champion of rnn from 2019-06-03 on, in place of {BASE}; to have it serve the newest predicted "
        "session too: stock-assets republish\n"
    )
    assert read_promotions(store)["reason"].to_list() == ["[loses] since May"]
    code, said, _ = call("models")
    assert code == 0
    assert cells(said) == [
        ["ensemble", "champion", "ensemble-1", "2018-12-31", "2019", "2019-01-01", cells(said)[0][-1]],
        ["rnn", "champion", NEWER, "2019-03-29", "2019", "2019-06-03", "[loses] since May"],
        ["trees", "champion", "trees-1", "2018-12-31", "2019", "2019-01-01", cells(said)[2][-1]],
    ]
    assert call("rollback", "rnn")[0] == 0
    assert read_promotions(store)["version"].to_list() == [NEWER, BASE]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rnm",), "there is no model rnm; expected one of ensemble, rnn, trees"),
        (("rnn",), f"nothing to roll back to: {BASE} is rnn's first champion of 2019"),
        (("rnn", "--to", "[red]x[/]"), "there is no version [red]x[/] of rnn for model year 2019"),
    ],
)
def test_a_rollback_that_cannot_be_is_one_line(call: Call, arguments: tuple[str, ...], said: str):
    code, answer, complaint = call("rollback", *arguments)
    assert (code, answer) == (2, "")
    assert one_line(complaint)
    assert said in complaint


def test_without_a_model_there_is_nothing_to_list_or_roll_back(call: Call):
    for command, said in (
        (("models",), "no model is trained yet"),
        (("rollback", "rnn"), "there are no predictions yet"),
    ):
        code, _, complaint = call(*command)
        assert code == 2
        assert one_line(complaint)
        assert said in complaint


def test_a_damaged_registry_is_one_line_and_the_rollback_holds(
    call: Call,
    store: Warehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "broken.db").write_text("no database")
    monkeypatch.setenv("STOCK_ASSETS_MLFLOW", f"sqlite:///{tmp_path}/broken.db")
    for command in ("models",), ("rollback", "rnn", "--to", NEWEST):
        code, _, complaint = call(*command)
        assert code == 2
        assert one_line(complaint)
        assert f"sqlite:///{tmp_path}/broken.db is no registry of MLflow or is damaged" in complaint
    assert "is in the table promotions and holds" in complaint
    assert read_promotions(store)["version"].to_list() == [NEWEST]
