"""What we borrow from inside torch: the only file of the package that names a private symbol of it.

`torch.cpu._is_avx512_bf16_supported` tells whether the processor computes in bfloat16 itself (the AVX-512 BF16
instructions). Training in bfloat16 is faster there and far slower where it is emulated. torch has a public question
for GPUs alone (`torch.cuda.is_bf16_supported`).
"""

from collections.abc import Callable
from types import ModuleType

import torch

from stock_assets.errors import PrivateApiError

#: The version of torch that the symbol was tried with; constraints.txt pins it.
TRIED_WITH = "2.13.0"
SYMBOL = "_is_avx512_bf16_supported"


def _borrowed(module: ModuleType) -> Callable[[], bool]:
    """The symbol of `module`, which is torch.cpu. Raises PrivateApiError where it has none."""
    function = getattr(module, SYMBOL, None)
    if not callable(function) or not isinstance(function(), bool):
        raise PrivateApiError(
            f"torch {torch.__version__} has no torch.cpu.{SYMBOL} that answers True or False, which stock_assets "
            f"borrows and has tried with torch {TRIED_WITH}; expected that version: pip install 'torch=={TRIED_WITH}'"
        )
    return function  # pyright: ignore[reportReturnType]: as just checked


#: Whether this processor computes in bfloat16 itself.
cpu_computes_in_bfloat16 = _borrowed(torch.cpu)
