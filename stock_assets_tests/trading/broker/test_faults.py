"""Whatever happens between an order and its answer, it is at the broker once, and nothing is guessed."""

from datetime import timedelta

import pytest

from stock_assets.trading.broker.protocol import Refused, Unknown
from stock_assets_tests.trading.broker.conftest import SECRET, Line
from stock_assets_tests.trading.broker.http_faults import HttpFault, Kind
from stock_assets_tests.trading.broker.world import (
    CALENDAR,
    FILLED_IN,
    LONG_AGO,
    PLAN,
    as_booked,
    order_of,
)

LOOK = "/v2/orders:by_client_order_id"
#: Faults of a POST after which the same request arrives at the next try.
ONCE: list[tuple[Kind, bool]] = [
    ("504", True),
    ("504", False),
    ("500", True),
    ("500", False),
    ("reset", True),
    ("reset", False),
    ("hang", True),
    ("hang", False),
    ("502 html", True),
    ("502 html", False),
    ("404 html", True),
    ("429", False),
    ("302", True),
    ("nonsense", True),
    ("empty", True),
    ("slow", False),
    ("unknown status", False),
]


@pytest.mark.parametrize(("kind", "after"), ONCE, ids=lambda value: str(value))
def test_a_fault_of_an_order_leaves_each_order_at_the_broker_once(line: Line, kind: Kind, after: bool):
    line.fail(HttpFault(kind, after=after))
    outcomes = line.world.send(line.broker)
    assert [one.kind for one in outcomes] == ["accepted"] * 3
    assert line.world.booked_orders() == as_booked()
    # and in a second evening run nothing is sent
    posts = line.middle.requests.count(("POST", "/v2/orders"))
    assert [one.kind for one in line.world.send(line.connected())] == ["accepted"] * 3
    assert line.middle.requests.count(("POST", "/v2/orders")) == posts
    if kind not in ("slow", "unknown status"):
        assert [event.event for event in line.world.events if event.client_order_id == PLAN[0].client_order_id][:3] == [
            "looked_up",
            "sent",
            "unknown",
        ]


@pytest.mark.parametrize("kind", ["502 html", "404 html", "reset", "hang", "500", "429", "nonsense", "empty"])
def test_a_look_that_fails_is_no_answer(line: Line, kind: Kind):
    """After an order whose answer was lost, a page "not found" of a proxy must not have it sent again."""
    line.fail(HttpFault("504", after=True), HttpFault(kind, "GET", LOOK, times=6, skip=1))
    outcomes = line.world.send(line.broker)
    assert [one.kind for one in outcomes] == ["accepted"] * 3
    assert line.world.booked_orders() == as_booked()
    assert line.middle.requests.count(("POST", "/v2/orders")) == 3


def test_four_refusals_for_the_pace_are_waited_out(line: Line):
    line.fail(HttpFault("429", times=4), HttpFault("429", "GET", LOOK, times=4))
    assert [one.kind for one in line.world.send(line.broker)] == ["accepted"] * 3
    assert line.world.booked_orders() == as_booked()


def test_a_broker_that_stays_away_ends_as_unknown_and_the_rest_stays_unsent(line: Line):
    line.fail(HttpFault("504", times=50))
    outcomes = line.world.send(line.broker)
    assert [one.kind for one in outcomes] == ["unknown", "unsent", "unsent"]
    assert line.world.booked_orders() == []
    line.middle.faults.clear()
    assert [one.kind for one in line.world.send(line.connected())] == ["accepted"] * 3
    assert line.world.booked_orders() == as_booked()


def test_an_order_that_shows_late_is_not_sent_twice(line: Line):
    """The broker took it, and says for two looks that it has no such order."""
    line.fail(HttpFault("504", after=True))
    original = line.broker.order
    looks: list[str] = []

    def order(name: str):
        looks.append(name)
        return None if looks.count(name) in (2, 3) else original(name)

    line.broker.order = order  # type: ignore[method-assign]
    assert [one.kind for one in line.world.send(line.broker)] == ["accepted"] * 3
    assert line.world.booked_orders() == as_booked()


def test_after_the_deadline_nothing_is_sent(line: Line):
    line.world.now = CALENDAR.opens[FILLED_IN] - timedelta(minutes=4)
    outcomes = line.world.send(line.broker)
    assert [one.kind for one in outcomes] == ["late"] * 3
    assert ("POST", "/v2/orders") not in line.middle.requests


def test_an_unknown_order_at_the_deadline_stays_unknown(line: Line):
    line.world.now = CALENDAR.opens[FILLED_IN] - timedelta(minutes=5, seconds=2)
    line.fail(HttpFault("504"))
    outcomes = line.world.send(line.broker)
    assert [one.kind for one in outcomes] == ["unknown", "unsent", "unsent"]
    assert line.middle.requests.count(("POST", "/v2/orders")) == 1


def test_a_spent_id_is_adopted_where_it_is_our_order_and_never_where_it_is_another(line: Line):
    assert line.broker.submit(PLAN[0]) == line.broker.submit(PLAN[0])
    other = order_of("AAA", 11)
    answer = line.broker.submit(other)
    assert isinstance(answer, Unknown)
    (outcome,) = line.world.send(line.broker, [other])
    assert outcome.kind == "refused"
    assert "buy 10 AAA, expected buy 11 AAA" in outcome.text
    assert line.world.booked_orders() == as_booked(PLAN[:1])


def test_a_code_that_stands_for_much_is_a_refusal_where_the_broker_has_no_such_order(line: Line):
    """Alpaca's 40010001 is "must be unique", and "could not find asset" as well."""
    answer = line.broker.submit(order_of("ZZZ", 1))
    assert answer == Refused("40010001", 'could not find asset "ZZZ"')


def test_more_orders_than_a_page_holds_are_all_read(line: Line):
    rows = [
        (f"sa-{number:04d}", f"id-{number}", "AAA", "buy", "1", "2024-01-03", "accepted", 0.0, None, None, at, at)
        for number in range(1203)
        # runs of orders of one moment lie across the ends of the pages
        for at in [(LONG_AGO + timedelta(seconds=number // 100)).isoformat(timespec="microseconds")]
    ]
    with line.world.broker._rows() as file:
        file._connection.executemany(
            "INSERT INTO orders (client_order_id, broker_id, ticker, side, shares, session, status, filled, "
            "average_price, reason, submitted_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    states = line.broker.orders(LONG_AGO)
    assert [state.client_order_id for state in states] == [row[0] for row in rows]


def test_no_error_shows_a_key(line: Line):
    wrong = line.connected(secret="another/secret+entirely=")
    answer = wrong.submit(PLAN[0])
    assert isinstance(answer, Unknown)
    with pytest.raises(Exception, match="not authorized") as error:
        wrong.positions()
    for text in (answer.reason, str(error.value), repr(wrong), repr(wrong._access)):
        assert "another/secret" not in text
        assert SECRET not in text
    assert error.value.__cause__ is None
    assert line.world.booked_orders() == []
