"""Decisions about champions are made one at a time, over all threads and processes."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from stock_assets.files import locked
from stock_assets.storage.warehouse import Warehouse

P = ParamSpec("P")
R = TypeVar("R")


def alone(function: Callable[Concatenate[Warehouse, P], R]) -> Callable[Concatenate[Warehouse, P], R]:
    """`function` of the store, in one process or thread at a time.

    It reads what was decided, decides, writes the table and then the aliases: two at once would leave the aliases of
    one and the newest row of the other, which looks as if a person had moved the alias.
    """

    @wraps(function)
    def one_at_a_time(store: Warehouse, *arguments: P.args, **keywords: P.kwargs) -> R:
        with locked(store.path.parent / ".promotions.lock"):
            return function(store, *arguments, **keywords)

    return one_at_a_time
