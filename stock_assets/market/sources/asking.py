"""How a vendor is asked about many subjects: in threads, at the pace of a budget, each subject failing alone."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from stock_assets.errors import SourceError, UnknownTickerError
from stock_assets.market.sources import Failure
from stock_assets.market.sources.budget import Budget, Exhausted, GivenUp

T = TypeVar("T")


def of_each(
    subjects: Sequence[str],
    ask: Callable[[str], T],
    *,
    budget: Budget,
    on_progress: Callable[[int, int], None] = lambda _count, _total: None,
) -> tuple[dict[str, T], dict[str, Failure]]:
    """What `ask` returns for each of `subjects`, in as many threads as the budget has, and why others have no answer.

    An error that is no vendor's ends all of them.
    """
    answers: dict[str, T] = {}
    failures: dict[str, Failure] = {}
    with ThreadPoolExecutor(budget.politeness.threads) as pool:
        running = {pool.submit(ask, subject): subject for subject in sorted(set(subjects))}
        try:
            for count, future in enumerate(as_completed(running), 1):
                try:
                    answers[running[future]] = future.result()
                except (Exhausted, GivenUp, SourceError) as error:
                    failures[running[future]] = Failure(str(error), unknown=isinstance(error, UnknownTickerError))
                on_progress(count, len(running))
        except BaseException:  # cancelled, or an error of ours: the others are not waited for
            budget.stop("the run was stopped")
            pool.shutdown(cancel_futures=True)
            raise
    return {subject: answers[subject] for subject in sorted(answers)}, dict(sorted(failures.items()))
