"""What we borrow from inside torch is there, and missed loudly."""

from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import torch

from stock_assets.errors import PrivateApiError
from stock_assets.private import torch as borrowed

ROOT = Path(borrowed.__file__).parents[2]


def test_the_symbol_was_tried_with_the_pinned_version():
    assert version("torch").split("+")[0] == borrowed.TRIED_WITH
    assert f"torch=={borrowed.TRIED_WITH}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_symbol_answers():
    assert borrowed.cpu_computes_in_bfloat16() is torch.cpu._is_avx512_bf16_supported()


@pytest.mark.parametrize("answer", [None, "yes"])
def test_a_symbol_that_is_gone_or_answers_something_else_is_one_error_with_the_way_out(answer: str | None):
    changed = ModuleType("cpu")
    if answer:
        setattr(changed, borrowed.SYMBOL, lambda: answer)
    with pytest.raises(PrivateApiError, match=r"has no torch\.cpu\._is_avx512_bf16_supported") as caught:
        borrowed._borrowed(changed)
    assert f"pip install 'torch=={borrowed.TRIED_WITH}'" in str(caught.value)


def test_no_other_file_reaches_into_torch():
    package = Path(borrowed.__file__).parent.parent
    files = set(package.rglob("*.py")) - {Path(borrowed.__file__)}
    assert not [path.name for path in files if "torch.cpu._" in path.read_text() or "torch._" in path.read_text()]
