"""A store on a disk that is full."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from stock_assets.errors import DamagedFileError
from stock_assets.storage.attached import attached
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.disks import small_disk
from stock_assets_tests.storage.test_torn_log import labels_of

DAYS = [date(2026, 1, 5) + timedelta(days=number) for number in range(40)]


@pytest.mark.parametrize("kept_open", [False, True], ids=["opened for each write", "kept open"])
@pytest.mark.parametrize("free", [50_000, 300_000, 700_000])
def test_a_full_disk_is_one_line_and_what_was_committed_stays(tmp_path: Path, free: int, kept_open: bool):
    with small_disk(tmp_path / "disk", 16) as disk:
        store = Warehouse(disk.folder / "stock_assets.duckdb", wait=0)
        store.replace_sessions("labels", DAYS[:1], labels_of(DAYS[0]))
        disk.leave(free)
        committed, refusals = [DAYS[0]], []

        def write_all() -> None:
            for day in DAYS[1:]:
                try:
                    store.replace_sessions("labels", [day], labels_of(day))
                    committed.append(day)
                except DamagedFileError as refusal:
                    refusals.append(refusal)
                    return

        try:
            if kept_open:
                with attached(store.path, read_only=False, wait=0):
                    write_all()
            else:
                write_all()
        except DamagedFileError as refusal:
            refusals.append(refusal)
        for refusal in refusals:
            assert "No space left on device; make room on its disk" in str(refusal)
            assert "\n" not in str(refusal)
        disk.leave(16_000_000)
        assert {*committed} <= store.sessions("labels"), "what was committed stays"
        store.replace_sessions("labels", DAYS, labels_of(DAYS[-1]))
        assert list(problems_of(disk.folder)) == []
