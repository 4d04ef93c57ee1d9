"""How many requests a client may make, against a clock that the tests set."""

from hypothesis import given
from hypothesis import strategies as st

from stock_assets.serving.limits import Quota, RateLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_emptied_and_fills_evenly():
    clock = Clock()
    limits = RateLimits(4, clock)
    assert [limits.take("a").remaining for _ in range(4)] == [3, 2, 1, 0]
    refused = limits.take("a")
    assert refused == Quota(allowed=False, limit=4, remaining=0, full_in=60, next_in=15)
    assert limits.take("b").allowed  # another client
    clock.now += 14.9
    assert not limits.take("a").allowed
    clock.now += 0.1
    assert limits.take("a").allowed
    assert not limits.take("a").allowed
    clock.now += 3600
    assert limits.take("a") == Quota(allowed=True, limit=4, remaining=3, full_in=15, next_in=0)


def test_a_failed_request_costs_nothing():
    limits = RateLimits(1, Clock())
    for _ in range(5):
        assert limits.take("a").allowed
        assert limits.give_back("a").remaining == 1
    assert limits.give_back("a").remaining == 1  # never more than the bucket holds


def test_the_headers_state_what_is_left_and_when_it_resets():
    limits = RateLimits(2, Clock())
    assert dict(limits.take("a").headers()) == {
        b"ratelimit": b'"minute";r=1;t=30',
        b"ratelimit-policy": b'"minute";q=2;w=60',
    }
    limits.take("a")
    assert dict(limits.take("a").headers())[b"retry-after"] == b"30"


def test_the_memory_is_bounded_and_the_busy_keep_their_bucket():
    limits = RateLimits(1, Clock(), client_limit=10)
    assert limits.take("busy").allowed
    for i in range(1000):
        limits.take(f"address {i}")
        assert not limits.take("busy").allowed
        assert len(limits) <= 10


def test_a_clock_that_goes_back_gives_nothing():
    clock = Clock()
    limits = RateLimits(1, clock)
    limits.take("a")
    clock.now -= 1000
    assert not limits.take("a").allowed


@given(
    per_minute=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 120), st.booleans()), max_size=60),
)
def test_no_client_gets_more_than_a_bucket_and_its_filling(per_minute: int, steps: list[tuple[float, bool]]):
    clock = Clock()
    limits = RateLimits(per_minute, clock)
    allowed = 0
    for pause, fails in steps:
        clock.now += pause
        quota = limits.take("a")
        assert 0 <= quota.remaining <= per_minute
        assert quota.allowed or quota.next_in >= 1
        allowed += quota.allowed
        if fails and quota.allowed:
            limits.give_back("a")
            allowed -= 1
        assert allowed <= per_minute + (clock.now - Clock.now) * per_minute / 60 + 1e-6
        if not quota.allowed:
            clock.now += quota.next_in
            assert limits.take("a").allowed
            allowed += 1
