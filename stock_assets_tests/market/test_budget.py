"""The shared budget of requests, on a clock that nobody waits for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from stock_assets.market.sources.budget import Budget, Exhausted, GivenUp, Pace, Politeness, Transient
from stock_assets_tests.market.fake_time import FakeTime

PATIENT = Politeness(
    per_second=2,
    tries=4,
    backoff=1,
    longest_backoff=3,
    failures=6,
    pause=60,
    longest_pause=200,
    patience=1000,
    timeout=10,
)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def budget_of(time: FakeTime, said: list[str] | None = None, politeness: Politeness = PATIENT) -> Budget:
    return Budget(
        politeness,
        clock=time.clock,
        sleep=time.sleep,
        chance=lambda: 1.0,
        say=(said if said is not None else []).append,
    )


def asking(budget: Budget, time: FakeTime, answers: list[Exception | str], asked: list[float]) -> Callable[[], str]:
    """A vendor who gives these answers one after another, the last for ever; `asked` gets the moments."""

    def ask() -> str:
        budget.take()
        asked.append(round(time.now, 9))
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_requests_of_all_threads_take_turns(time: FakeTime) -> None:
    budget = budget_of(time)
    left: list[float] = []

    def work(_: int) -> None:
        for _ in range(5):
            budget.take()
            left.append(time.now)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(left) == 20
    assert time.now >= 19 / PATIENT.per_second
    moments = sorted(left)
    assert all(later - earlier > 0 for earlier, later in pairwise(moments))


def test_what_failed_is_tried_again_after_doubling_pauses(time: FakeTime) -> None:
    budget, asked = budget_of(time), []
    answers = [Transient("HTTP 503"), Transient("HTTP 503"), Transient("HTTP 503"), "prices"]
    assert budget.patiently("A", asking(budget, time, answers, asked)) == "prices"
    assert asked == [0, 1, 3, 6]  # 1 s, 2 s, then 3 s at most


def test_pauses_differ_by_chance(time: FakeTime) -> None:
    budget = Budget(PATIENT, clock=time.clock, sleep=time.sleep, chance=lambda: 0.5)
    asked: list[float] = []
    budget.patiently("A", asking(budget, time, [Transient("HTTP 503"), "prices"], asked))
    assert asked == [0, 0.75]


def test_a_ticker_whose_tries_all_fail_says_how(time: FakeTime) -> None:
    budget, asked = budget_of(time), []
    with pytest.raises(Exhausted, match=r"^HTTP 503 \(4 tries\)$"):
        budget.patiently("A", asking(budget, time, [Transient("HTTP 503")], asked))
    assert len(asked) == 4


def test_what_is_for_ever_is_not_tried_again(time: FakeTime) -> None:
    budget, asked = budget_of(time), []
    with pytest.raises(LookupError):
        budget.patiently("A", asking(budget, time, [LookupError("unknown")], asked))
    assert asked == [0]


def test_retry_after_holds_for_everybody(time: FakeTime) -> None:
    said: list[str] = []
    budget, asked, others = budget_of(time, said), [], []
    refusal = Transient("HTTP 429", refused=True, retry_after=90)

    def ask() -> str:
        budget.take()
        asked.append(time.now)
        if len(asked) == 1:
            raise refusal
        return "prices"

    assert budget.patiently("A", ask) == "prices"
    budget.patiently("B", asking(budget, time, ["prices"], others))
    assert asked == [0, 90]
    assert others == [90.5]
    assert said == ["the vendor fails every ticker (HTTP 429): all requests pause for 90 s"]


def test_a_vendor_who_fails_everyone_is_asked_once_per_pause(time: FakeTime) -> None:
    said: list[str] = []
    budget, asked = budget_of(time, said), []
    answers: list[Exception | str] = [*[Transient("HTTP 429", refused=True)] * 6, "prices"]
    assert budget.patiently("A", asking(budget, time, answers, asked)) == "prices"
    assert asked == [0, 1, 3, 63, 183, 383, 583]  # after the third refusal 60 s, then 120 s, then 200 s at most
    assert len(said) == 4
    # the vendor is back: the pace is the usual one, and the next pause is a first one again
    more: list[float] = []
    for _ in range(3):
        budget.patiently("B", asking(budget, time, ["prices"], more))
    assert [later - earlier for earlier, later in pairwise(more)] == [0.5, 0.5]


def test_one_bad_ticker_does_not_pause_the_others(time: FakeTime) -> None:
    said: list[str] = []
    politeness = Politeness(tries=20, failures=5, backoff=1, longest_backoff=1)
    budget = budget_of(time, said, politeness)
    with pytest.raises(Exhausted):
        budget.patiently("BAD", asking(budget, time, [Transient("HTTP 500")], []))
    assert said == []
    for ticker in "ABC":
        with pytest.raises(Exhausted):
            budget.patiently(ticker, asking(budget, time, [Transient("HTTP 500")], []))
    assert said == []
    with pytest.raises(GivenUp):  # the fifth bad ticker in a row, with no answer in between
        budget.patiently("D", asking(budget, time, [Transient("HTTP 500")], []))
    assert said


def test_patience_ends_in_one_clear_error_for_all(time: FakeTime) -> None:
    budget = budget_of(time)
    refusal = Transient("HTTP 429: 'Too Many Requests'", refused=True)
    with pytest.raises(GivenUp, match=r"gave up: no answer since \d+ s, last HTTP 429: 'Too Many Requests'") as error:
        budget.patiently("A", asking(budget, time, [refusal], []))
    assert "exceed the patience of 1000 s" in str(error.value)
    assert time.now < 1000
    asked: list[float] = []
    with pytest.raises(GivenUp):
        budget.patiently("B", asking(budget, time, ["prices"], asked))
    assert asked == []


def test_a_wait_beyond_our_patience_is_not_waited(time: FakeTime) -> None:
    budget = budget_of(time)
    with pytest.raises(GivenUp, match="another wait of 3600 s"):
        budget.patiently("A", asking(budget, time, [Transient("HTTP 429", refused=True, retry_after=3600)], []))
    assert time.now < 10


def test_a_stopped_run_asks_nothing_more(time: FakeTime) -> None:
    budget = budget_of(time)
    budget.stop("cancelled")
    with pytest.raises(GivenUp, match="cancelled"):
        budget.take()


def test_the_pace_tells_what_is_left(time: FakeTime) -> None:
    said: list[str] = []
    pace = Pace("Yahoo", said.append, every=10, clock=time.clock)
    for done in range(1, 31):
        time.now += 1
        pace(done, 30)
    assert said == [
        "Yahoo: 10 of 30 tickers, about 20 s to go",
        "Yahoo: 20 of 30 tickers, about 10 s to go",
        "Yahoo: 30 of 30 tickers",
    ]
    time.now += 100
    pace(1, 3)  # another fetch begins
    assert len(said) == 3
