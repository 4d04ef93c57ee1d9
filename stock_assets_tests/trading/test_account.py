"""Evenings of an account on a real store: its equity is that of the back-test, to 0.00, whatever happens on the way."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import BrokerError, MissingSessionsError, TradingError
from stock_assets.lifecycle.alerts import LogChannel
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.market.renames import Rename
from stock_assets.storage.attached import attached
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.books import Book
from stock_assets.trading.broker.alpaca import Access, AlpacaBroker
from stock_assets.trading.broker.faults import Fault
from stock_assets.trading.broker.http_face import serving
from stock_assets.trading.broker.protocol import Accepted, Order, Refused, Unknown
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.broker.simulated_file import transaction
from stock_assets.trading.materialize.account import (
    Desk,
    accept_break,
    halt_trading,
    is_halted,
    reconcile_account,
    resume_trading,
)
from stock_assets.trading.materialize.alarms import tell_trading
from stock_assets.trading.materialize.orders import Traded, due_now, trade_evening
from stock_assets.trading.materialize.overview import lines_of, overview
from stock_assets_tests.effort import SESSIONS, tries
from stock_assets_tests.lifecycle.store import forget
from stock_assets_tests.trading import paper_market
from stock_assets_tests.trading.broker.http_faults import HttpFault, HttpFaults
from stock_assets_tests.trading.paper_market import (
    BOOK,
    START,
    TICKERS,
    Hands,
    announcing,
    desk_of,
    evening_of,
    fill,
    no_pause,
    predict,
    sessions_of,
    settings_of,
)

#: `make drill` plays 120 evenings; splits, a halt, a delisting and dividends lie within the first 30, all splits, with
#: those that undo them, within the first 73, and the turn of a year within the first 73 from `BEFORE_A_TURN` on.
EVENINGS = tries(30, min(120, SESSIONS))
BEFORE_A_TURN = date(2023, 8, 15)
CAUSES = ("by_price", "by_quantity", "by_cost", "by_event", "by_revision", "unexplained")
FEW = 4


class Evenings:
    """The account of one book, evening by evening."""

    def __init__(self, folder: Path, evenings: int, book: Book = BOOK, start: date = START) -> None:
        self.settings, self.clock, self.book = settings_of(folder, start=start), Hands(), book
        self.store = Warehouse(self.settings.database)
        self.sessions = sessions_of(self.settings, evenings)
        self.desk = desk_of(self.store, self.settings, self.clock, book=book)

    def at(self, number: int) -> date:
        """The session of an evening, at which the clock is set; its predictions are there."""
        session = self.sessions[number]
        self.clock.now = evening_of(session)
        if session not in self.store.sessions("predictions", session, session):
            predict(self.store, session)
        return session

    def trade(self, number: int, desk: Desk | None = None) -> Traded:
        return trade_evening(desk or self.desk, self.at(number), pause=no_pause)

    @property
    def broker(self) -> SimulatedBroker:
        assert isinstance(self.desk.broker, SimulatedBroker)
        return self.desk.broker

    def sent(self) -> dict[str, tuple[str, str, float]]:
        """What the broker has, by id."""
        states = self.broker.orders(self.clock.now - timedelta(days=99))
        ids = [state.client_order_id for state in states]
        assert len(ids) == len(set(ids)), "an order was sent twice"
        return {state.client_order_id: (state.ticker, state.side, float(state.shares)) for state in states}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a market of FEW evenings, none of which is traded yet."""
    folder = tmp_path_factory.mktemp("paper_market")
    settings = settings_of(folder)
    fill(Warehouse(settings.database), settings, FEW)
    return folder


@pytest.fixture
def few(template: Path, tmp_path: Path) -> Evenings:
    shutil.copytree(template, tmp_path / "data")
    return Evenings(tmp_path / "data", FEW)


