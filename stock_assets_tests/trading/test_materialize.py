"""The steps on a store: a range is one run, a day alone is the same day, and rows never contradict each other."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import MissingSessionsError, TradingError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets.trading.book_files import books_of
from stock_assets.trading.limits import above_limits, drifted, too_good, unexplained
from stock_assets.trading.materialize.ledger import make_ledger, standing
from stock_assets.trading.materialize.targets import make_target_weights, read_own_targets
from stock_assets.trading.portfolio import SLEEVES
from stock_assets.trading.simulation import net_returns
from stock_assets.trading.targets import weights_of
from stock_assets_tests.tables import lose_rows
from stock_assets_tests.trading.markets import BOOKS, bars_of, fill, market, market_settings, predictions_of

TABLES = ("target_weights", "fills", "positions", "equity")


@dataclass
class Traded:
    store: Warehouse
    settings: Settings
    sessions: list[date]

    def make(self, *sessions: date) -> None:
        make_target_weights(self.store, self.settings, sessions)
        make_ledger(self.store, self.settings, sessions)

    def rows(self, last: date | None = None) -> dict[str, pl.DataFrame]:
        return {table: self.store.read(table, None, last).sort(declared(table).keys) for table in TABLES}


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Traded:
    store, settings = market(tmp_path_factory.mktemp("traded"))
    sessions = [session for session in calendar_of(settings).sessions if session.year >= 2019]
    made = Traded(store, settings, sessions)
    made.make(*sessions)
    return made


def same(ours: dict[str, pl.DataFrame], theirs: dict[str, pl.DataFrame]) -> None:
    for table, rows in theirs.items():
        assert_frame_equal(ours[table], rows, check_exact=True)


def test_every_book_trades_and_every_reason_is_a_row(traded: Traded):
    rows = traded.rows()
    books = {book.name for book in books_of(traded.settings)}
    for table in TABLES:
        assert set(rows[table]["book"]) == books, table
    assert {"filled", "no bar", "suspect"} <= set(rows["fills"]["reason"])
    assert {"no bar", "suspect", "no prediction", None} <= set(rows["target_weights"]["reason"])
    equity = rows["equity"]
    assert equity.height == len(books) * len(traded.sessions)
    assert equity.filter(session=traded.sessions[0])["equity"].to_list() == [1_000_000.0] * len(books)
    assert (equity.group_by("book").agg(pl.col("dividend").sum())["dividend"] != 0).all()
    assert equity.filter(pl.col("book") != "open_k")["ending"].sum() != 0


def test_checks_hold_and_ring_for_rows_that_are_wrong(traded: Traded):
    rows, books = traded.rows(), books_of(traded.settings)
    sectors = traded.store.read("universe").select("ticker", "sector")
    assert above_limits(rows["target_weights"], sectors, books).is_empty()
    assert unexplained(rows["equity"]).is_empty()
    assert too_good(rows["equity"]).is_empty()
    doubled = rows["target_weights"].with_columns(pl.col("weight") * 2)
    assert {"position", "gross"} <= set(above_limits(doubled, sectors, books)["limit"])
    a_cent = rows["equity"].with_columns(pl.col("dividend") + 0.01)
    assert unexplained(a_cent).height == rows["equity"].height - len(books)
    grown = rows["positions"].with_columns(pl.col("weight") * 3)
    assert "position" in set(drifted(rows | {"positions": grown}, books)["limit"])


@pytest.mark.parametrize("place", [1, 252, -1])
def test_a_day_alone_equals_the_same_day_of_the_range_bit_for_bit(traded: Traded, place: int):
    before = traded.rows()
    traded.make(traded.sessions[place])
    same(traded.rows(), before)


def test_evenings_one_by_one_equal_one_run(tmp_path: Path, traded: Traded):
    store, settings = market(tmp_path)
    one_by_one = Traded(store, settings, traded.sessions)
    for session in traded.sessions[:6]:
        one_by_one.make(session)
    same(one_by_one.rows(), traded.rows(traded.sessions[5]))


def test_a_remade_session_makes_the_sessions_after_it_again(tmp_path: Path):
    store, settings = market(tmp_path)
    sessions = [day for day in calendar_of(settings).sessions if date(2019, 1, 1) <= day < date(2019, 4, 1)]
    made = Traded(store, settings, sessions)
    made.make(*sessions)
    before, changed = made.rows(), sessions[30]
    predictions = store.read("predictions", changed, changed)
    store.replace_sessions("predictions", [changed], predictions.with_columns(score=-pl.col("score")))
    made.make(changed)
    after = made.rows()
    same(made.rows(sessions[29]), {table: rows.filter(pl.col("session") < changed) for table, rows in before.items()})
    last = pl.col("session") == sessions[-1]
    assert not after["equity"].filter(last).equals(before["equity"].filter(last))
    made.make(*sessions)
    same(made.rows(), after)


def test_the_session_before_has_to_be_there(tmp_path: Path):
    store, settings = market(tmp_path)
    sessions = [day for day in calendar_of(settings).sessions if day.year >= 2019][:4]
    make_target_weights(store, settings, sessions)
    with pytest.raises(TradingError) as raised:
        make_ledger(store, settings, sessions[2:])
    for part in ("book plain", str(sessions[1]), "it has no equity", f"equity from {sessions[0]} to {sessions[1]}"):
        assert part in str(raised.value)
    assert "equity" not in store.row_counts(), "nothing half-written"
    lose_rows(store, "predictions", [sessions[3]])
    with pytest.raises(MissingSessionsError, match="session\\(s\\) of predictions"):
        make_target_weights(store, settings, [sessions[3]])


def test_a_book_goes_on_under_the_settings_that_it_began_with(tmp_path: Path):
    store, settings = market(tmp_path)
    sessions = [day for day in calendar_of(settings).sessions if day.year >= 2019][:5]
    Traded(store, settings, sessions).make(*sessions[:4])
    dearer = BOOKS.replace("debit = 0.03", "debit = 0.04")
    other = market_settings(tmp_path, dearer)
    with pytest.raises(TradingError) as raised:
        Traded(store, other, sessions).make(sessions[4])
    for part in ("book open_k", str(sessions[3]), "other settings", "materialize"):
        assert part in str(raised.value)
    Traded(store, other, sessions).make(*sessions)
    added = market_settings(tmp_path, dearer + '[[book]]\nname = "new"\nkind = "long_only"\n')
    make_target_weights(store, added, sessions)
    with pytest.raises(TradingError, match=f"book new, session {sessions[3]}: it has no equity"):
        make_ledger(store, added, [sessions[4]])


def test_a_prediction_of_a_ticker_without_bars_is_an_error(tmp_path: Path):
    store, settings = market(tmp_path)
    session = date(2019, 1, 2)
    rows = store.read("predictions", session, session)
    strange = rows.head(1).with_columns(ticker=pl.lit("NOBODY"))
    store.replace_sessions("predictions", [session], pl.concat([rows, strange]))
    with pytest.raises(TradingError, match="2019-01-02: the ticker NOBODY is predicted and has no bar"):
        make_target_weights(store, settings, [session])


def test_a_store_of_one_ticker_stays_in_cash_and_the_limit_is_named(tmp_path: Path):
    settings = market_settings(tmp_path).model_copy(update={"books": None})
    bars = bars_of(settings).filter(ticker="T00")
    store = Warehouse(settings.database)
    fill(store, settings, bars=bars, predictions=predictions_of(bars, date(2019, 1, 1)))
    sessions = [day for day in calendar_of(settings).sessions if day.year >= 2019][:20]
    made = make_target_weights(store, settings, sessions)
    assert any("as few as" in note and "fewest_names is 5" in note for note in made.notes)
    assert any("fewest_names is 40" in note for note in made.notes)
    rows = make_ledger(store, settings, sessions).rows
    assert (rows["fills"].height, rows["positions"].height) == (0, 0)
    assert set(rows["equity"]["equity"]) == {1_000_000.0}
    assert "too few names" in set(made.rows["reason"])


def test_sleeves_are_those_that_earned_most_in_the_years_before(traded: Traded):
    rows = traded.rows()["target_weights"].filter(book="open_k")
    book = next(book for book in books_of(traded.settings) if book.name == "open_k")
    chosen = rows.group_by(pl.col("session").dt.year().alias("year")).agg(pl.col("sleeves").unique())
    chosen = {year: number for year, (number,) in chosen.iter_rows()}
    before = [session for session in traded.sessions if session.year == 2019]
    targets, _ = read_own_targets(traded.store, traded.settings, book, sessions=before)
    earned = [net_returns(targets.panel, weights_of(targets, {2019: k}), book).mean() for k in SLEEVES]
    assert chosen == {2019: 7, 2020: SLEEVES[int(np.argmax(earned))]}


def test_a_volatility_target_brings_a_book_to_it(traded: Traded):
    calm = traded.rows()["equity"].filter(book="calm").sort("session")
    assert calm["scale"][:20].to_list() == [1.0] * 20
    assert calm["scale"].to_numpy()[40:].max() < 1.0
    volatility = calm["net_return"][60:].std() * 252**0.5
    assert volatility == pytest.approx(0.05, rel=0.3)
    unscaled = traded.rows()["equity"].filter(book="plain")["net_return"][60:].std() * 252**0.5
    assert unscaled > 1.3 * volatility


def test_tomorrows_orders_are_those_that_the_ledger_fills(traded: Traded):
    rows = traded.rows()["fills"]
    for book in books_of(traded.settings):
        for t in (0, 254):
            decided = standing(traded.store, traded.settings, book, session=traded.sessions[t])
            split = decided.panel.tickers
            bars = traded.store.read("daily_bars", traded.sessions[t + 1], traded.sessions[t + 1])
            ratio = dict(bars.select("ticker", "split_ratio").iter_rows())
            sent = rows.filter(pl.col("book") == book.name, pl.col("session") == traded.sessions[t + 1])
            expected = {
                ticker: order * ratio.get(ticker, 1.0)
                for ticker, order in zip(split, decided.orders, strict=True)
                if order
            }
            assert dict(sent.select("ticker", "ordered").iter_rows()) == expected
