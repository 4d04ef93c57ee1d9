"""Alpaca's broker and the face: the same answers over HTTP as without, the locks of a live account, the keys."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import requests

from stock_assets.errors import BrokerError, SettingsError, TradingError
from stock_assets.private.alpaca import TRIED_WITH, CorporateActionsRequest, actions_client, trading_client
from stock_assets.settings import read_settings
from stock_assets.trading.books import LONG_ONLY
from stock_assets.trading.broker import alpaca_json
from stock_assets.trading.broker.alpaca import HOSTS, PER_MINUTE, Access, AlpacaBroker, Pace
from stock_assets.trading.broker.protocol import Unknown
from stock_assets.trading.materialize.account import open_broker
from stock_assets_tests.trading.broker.conftest import KEY, SECRET, Line
from stock_assets_tests.trading.broker.http_faults import HttpFault, Kind
from stock_assets_tests.trading.broker.world import (
    CALENDAR,
    FILLED_IN,
    FIRST,
    LONG_AGO,
    PLAN,
    TICKERS,
    quiet_bars,
)

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"


def held(line: Line) -> None:
    """Positions of all kinds, with what happened to them: a session later."""
    line.world.send(line.broker)
    line.world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    split, dividend = np.array([2.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.25, 0.5, 0.0])
    session = date(2024, 1, 4)
    line.world.broker.advance(quiet_bars(session, split_ratio=split, dividend=dividend), TICKERS)
    line.world.now = CALENDAR.closes[session] + timedelta(hours=4)


def test_every_answer_is_the_same_over_http(line: Line):
    held(line)
    here, there = line.world.broker, line.broker
    assert there.clock() == here.clock()
    assert there.account() == here.account()
    assert there.positions() == here.positions()
    assert there.orders(LONG_AGO) == here.orders(LONG_AGO)
    assert there.order(PLAN[1].client_order_id) == here.order(PLAN[1].client_order_id)
    assert there.order("sa-nobody") is None
    assert there.tradable(["AAA", "BRK-B", "ZZZ"]) == here.tradable(["AAA", "BRK-B", "ZZZ"])
    # with a half day and both changes of the clock
    for first, last in ((date(2024, 3, 7), date(2024, 3, 12)), (date(2024, 11, 1), date(2024, 11, 29))):
        assert there.calendar(first, last) == here.calendar(first, last)
    assert there.calendar(date(2024, 11, 29), date(2024, 11, 29)) == {
        date(2024, 11, 29): (datetime(2024, 11, 29, 14, 30, tzinfo=UTC), datetime(2024, 11, 29, 18, tzinfo=UTC))
    }


#: With a ratio of thirds, and a ticker that Alpaca writes otherwise.
SPLITS = {FILLED_IN: {"AAA": 2.0, "BRK-B": 1 / 3}, date(2024, 2, 1): {"CCC": 0.1}}


def test_splits_to_come_are_the_same_over_http(line: Line):
    line.world.splits |= SPLITS
    first, last = FIRST, date(2024, 2, 1)
    here, there = line.world.broker.actions(first, last), line.broker.actions(first, last)
    assert {(one.ticker, str(one)) for one in there} == {(one.ticker, str(one)) for one in here}
    assert {(one.ticker, one.day, one.kind) for one in there} == {
        ("AAA", FILLED_IN, "forward_splits"),
        ("BRK-B", FILLED_IN, "reverse_splits"),
        ("CCC", last, "reverse_splits"),
    }
    assert line.broker.actions(FIRST, FIRST) == []
    assert line.broker.actions(date(2024, 1, 4), date(2024, 1, 31)) == [], "days around are asked for, not answered"


def test_splits_are_read_page_by_page_to_the_last(line: Line, monkeypatch: pytest.MonkeyPatch):
    line.world.splits |= SPLITS
    whole = line.broker.actions(FIRST, date(2024, 2, 1))
    monkeypatch.setattr("stock_assets.trading.broker.alpaca.ACTIONS_OF_A_PAGE", 1)
    line.middle.requests.clear()
    assert set(line.broker.actions(FIRST, date(2024, 2, 1))) == set(whole)
    assert line.middle.requests == [("GET", "/v1/corporate-actions")] * 3


@pytest.mark.parametrize("kind", ["504", "500", "429", "502 html", "reset", "nonsense", "empty", "302"])
def test_splits_that_are_not_answered_are_asked_for_again_and_are_never_none(line: Line, kind: Kind):
    line.world.splits |= SPLITS
    line.fail(HttpFault(kind, "GET", "/v1/corporate-actions"))
    assert len(line.broker.actions(FIRST, FILLED_IN)) == 2
    line.fail(HttpFault(kind, "GET", "/v1/corporate-actions", times=4))
    with pytest.raises(BrokerError):
        line.broker.actions(FIRST, FILLED_IN)


SPLIT = {"symbol": "BRK.B", "old_rate": 1, "new_rate": 2, "process_date": "2024-01-03", "ex_date": "2024-01-03"}


@pytest.mark.parametrize(
    ("kind", "row", "read"),
    [
        ("forward_splits", SPLIT, [("BRK-B", "forward split of 2 for 1 on 2024-01-03")]),
        ("reverse_splits", SPLIT | {"old_rate": 8}, [("BRK-B", "reverse split of 0.25 for 1 on 2024-01-03")]),
        ("forward_splits", SPLIT | {"old_rate": 0}, [("BRK-B", "forward split on 2024-01-03")]),
        (
            "unit_splits",
            {"old_symbol": "U", "old_rate": 1, "new_symbol": "V", "new_rate": 1, "effective_date": "2024-01-03"},
            [("U", "unit split of 1 for 1 on 2024-01-03"), ("V", "unit split of 1 for 1 on 2024-01-03")],
        ),
        (
            "stock_dividends",
            {"symbol": "CCC", "rate": 0.05, "ex_date": "2024-01-03"},
            [("CCC", "stock dividend of 1.05 for 1 on 2024-01-03")],
        ),
        (
            "name_changes",
            {"old_symbol": "FB", "new_symbol": "META", "process_date": "2024-01-03"},
            [("FB", "name change on 2024-01-03"), ("META", "name change on 2024-01-03")],
        ),
        ("splits_of_next_year", {"symbol": "CCC", "process_date": "2024-01-03"}, [("CCC", "splits of next year on ")]),
    ],
)
def test_every_kind_of_action_is_read_and_one_that_nobody_has_seen_too(
    line: Line, monkeypatch: pytest.MonkeyPatch, kind: str, row: dict[str, object], read: list[tuple[str, str]]
):
    answer = {"corporate_actions": {kind: [row]}, "next_page_token": None}
    monkeypatch.setattr(line.broker._market, "get", lambda *_: answer)
    found = line.broker.actions(FIRST, FILLED_IN)
    assert [(one.ticker, str(one)[: len(text)]) for one, (_, text) in zip(found, read, strict=True)] == read


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"next_page_token": None},
        {"corporate_actions": {"forward_splits": [{"symbol": "AAA"}]}},
        {"corporate_actions": {"forward_splits": [SPLIT | {"new_rate": "NaN"}]}},
        {"corporate_actions": {"forward_splits": [SPLIT | {"ex_date": "soon"}]}},
        {"corporate_actions": {"name_changes": [{"process_date": "2024-01-03", "new_symbol": "A"}]}},
    ],
)
def test_an_action_that_cannot_be_read_is_an_error_and_not_left_out(
    line: Line, monkeypatch: pytest.MonkeyPatch, answer: object
):
    monkeypatch.setattr(line.broker._market, "get", lambda *_: answer)
    with pytest.raises(BrokerError, match="Alpaca's answer cannot be read"):
        line.broker.actions(FIRST, FILLED_IN)


def test_activities_over_http_are_those_of_the_account(line: Line):
    held(line)
    here, there = line.world.broker.activities(LONG_AGO), line.broker.activities(LONG_AGO)
    facts = [(one.id, one.kind, one.ticker, one.shares, one.client_order_id) for one in here if one.kind == "FILL"]
    assert [(o.id, o.kind, o.ticker, o.shares, o.client_order_id) for o in there if o.kind == "FILL"] == facts
    assert [(one.id, one.kind, one.ticker, one.shares) for one in there] == [
        (one.id, one.kind, one.ticker, one.shares) for one in here
    ]
    assert {one.kind for one in there} == {"FILL", "FEE", "DIV", "SPLIT"}
    for ours, theirs in zip(here, there, strict=True):
        assert abs(ours.amount - theirs.amount) < Decimal("1e-9")
    assert abs(sum(one.amount for one in there) - (line.broker.account().cash - 1_000_000)) < Decimal("0.005")


def test_activities_are_read_page_by_page(line: Line, monkeypatch: pytest.MonkeyPatch):
    held(line)
    whole = line.broker.activities(LONG_AGO)
    monkeypatch.setattr("stock_assets.trading.broker.alpaca.ACTIVITIES_OF_A_PAGE", 2)
    assert line.broker.activities(LONG_AGO) == whole
    assert len(whole) > 6


def test_cancelling_counts_what_was_cancelled(line: Line):
    line.world.send(line.broker)
    assert line.broker.cancel_all() == 3
    assert line.broker.cancel_all() == 0
    assert {state.status for state in line.broker.orders(LONG_AGO)} == {"canceled"}


def test_the_models_of_the_real_client_read_every_answer(line: Line):
    """Not raw, as other programs use it: each field has the type that alpaca-py declares."""
    from stock_assets.private.alpaca import GetCalendarRequest, GetOrdersRequest

    held(line)
    client = trading_client(KEY, SECRET, url=line.url, timeout=(2, 2))
    client._use_raw_data = False
    assert client.get_account().equity == str(line.world.broker.account().equity)
    assert client.get_clock().next_open == CALENDAR.opens[date(2024, 1, 5)]
    assert [day.date for day in client.get_calendar(GetCalendarRequest(start=FIRST, end=FILLED_IN))] == [
        FIRST,
        FILLED_IN,
    ]
    assert {one.symbol: one.qty for one in client.get_all_positions()} == {"AAA": "20", "BRK.B": "20", "CCC": "-5"}
    assert {asset.symbol for asset in client.get_all_assets()} == {"AAA", "BRK.B", "CCC", "DDD"}
    orders = client.get_orders(GetOrdersRequest(status="all", symbols=["BRK.B"]))
    assert [(order.symbol, order.status.value, order.filled_qty) for order in orders] == [("BRK.B", "filled", "20")]
    assert client.get_order_by_client_id(PLAN[0].client_order_id).symbol == "AAA"
    assert client.get_orders() == []  # none is open
    line.world.splits |= SPLITS
    market = actions_client(KEY, SECRET, url=line.url, timeout=(2, 2))
    market._use_raw_data = False
    by_kind = market.get_corporate_actions(CorporateActionsRequest(start=FIRST, end=date(2024, 2, 1))).data
    rates = {one.symbol: (one.new_rate, one.old_rate) for rows in by_kind.values() for one in rows}
    assert rates == {"AAA": (2, 1), "BRK.B": (1, 3), "CCC": (1, 10)}


def test_an_order_without_an_id_is_a_new_one_each_time(line: Line):
    """Why none of ours goes without: a client that sends it again, as alpaca-py does after a 504, buys twice."""
    body = {"symbol": "AAA", "qty": 1, "side": "buy", "type": "market", "time_in_force": "opg"}
    headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
    for _ in range(2):
        assert requests.post(f"{line.url}/v2/orders", json=body, headers=headers).status_code == 200
    assert len(line.world.booked_orders()) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"qty": 1.5}, 422, 42210000),
        ({"qty": -1}, 422, 40010001),
        ({"qty": "many"}, 422, 40010001),
        ({"side": "up"}, 422, 40010001),
        ({"type": "limit"}, 422, 42210000),
        ({"time_in_force": "day"}, 422, 42210000),
        ({"symbol": "ZZZ"}, 422, 40010001),
        ({"client_order_id": "x" * 129}, 422, 40010001),
    ],
)
def test_the_face_refuses_as_alpaca_does(line: Line, body: dict[str, object], status: int, code: int):
    valid = {"symbol": "AAA", "qty": 1, "side": "buy", "type": "market", "time_in_force": "opg"}
    headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
    answer = requests.post(f"{line.url}/v2/orders", json={**valid, **body}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert line.world.booked_orders() == []


def test_the_face_answers_nobody_without_the_keys_or_under_another_host(line: Line):
    keys = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
    account = f"{line.url}/v2/account"
    assert requests.get(account, headers=keys).status_code == 200
    for headers in ({}, {**keys, "APCA-API-SECRET-KEY": "wrong"}, {**keys, "APCA-API-KEY-ID": ""}):
        answer = requests.get(account, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, 40110000)
    assert requests.get(account, headers={**keys, "Host": "evil.example"}).status_code == 400
    assert requests.get(f"{line.url}/v2/nothing", headers=keys).status_code == 404
    assert requests.get(f"{line.url}/v2/orders?limit=501", headers=keys).status_code == 422
    assert requests.post(f"{line.url}/v2/orders", data=b"{", headers=keys).status_code == 400


def test_an_account_that_is_not_the_configured_one_gets_no_order(line: Line):
    other = line.connected(account="PA-MINE")
    for ask in (lambda: other.submit(PLAN[0]), other.account, other.positions, other.cancel_all):
        with pytest.raises(TradingError, match="of the paper account PA-SIMULATED, expected PA-MINE"):
            ask()
    assert line.world.booked_orders() == []
    assert line.connected(account="PA-SIMULATED").positions() == []


def test_a_live_account_needs_both_locks(line: Line):
    with pytest.raises(TradingError, match="only where its number is spelled out: set STOCK_ASSETS_ACCOUNT_NUMBER"):
        AlpacaBroker(Access(KEY, SECRET, mode="live"))
    wrong = line.connected(mode="live", account="123456789")
    with pytest.raises(TradingError, match="of the live account PA-SIMULATED, expected 123456789"):
        wrong.submit(PLAN[0])
    assert line.world.booked_orders() == []
    right = line.connected(mode="live", account="PA-SIMULATED")
    assert not right.account().is_paper


def test_the_settings_name_the_account(tmp_path: Path):
    keys = {"alpaca_key": KEY, "alpaca_secret": SECRET, "broker": "alpaca", "data_dir": tmp_path}
    paper = open_broker(read_settings(**keys), LONG_ONLY, clock=lambda: datetime(2024, 1, 2, tzinfo=UTC))
    assert isinstance(paper, AlpacaBroker)
    assert paper._access == Access(KEY, SECRET)
    live = read_settings(**keys, trading="live", account_number="123456789")
    broker = open_broker(live, LONG_ONLY, clock=lambda: datetime(2024, 1, 2, tzinfo=UTC))
    assert isinstance(broker, AlpacaBroker)
    assert broker._access == Access(KEY, SECRET, mode="live", account="123456789")
    with pytest.raises(SettingsError, match="expected STOCK_ASSETS_ACCOUNT_NUMBER"):
        read_settings(**keys, trading="live")
    assert SECRET not in repr(live)
    assert not list(tmp_path.iterdir())


def test_the_keys_go_to_alpaca_or_loopback_alone():
    assert Access(KEY, SECRET).host == HOSTS["paper"] == "https://paper-api.alpaca.markets"
    assert Access(KEY, SECRET, mode="live", account="1").host == "https://api.alpaca.markets"
    for url in ("http://alpaca.example", "https://127.0.0.1", "http://127.0.0.1.evil.example", "ftp://localhost"):
        with pytest.raises(TradingError, match="has to be http:// on loopback"):
            _ = Access(KEY, SECRET, url=url).host
    with pytest.raises(TradingError, match="set STOCK_ASSETS_ALPACA_KEY and STOCK_ASSETS_ALPACA_SECRET"):
        _ = Access("", SECRET).host
    with pytest.raises(TradingError, match="expected paper or live"):
        _ = Access(KEY, SECRET, mode="LIVE").host  # type: ignore[arg-type]
    assert SECRET not in repr(Access(KEY, SECRET))
    assert KEY not in repr(Access(KEY, SECRET))


def test_no_more_requests_a_minute_than_the_pace():
    now, waits = [0.0], []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    pace, times = Pace(PER_MINUTE, lambda: now[0], pause), []
    for _ in range(1000):
        pace.wait()
        times.append(now[0])
        now[0] += 0.01
    assert all(later - earlier > 60 - 1e-6 for earlier, later in zip(times, times[PER_MINUTE:], strict=False))
    assert waits


def test_a_question_is_asked_again_and_then_given_up(line: Line):
    line.fail(HttpFault("429", "GET", "/v2/positions", times=3))
    assert line.broker.positions() == []
    assert line.world.pauses == [1, 3, 9]
    line.fail(HttpFault("502 html", "GET", "/v2/positions", times=4))
    with pytest.raises(BrokerError, match="Alpaca: 502 <html><h1>Bad Gateway"):
        line.broker.positions()


def test_a_broker_that_is_not_there(line: Line):
    away = line.connected(url="http://127.0.0.1:9")
    with pytest.raises(BrokerError, match="Connection"):
        away.account()
    answer = away.submit(PLAN[0])
    assert isinstance(answer, Unknown)
    assert answer.reason.startswith("not sent: ")


def test_an_answer_that_lacks_something_is_an_error_that_names_it(line: Line, monkeypatch: pytest.MonkeyPatch):
    original = alpaca_json.account_json
    monkeypatch.setattr(
        alpaca_json, "account_json", lambda *args, **more: {**original(*args, **more), "equity": "NaN", "cash": None}
    )
    with pytest.raises(BrokerError, match=r"Alpaca's answer cannot be read \(InvalidOperation|\(ValueError"):
        line.broker.account()


def test_a_state_that_nobody_has_seen_is_open(line: Line):
    line.fail(HttpFault("unknown status", "GET", "/v2/orders:by_client_order_id"))
    line.broker.submit(PLAN[0])
    state = line.broker.order(PLAN[0].client_order_id)
    assert state is not None
    assert (state.status, state.is_terminal) == ("held_by_a_state_of_next_year", False)


def test_the_client_was_tried_with_the_pinned_version():
    assert f"alpaca-py=={TRIED_WITH}" in CONSTRAINTS.read_text().splitlines()
    client = trading_client(KEY, SECRET, url="https://paper-api.alpaca.markets", timeout=(5, 20))
    assert client._retry == 0
    assert client._session.get_adapter("https://paper-api.alpaca.markets/v2/account").max_retries.total == 0


def test_without_the_extra_one_error_names_the_command():
    code = (
        "import sys; sys.modules['alpaca'] = None\n"
        "from stock_assets.trading.broker.alpaca import Access, AlpacaBroker\n"
        "from stock_assets.errors import SettingsError\n"
        "try: AlpacaBroker(Access('k', 's'))\n"
        "except SettingsError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'stock_assets[alpaca]'" in run.stdout


def test_fractions_never_reach_the_wire(line: Line):
    with pytest.raises(TradingError, match="whole number"):
        line.broker.submit(replace(PLAN[0], shares=Decimal("0.5")))
    assert line.middle.requests == []
