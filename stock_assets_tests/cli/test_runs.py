"""The runs of `make run`: one after the other, each shown, none after one that failed."""

import io
from collections.abc import Mapping, Sequence

import pytest
from rich.console import Console

from stock_assets.cli import runs
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.evening import FOLLOWED, WORK, Work
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

DAYS = ["d1", "d2", "d3"]
WORKS = [Work("bars", ("universe", "bars"), "d1", "d3", "why"), Work("report", ("report",), None, None, "why")]
TARGETS = {"universe": None, "bars": DAYS, "report": None}


class Client:
    """A server whose runs are under way when they are asked for first, and then end as `ends` says."""

    def __init__(self, *ends: str) -> None:
        self.ends = ends
        self.launched: list[tuple[tuple[str, ...], dict[str, str]]] = []
        self.asked: list[str] = []

    def launch_run(self, assets: Sequence[str], tags: Mapping[str, str]) -> str:
        assert not self.launched or self.asked[-2:] == [f"run-{len(self.launched)}"] * 2, "the one before is over"
        self.launched.append((tuple(assets), dict(tags)))
        return f"run-{len(self.launched)}"

    def run(self, run_id: str) -> dict:
        assets, tags = self.launched[int(run_id[4:]) - 1]
        status = self.ends[int(run_id[4:]) - 1] if run_id in self.asked else "STARTED"
        self.asked.append(run_id)
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        return {"id": run_id, "status": status, "tags": pairs, "assetSelection": [{"path": [one]} for one in assets]}

    def latest_runs(self, assets: Sequence[str]) -> dict[str, tuple[str | None, set[str]]]:
        return {asset: (None, {f"run-{len(self.launched)}"}) for asset in assets}

    def failures(self, run_id: str) -> list[str]:
        return [f"{run_id} bars: no bar"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0)


def made(client: Client) -> list[str]:
    """The lines that a pipe gets."""
    pipe = io.StringIO()
    try:
        runs.make_in_turn(client, WORKS, TARGETS, keys=TARGETS, console=Console(file=pipe))  # pyright: ignore[reportArgumentType]
    finally:
        client.said = pipe.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    return client.said  # pyright: ignore[reportAttributeAccessIssue]


def test_a_run_begins_when_the_one_before_is_over():
    client = Client("SUCCESS", "SUCCESS")
    assert made(client) == [
        "universe 0/1 running",
        "bars 0/3 running",
        "universe 1/1",
        "bars 3/3",
        "report 0/1 running",
        "report 1/1",
    ]
    assert [assets for assets, _ in client.launched] == [("universe", "bars"), ("report",)]
    first, last = (tags for _, tags in client.launched)
    assert (first[ASSET_PARTITION_RANGE_START_TAG], first[ASSET_PARTITION_RANGE_END_TAG]) == ("d1", "d3")
    assert ASSET_PARTITION_RANGE_START_TAG not in last
    assert FOLLOWED in first
    assert FOLLOWED not in last
    assert first[WORK] == "make run: bars"


@pytest.mark.parametrize("end", ["FAILURE", "CANCELED"])
def test_nothing_is_begun_after_a_run_that_failed(end: str):
    client = Client(end, "SUCCESS")
    with pytest.raises(StockAssetsError, match=r"^run-1 bars: no bar$"):
        made(client)
    assert len(client.launched) == 1
    assert "bars 0/3 failed" in client.said  # pyright: ignore[reportAttributeAccessIssue]