@pytest.mark.tries
@pytest.mark.parametrize(
    ("kind", "evenings", "announced", "start"),
    [("long_only", EVENINGS, True, START), ("long_short", tries(10, min(75, SESSIONS)), False, BEFORE_A_TURN)],
)
def test_months_of_evenings_are_the_back_test_to_0_00(
    tmp_path: Path, kind: str, evenings: int, announced: bool, start: date
):
    """A split that is announced keeps its ticker's orders at home; one that is not turns them over."""
    book = replace(BOOK, kind=kind, limits=replace(BOOK.limits, gross=2.0))  # pyright: ignore[reportArgumentType]
    account = Evenings(tmp_path, evenings, book, start)
    fill(account.store, account.settings, evenings, book=book)
    if announced:
        announcing(account.broker, account.settings)
    fills, left_out = 0, {}
    with attached(account.store.path, read_only=False, wait=0):  # once, and not at each of ten thousand reads
        for number in range(evenings):
            done = account.trade(number)
            assert not done.refusals, [gate.reason for gate in done.refusals]
            fills += len(done.plan.orders)
            left_out |= done.plan.left_out
    assert bool(left_out) == announced
    rows = account.store.read("paper_equity").sort("session")
    assert rows.height == evenings
    assert fills > evenings
    assert (rows["equity"] == rows["backtest_equity"]).all()
    assert rows["equity"].n_unique() > evenings - 2
    for cause in CAUSES:
        assert rows[cause].abs().max() < 0.005, cause  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    assert "breaks" not in account.store.row_counts()
    assert (account.store.read("paper_positions")["shares"] < 0).any() == (kind == "long_short")


class Killed(BaseException):
    """As a kill -9 at this point: nothing catches it."""


def dying(desk: Desk, points: Iterator[bool]) -> Desk:
    """The same desk, which dies after the commit or the submission at which `points` says so."""

    class Store(Warehouse):
        def write(self, changes) -> None:
            super().write(changes)
            if next(points):
                raise Killed

    class Broker(SimulatedBroker):
        def submit(self, order: Order) -> Accepted | Refused | Unknown:
            answer = super().submit(order)
            if next(points):
                raise Killed
            return answer

    broker = desk.broker
    assert isinstance(broker, SimulatedBroker)
    own = Broker(broker.file, broker.opening, clock=desk.clock, calendar=desk.calendar, costs=broker.costs)
    return Desk(Store(desk.store.path), desk.settings, desk.book, own, desk.clock)


def test_killed_at_every_commit_the_broker_has_the_plan_and_each_order_once(few: Evenings):
    """One store throughout: every run dies one point later than the one before, and begins where that left off."""
    for point in range(1, 60):
        points = iter([False] * (point - 1) + [True] + [False] * 99)
        try:
            done = few.trade(0, dying(few.desk, points))
        except Killed:
            continue
        break
    else:
        pytest.fail("no run came to its end")
    assert point > 2 + len(done.plan.orders), "it died at each order at least once"
    plan = {order.client_order_id: (order.ticker, order.side, float(order.shares)) for order in done.plan.orders}
    assert (
        few.sent()
        == plan
        == {
            row["client_order_id"]: (row["ticker"], row["side"], row["shares"])
            for row in few.store.read("orders").iter_rows(named=True)
        }
    )
    events = few.store.read("order_events")
    assert events.select("client_order_id", "number").is_unique().all()
    few.trade(1)
    row = few.store.read("paper_equity").sort("session").row(-1, named=True)
    assert row["equity"] == row["backtest_equity"]


def test_again_it_sends_nothing_and_another_plan_is_refused(few: Evenings):
    first = few.trade(0)
    before = few.sent()
    again = few.trade(0)
    assert again.plan.digest == first.plan.digest
    assert few.sent() == before
    assert {outcome.kind for outcome in again.outcomes} == {"accepted"}
    assert due_now(few.store, few.settings, now=few.clock.now).session is None
    targets = few.store.read("target_weights", few.sessions[0], few.sessions[0])
    few.store.replace_sessions("target_weights", [few.sessions[0]], targets.with_columns(weight=pl.col("weight") / 2))
    with pytest.raises(TradingError, match="a second one would be"):
        few.trade(0)
    assert few.sent() == before


def test_what_the_broker_did_otherwise_is_a_cause_and_no_break(few: Evenings):
    faults = (Fault("halt", "AAA"), Fault("partial fill", "BBB"), Fault("duplicate event", "CCC"), Fault("answer lost"))
    broker = few.broker
    own = SimulatedBroker(
        broker.file, broker.opening, clock=few.clock, calendar=few.desk.calendar, costs=broker.costs, faults=faults
    )
    desk = replace(few.desk, broker=own)
    few.trade(0, desk)
    few.trade(1, desk)
    few.trade(2, desk)
    row = few.store.read("paper_equity").sort("session").row(-1, named=True)
    assert abs(row["equity"] - row["backtest_equity"]) > 1
    assert abs(row["by_quantity"]) > 1
    together = sum(row[cause] for cause in CAUSES)
    assert abs(row["equity"] - row["backtest_equity"] - together) < 1e-6
    assert abs(row["unexplained"]) < 0.005
    assert "breaks" not in few.store.row_counts()


