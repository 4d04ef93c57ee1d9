from pathlib import Path

import numpy as np
import pytest

from stock_assets.errors import DamagedFileError
from stock_assets.features.panels import filled
from stock_assets_tests.disks import small_disk


@pytest.mark.parametrize("value", [np.nan, True, 0.5])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (300, 40)])
def test_a_panel_in_a_file_is_that_in_memory(tmp_path: Path, shape: tuple[int, int], value: float | bool):
    in_memory, in_file = filled(shape, value), filled(shape, value, tmp_path)
    for panel in (in_memory, in_file):
        panel[1:2, :5] = 0
    assert in_file.dtype == in_memory.dtype
    np.testing.assert_array_equal(in_file, in_memory)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_a_panel_is_an_error_before_the_panel_is_used(tmp_path: Path):
    with small_disk(tmp_path / "disk", 4) as disk:
        assert filled((100, 1000), 1.0, disk.folder).sum() == 100_000
        with pytest.raises(DamagedFileError, match=f"{disk.folder} cannot be read or written"):
            filled((1000, 1000), 1.0, disk.folder)
        assert list(disk.folder.iterdir()) == []
