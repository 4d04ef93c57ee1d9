"""Nothing is seen before its time, a leak rings, and the price of hindsight is explained."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import TradingError
from stock_assets.frames import KEYS
from stock_assets.market.adjustments import as_of
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.materialize.clean import clean_daily_bars
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import books_of
from stock_assets.trading.books import LONG_ONLY, LONG_SHORT, Book, Limits
from stock_assets.trading.limits import HONEST_SHARPE, too_good
from stock_assets.trading.materialize.replay import replay_book
from stock_assets.trading.panel import Panel, panel_of
from stock_assets.trading.replay import replay
from stock_assets.trading.simulation import simulate
from stock_assets.trading.targets import own_targets, scores_of, weights_of
from stock_assets_tests.trading.markets import END, START, bars_of, market_settings, predictions_of, universe_rows

CALENDAR: TradingCalendar = trading_calendar("XNYS", date(2018, 1, 2), date(2019, 5, 31))
CALENDAR_OF_STORE = trading_calendar("XNYS", START, END)
#: The sessions that are traded, and those of which raw bars are fetched: few, as each is fetched on its own evening.
TRADED = CALENDAR.sessions[-32:]
FETCHED = CALENDAR.sessions[-56:]
BOOKS = (
    replace(LONG_ONLY, sleeves=3),
    replace(LONG_SHORT, sleeves=3, limits=Limits(position=0.05, fewest_names=10), whole_shares=False),
    replace(LONG_ONLY, name="calm", sleeves=2, volatility_target=0.05),
)


@pytest.fixture(scope="module")
def evenings() -> tuple[pl.DataFrame, pl.DataFrame]:
    """(universe, raw bars) of the simulated market, every session fetched on its own evening."""
    source = SimulatedSource(CALENDAR)
    universe = source.universe().with_columns(currency=pl.lit("USD"))
    answers = [
        source.fetch(universe["ticker"].to_list(), day, day, fetched_at=CALENDAR.day_over(day)).bars for day in FETCHED
    ]
    return universe, pl.concat(answers)


def scores(raw: pl.DataFrame, *, ahead: int = 0) -> pl.DataFrame:
    """Predictions of rnn: the reversal of a return, as known at the close; `ahead` of 1 is that of the session after,
    with its sign, which nobody can know."""
    sign = 1 if ahead else -1
    change = pl.col("adj_close") / pl.col("previous_adj_close") - 1
    rows = raw.sort("ticker", "session").with_columns(score=sign * change.shift(-ahead).over("ticker"))
    columns = {"model": pl.lit("rnn"), "model_version": pl.lit("rnn-1"), "p_buy": pl.lit(0.4), "p_sell": pl.lit(0.2)}
    return (
        rows.filter(pl.col("session").is_in(TRADED)).drop_nulls("score").select("ticker", "session", "score", **columns)
    )


def panel_as_of(universe: pl.DataFrame, raw: pl.DataFrame, sessions: tuple[date, ...], moment: datetime) -> Panel:
    bars = as_of(raw, universe, CALENDAR.between(FETCHED[0], sessions[-1]), moment=moment, closes=CALENDAR.closes)
    context = pl.DataFrame(schema={"series": pl.String, "session": pl.Date, "total_return": pl.Float64})
    return panel_of(bars, universe, context, sessions=sessions, limits=Limits())


def traded(panel: Panel, predictions: pl.DataFrame, book: Book) -> dict[str, pl.DataFrame]:
    targets = own_targets(panel, scores_of(predictions, panel, book), book)
    weights = weights_of(targets, {session.year: book.sleeves or 1 for session in panel.sessions})
    return dict(simulate(panel, weights, book).frames)


def until(moment: datetime, universe: pl.DataFrame) -> pl.DataFrame:
    """The universe without the memberships that began, and the ends that came, after `moment`."""
    day = moment.date()
    left = pl.when(pl.col("to_session") < day).then(pl.col("to_session"))
    return universe.filter(pl.col("from_session") <= day).with_columns(to_session=left)


@given(cut=st.integers(1, len(TRADED) - 1), minutes=st.integers(0, 300))
@hypothesis_settings(max_examples=4, deadline=None)
def test_what_came_after_any_moment_changes_no_fill_and_no_equity_before_it(
    evenings: tuple[pl.DataFrame, pl.DataFrame], cut: int, minutes: int
):
    universe, raw = evenings
    moment = CALENDAR.day_over(TRADED[cut]) + timedelta(minutes=minutes)
    whole = panel_as_of(universe, raw, TRADED, datetime(2030, 1, 1, tzinfo=UTC))
    kept = raw.filter(pl.col("fetched_at") <= moment, pl.col("session") <= TRADED[cut])
    then = panel_as_of(until(moment, universe), kept, TRADED[: cut + 1], moment)
    for book in BOOKS:
        everything, before = traded(whole, scores(raw), book), traded(then, scores(kept), book)
        for table, rows in before.items():
            through = everything[table].filter(pl.col("session") <= TRADED[cut])
            assert rows.height
            assert_frame_equal(rows, through, check_exact=True)


def test_a_score_that_is_shifted_by_one_session_rings_the_alarm_of_the_ledger(
    evenings: tuple[pl.DataFrame, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("stock_assets.trading.limits.FEWEST_JUDGED", len(TRADED) - 2)
    universe, raw = evenings
    panel = panel_as_of(universe, raw, TRADED, datetime(2030, 1, 1, tzinfo=UTC))
    for book in BOOKS[:2]:
        once = replace(book, sleeves=1)
        assert too_good(traded(panel, scores(raw), once)["equity"]).is_empty()
        alarm = too_good(traded(panel, scores(raw, ahead=1), once)["equity"])
        assert (alarm["sharpe"] > 2 * HONEST_SHARPE).to_list() == [True]


# ---------------------------------------------------------------- the price of hindsight


def test_what_was_said_and_is_still_so_has_no_price(evenings: tuple[pl.DataFrame, pl.DataFrame]):
    universe, raw = evenings
    panel = panel_as_of(universe, raw, TRADED, datetime(2030, 1, 1, tzinfo=UTC))

    def of_evening(session: date) -> Panel | None:
        place = CALENDAR.position(session)
        if place % 4:
            return None
        return panel_as_of(universe, raw, CALENDAR.sessions[place - 1 : place + 1], CALENDAR.day_over(session))

    said = scores(raw)
    for known in (lambda _: None, of_evening):
        replayed = replay(BOOKS[0], panel, known, published_predictions=said, predictions=said, sleeves={2019: 3})
        assert replayed.rows.select(pl.col("by_bars", "by_models").abs().max()).row(0) == (0.0, 0.0)
        assert replayed.rows["as_said"].std() > 0.001
    assert replayed.changed_bars == len(TRADED) // 4
    with pytest.raises(TradingError, match="end at"):
        replay(BOOKS[0], panel, lambda _: panel, published_predictions=said, predictions=said, sleeves={2019: 3})


def test_revised_bars_and_changed_models_have_each_their_own_price(evenings: tuple[pl.DataFrame, pl.DataFrame]):
    universe, raw = evenings
    said = scores(raw)
    place = 10
    revised_at = CALENDAR.day_over(TRADED[place + 5])
    late = raw.filter(pl.col("session") == TRADED[place]).with_columns(
        *(pl.col(name) * 1.01 for name in ("open", "high", "low", "close", "adj_close")),
        fetched_at=pl.lit(revised_at).cast(raw.schema["fetched_at"]),
    )
    every = pl.concat([raw, late])
    today = panel_as_of(universe, every, TRADED, datetime(2030, 1, 1, tzinfo=UTC))

    def known(session: date) -> Panel | None:
        moment = CALENDAR.day_over(session)
        if not TRADED[place] <= session < TRADED[place + 6]:  # the bar that is revised then is not there, or revised
            return None
        at = CALENDAR.position(session)
        return panel_as_of(universe, every, CALENDAR.sessions[at - 1 : at + 1], moment)

    replayed = replay(BOOKS[0], today, known, published_predictions=said, predictions=said, sleeves={2019: 3})
    assert replayed.rows["by_models"].abs().max() == 0.0
    by_bars = replayed.rows["by_bars"].to_numpy()
    assert np.abs(by_bars[:place]).max() == 0.0
    assert by_bars[place] == pytest.approx(100, rel=0.3), "held shares are worth a hundredth more today"
    changed = said.with_columns(
        score=pl.when(pl.col("session") == TRADED[20]).then(-pl.col("score")).otherwise("score"),
        model_version=pl.when(pl.col("session") == TRADED[20]).then(pl.lit("rnn-2")).otherwise("model_version"),
    )
    replayed = replay(BOOKS[0], today, known, published_predictions=said, predictions=changed, sleeves={2019: 3})
    by_models = replayed.rows["by_models"].to_numpy()
    assert np.abs(by_models[:21]).max() == 0.0
    assert np.abs(by_models[21]) > 0
    assert replayed.changed_versions == said.filter(pl.col("session") == TRADED[20]).height
    parts = replayed.rows.select(
        total=(pl.col("today") - pl.col("as_said")) * 1e4, sum=pl.col("by_bars") + pl.col("by_models")
    )
    assert parts["total"].to_numpy() == pytest.approx(parts["sum"].to_numpy(), abs=1e-9)


def test_a_replay_on_the_store_reads_the_versions_of_each_evening(tmp_path: Path):
    settings, sessions = market_settings(tmp_path), CALENDAR_OF_STORE.sessions
    store, bars = Warehouse(settings.database), bars_of(settings)
    raw = bars.select(*KEYS, "open", "high", "low", "close", "volume", "dividend", "split_ratio", "fetched_at")
    raw = raw.sort(KEYS).with_columns(
        adj_close="close",
        later_splits=pl.lit(1.0),
        previous_adj_close=pl.col("close").shift(1).over("ticker"),
        source=pl.lit("simulated"),
    )
    store.replace_table("universe", universe_rows())
    store.replace_sessions("raw_ohlcv", sessions, raw)
    now = datetime(2021, 1, 1, tzinfo=UTC)
    clean_daily_bars(store, settings, sessions=sessions, now=now)
    clean = store.read("daily_bars")
    predictions = predictions_of(clean, date(2019, 1, 1))
    store.replace_sessions("predictions", [day for day in sessions if day.year >= 2019], predictions)
    lived = CALENDAR_OF_STORE.between(date(2019, 3, 1), date(2019, 3, 14))
    moments = {session: CALENDAR_OF_STORE.closes[session] + timedelta(hours=2) for session in lived}
    book = books_of(settings)[0]
    replayed = replay_book(store, settings, book, published_predictions=predictions, moments=moments)
    assert (replayed.by_bars, replayed.by_models, replayed.changed_bars) == (0.0, 0.0, 0)
    revised = lived[5]
    rows = raw.filter(session=revised).with_columns(
        *(pl.col(name) * 1.01 for name in ("open", "high", "low", "close", "adj_close")),
        fetched_at=pl.lit(moments[lived[7]] - timedelta(minutes=30)).dt.cast_time_unit("us"),
    )
    store.append("raw_ohlcv", rows)
    clean_daily_bars(store, settings, sessions=sessions, now=now)
    replayed = replay_book(store, settings, book, published_predictions=predictions, moments=moments)
    by_bars = replayed.rows["by_bars"].to_numpy()
    assert replayed.changed_bars == 2
    assert np.abs(by_bars[:5]).max() == 0.0
    assert by_bars[5] == pytest.approx(100, rel=0.3)
    assert replayed.by_models == 0.0
    with pytest.raises(TradingError, match="found 1 session"):
        replay_book(store, settings, book, published_predictions=predictions, moments={lived[0]: moments[lived[0]]})