def test_what_is_missed_is_made_up_for(few: Evenings):
    """An evening without a server: the account holds what it has, and the ledger goes on."""
    few.trade(0)
    done = few.trade(2)
    row = few.store.read("paper_equity").sort("session").row(-1, named=True)
    assert few.store.read("paper_equity").height == 2
    assert abs(row["unexplained"]) < 0.005
    assert not done.refusals


def change_file(few: Evenings, statement: str) -> None:
    """Changes the account at the broker as no order of ours would."""
    with transaction(few.broker.file, few.broker.opening) as rows:
        rows._connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "subject", "cause"),
    [
        ("UPDATE account SET cash = cash + 0.01", "cash", "no activity that the broker shows explains it"),
        ("UPDATE listing SET shares = shares - 1 WHERE ticker = 'BBB'", "BBB", "shares are missing"),
    ],
)
def test_a_cent_or_a_share_stops_trading_until_a_person_accepts_it(
    few: Evenings, statement: str, subject: str, cause: str
):
    few.trade(0)
    few.trade(1)
    sent = few.sent()
    change_file(few, statement)
    done = few.trade(2)
    assert {gate.name for gate in done.refusals} == {"breaks"}
    assert few.sent() == sent, "nothing is sent"
    assert done.standing.breaks.select("subject", "cause").row(0) == (subject, cause)
    assert abs(done.standing.reconciled.unexplained) >= 0.009
    told = tell_trading(few.store, [LogChannel()], done, now=few.clock.now)
    assert any("differs from the ledger" in line for line in told)
    assert [record.alert.key for record in open_alerts(few.store)] == ["trading/breaks"]
    assert few.trade(2).standing.breaks.height == 1, "it stays, however often it is looked at"
    shown = overview(few.store, few.book.name)
    assert any(subject in line for line in lines_of(shown) if line.startswith("!"))
    with pytest.raises(TradingError, match=f"no break of QQQ is open in long_only; expected one of: {subject}"):
        accept_break(few.desk, "QQQ", by="ada")
    accept_break(few.desk, subject, by="ada")
    done = few.trade(2)
    assert not done.refusals
    assert abs(done.standing.reconciled.unexplained) < 1e-6
    assert tell_trading(few.store, [LogChannel()], done, now=few.clock.now) == ["the alert trading/breaks is over"]
    assert few.trade(3).standing.breaks.is_empty(), "and is accepted once"


def test_a_foreign_order_is_a_break(few: Evenings):
    plan = few.trade(0).plan
    other = next(ticker for ticker in TICKERS if ticker not in {order.ticker for order in plan.orders})
    foreign = Order("by-hand-1", other, "buy", Decimal(3), plan.fill_session)
    assert isinstance(few.broker.submit(foreign), Accepted)
    done = few.trade(0)
    assert "breaks" in {gate.name for gate in done.refusals}
    assert done.standing.breaks["subject"].to_list() == ["by-hand-1"]
    assert done.standing.breaks["cause"][0].startswith(f"a foreign order: {foreign.side} {foreign.ticker}")


def test_only_a_person_clears_the_kill_switch_and_a_halt_cancels(few: Evenings):
    orders = few.trade(0).plan.orders
    assert halt_trading(few.desk, by="rule: drop", reason="the equity fell") == len(orders)
    assert "halted by rule: drop" in str(is_halted(few.store))
    done = few.trade(1)
    assert {gate.name for gate in done.refusals} == {"kill_switch"}
    assert not done.outcomes
    with pytest.raises(TradingError, match="no rule clears the kill switch"):
        resume_trading(few.desk, by="rule: calm", reason="it rose")
    with pytest.raises(TradingError, match="the name of the person is empty"):
        resume_trading(few.desk, by=" ", reason="it rose")
    few.clock.now += timedelta(minutes=1)
    resume_trading(few.desk, by="ada", reason="looked at it")
    with pytest.raises(TradingError, match="not halted"):
        resume_trading(few.desk, by="ada", reason="again")
    assert not trade_evening(few.desk, few.sessions[1], pause=no_pause).refusals
    assert few.store.read("trading_switch").sort("at")["canceled"].to_list() == [len(orders), 0]


Change = Callable[[Evenings], Desk]


def of_another_number(few: Evenings) -> Desk:
    few.trade(0)
    settings = few.settings.model_copy(update={"account_number": "PA-other"})
    few.broker.file.unlink()
    return desk_of(few.store, settings, few.clock)


def of_another_book(few: Evenings) -> Desk:
    few.trade(0)
    settings = few.settings.model_copy(update={"account_number": "PA-long_only"})
    return desk_of(few.store, settings, few.clock, book=replace(few.book, name="second"))


def in_another_currency(few: Evenings) -> Desk:
    settings = few.settings.model_copy(update={"currency": "EUR"})
    return replace(few.desk, settings=settings)


def without_targets(few: Evenings) -> Desk:
    few.store.replace_sessions("target_weights", [few.sessions[1]], few.store.read("target_weights").clear())
    return few.desk


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_another_number, "long_only follows the account PA-long_only, and the broker shows PA-other"),
        (of_another_book, "the account PA-long_only follows the book long_only, and second would trade on it too"),
        (in_another_currency, "is in USD, expected EUR as the prices are"),
        (without_targets, "target_weights has no row of long_only of"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_is_sent(few: Evenings, change: Change, words: str):
    desk = change(few)
    before = few.store.read("order_events").height if "order_events" in few.store.row_counts() else 0
    with pytest.raises(TradingError, match=words) as error:
        few.trade(1, desk)
    assert "Nothing is" in str(error.value)
    assert (few.store.read("order_events").height if before else 0) == before


def test_a_clock_that_disagrees_and_a_session_without_predictions_are_gates(few: Evenings):
    few.at(0)
    slow = SimulatedBroker(
        few.broker.file,
        few.broker.opening,
        clock=lambda: few.clock.now - timedelta(minutes=5),
        calendar=few.desk.calendar,
        costs=few.book.costs,
    )
    done = few.trade(0, replace(few.desk, broker=slow))
    assert {gate.name for gate in done.refusals} == {"clock"}
    few.store.replace_sessions("predictions", [few.sessions[0]], few.store.read("predictions").clear())
    done = trade_evening(few.desk, few.sessions[0], pause=no_pause)
    assert {gate.name for gate in done.refusals} == {"session", "predicted", "version"}
    assert not few.sent()
    assert few.store.read("order_gates")["decided_at"].n_unique() == 1, "both looks were at one moment"


def test_reconciling_alone_sends_nothing(few: Evenings):
    standing = reconcile_account(few.desk, few.at(0))
    assert standing.breaks.is_empty()
    assert not few.sent()


def test_a_calendar_of_the_broker_that_differs_is_a_gate(few: Evenings):
    """An early close that our calendar lacks: clock and next open agree, and only the whole calendar shows it."""
    few.at(0)
    early = few.sessions[0]
    few.desk = replace(few.desk, broker=_ClosingEarly(few, early))
    done = few.trade(0)
    (gate,) = done.refusals
    assert gate.name == "calendar"
    assert str(early) in gate.value
    assert "by the broker's calendar" in gate.value
    assert not few.sent()


class _ClosingEarly(SimulatedBroker):
    def __init__(self, few: Evenings, session: date) -> None:
        of = few.broker
        super().__init__(of.file, of.opening, clock=few.clock, calendar=few.desk.calendar, costs=of.costs)
        self.session = session

    def calendar(self, first: date, last: date):
        hours = super().calendar(first, last)
        opens, closes = hours[self.session]
        return {**hours, self.session: (opens, closes - timedelta(hours=3))}


def test_a_ticker_that_has_another_name_at_the_next_open_is_a_gate(few: Evenings, monkeypatch: pytest.MonkeyPatch):
    few.at(0)
    renames = (Rename("AAA", "AAAA", few.sessions[1]), Rename("BBB", "BBBB", few.sessions[2]))
    monkeypatch.setattr("stock_assets.trading.materialize.facts.RENAMES", renames)
    (gate,) = few.trade(0).refusals
    assert (gate.name, gate.value) == ("corporate_actions", "AAA")


def test_what_splits_at_the_next_open_is_not_ordered_at_alpaca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real client: while nobody says what splits, nothing is sent; what splits is left out, by both equities."""
    monkeypatch.setattr(paper_market, "RATIOS", {("BBB", 4): 2.0, ("CCC", 4): 0.5})
    account = Evenings(tmp_path, 5)
    fill(account.store, account.settings, 5)
    announcing(account.broker, account.settings)
    middles: list[HttpFaults] = []
    with serving(
        account.broker, key="a key", secret="a secret", around=lambda app: kept(middles, HttpFaults(app))
    ) as url:
        client = AlpacaBroker(Access("a key", "a secret", url=url), pause=no_pause)
        desk = replace(account.desk, broker=client)
        for number in range(5):
            reconcile_account(account.desk, account.at(number))  # the simulated account books the session
            if number == 3:
                for kind in ("504", "502 html"):
                    middles[0].faults.append(HttpFault(kind, "GET", "/v1/corporate-actions", times=4))
                    with pytest.raises(BrokerError):
                        account.trade(number, desk)
                before = account.sent()
            done = account.trade(number, desk)
            assert not done.refusals, [gate.reason for gate in done.refusals]
            if number == 3:
                splits = {"BBB": "forward split of 2 for 1", "CCC": "reverse split of 0.5 for 1"}
                assert splits.keys().isdisjoint(one.ticker for one in done.plan.orders)
                assert done.plan.left_out == {
                    ticker: f"{text} on {account.sessions[4]}" for ticker, text in splits.items()
                }
                assert {*account.sent()} - {*before} == {one.client_order_id for one in done.plan.orders}
                (gate,) = (gate for gate in done.gates if gate.name == "splits")
                assert gate.value.startswith(
                    f"BBB is not traded, forward split of 2 for 1 on {account.sessions[4]}; CCC"
                )
                assert f"BBB is not traded: {done.plan.left_out['BBB']}" in done.lines
    rows = account.store.read("paper_equity").sort("session")
    assert (rows["equity"] == rows["backtest_equity"]).all()
    for cause in CAUSES:
        assert rows[cause].abs().max() < 0.005, cause  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]


def test_a_split_that_the_bars_do_not_show_is_the_cause_of_its_break(few: Evenings):
    few.trade(0)
    few.broker._announced = lambda session: {"BBB": 2.0} if session == few.sessions[2] else {}
    few.trade(1)
    change_file(few, "UPDATE listing SET shares = shares * 2 WHERE ticker = 'BBB'")
    done = few.trade(2)
    assert {gate.name for gate in done.refusals} == {"breaks"}
    (cause,) = done.standing.breaks["cause"]
    split = f"the forward split of 2 for 1 on {few.sessions[2]}"
    assert cause == f"the broker has booked {split}, which the bars do not show"


def kept(middles: list[HttpFaults], middle: HttpFaults) -> HttpFaults:
    middles.append(middle)
    return middle


def test_a_vendor_that_is_silent_in_the_evening_delays_the_orders(few: Evenings):
    """No bar of the session is there, so nothing is predicted: nothing is sent until the vendor answers at night."""
    few.trade(0)
    few.at(1)
    sent, missing = few.sent(), few.sessions[1:]
    kept = {table: few.store.read(table, missing[0]) for table in ("daily_bars", "target_weights", "predictions")}
    for table in kept:
        forget(few.store, table, *missing)
    due = due_now(few.store, few.settings, now=few.clock.now)
    assert due.session is None
    assert due.reason == f"target_weights is there through {few.sessions[0]}; the orders wait for {missing[0]}"
    with pytest.raises(MissingSessionsError, match=f"daily_bars.*{missing[0]}"):  # asked for by hand
        trade_evening(few.desk, missing[0], pause=no_pause)
    assert few.sent() == sent
    assert few.store.read("order_gates")["session"].unique().to_list() == [few.sessions[0]]
    for table, rows in kept.items():
        few.store.replace_sessions(table, rows["session"].unique().sort(), rows)
    few.clock.now += timedelta(hours=5)
    assert due_now(few.store, few.settings, now=few.clock.now).session == missing[0]
    assert not trade_evening(few.desk, missing[0], pause=no_pause).refusals
    row = few.store.read("paper_equity").sort("session").row(-1, named=True)
    assert row["equity"] == row["backtest_equity"]
    assert len(few.sent()) > len(sent)
