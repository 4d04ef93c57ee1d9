"""The steps of the back-test and of the tear sheet on a store: what they write, count and refuse."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import MissingTableError, TradingError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.backtest import MadeBacktest, best_naive, make_backtest
from stock_assets.trading.materialize.ledger import make_ledger
from stock_assets.trading.materialize.targets import first_session, make_target_weights
from stock_assets.trading.materialize.tear_sheet import make_tear_sheets
from stock_assets.trading.materialize.trials import count_trials
from stock_assets.trading.trials import BASE
from stock_assets_tests.tables import rows_of
from stock_assets_tests.trading.sheets import market

NOW = datetime(2026, 11, 27, 22, tzinfo=UTC)
TICKERS, SESSIONS = 12, 48
BOOKS = """
[[book]]
name = "long"
kind = "long_only"
[[book]]
name = "both"
kind = "long_short"
sleeves = 3
limits = {fewest_names = 4, position = 0.2}
"""


def write_market(store: Warehouse, settings: Settings) -> tuple[date, ...]:
    """Bars, labels and predictions of four models; the sessions that are predicted."""
    sessions = calendar_of(settings).sessions[:SESSIONS]
    bars, scores = market(SESSIONS, TICKERS)
    bars = bars.with_columns(
        pl.Series("session", np.repeat(np.array(sessions, dtype="datetime64[D]"), TICKERS)).cast(pl.Date)
    )
    store.replace_sessions("daily_bars", sessions, rows_of("daily_bars", bars))
    tickers = bars["ticker"].unique().sort()
    universe = pl.DataFrame({"ticker": tickers, "sector": "Tech", "from_session": sessions[0]})
    store.replace_table("universe", rows_of("universe", universe))
    none = pl.DataFrame(schema={"session": pl.Date})
    store.replace_sessions("context_series", sessions, rows_of("context_series", none))
    rows = bars.select("ticker", "session").with_columns(own=pl.Series(scores.ravel()))
    rows = rows.filter(pl.col("session") >= first_session(settings))
    tilt = (pl.col("own") / 10).clip(-0.3, 0.3)
    models = {"rnn": tilt, "ensemble": -tilt, "mlp": tilt / 2, "class_prior": pl.lit(0.0), "ticker_prior": -tilt / 3}
    predictions = pl.concat(
        rows.select(
            "ticker",
            "session",
            model=pl.lit(model),
            p_sell=0.3 - of / 2,
            p_hold=pl.lit(0.4),
            p_buy=0.3 + of / 2,
            score=of,
        )
        for model, of in models.items()
    )
    served = [session for session in sessions if session >= first_session(settings)]
    store.replace_sessions("predictions", served, rows_of("predictions", predictions))
    labels = rows.with_columns(label=pl.col("own").sign().cast(pl.Int8))
    store.replace_sessions("labels", served, rows_of("labels", labels.drop("own")))
    return tuple(served)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("backtest")
    (folder / "books.toml").write_text(BOOKS)
    return read_settings(
        data_dir=folder,
        start=date(2022, 12, 1),
        first_model_year=2023,
        mlflow="off",
        context="off",
        books=folder / "books.toml",
        paper_book="long",
    )


@pytest.fixture(scope="module")
def store(settings: Settings) -> Warehouse:
    """A market whose books have traded."""
    store = Warehouse(settings.database)
    served = write_market(store, settings)
    make_target_weights(store, settings, served)
    make_ledger(store, settings, served)
    return store


@pytest.fixture(scope="module")
def made(store: Warehouse, settings: Settings) -> MadeBacktest:
    return make_backtest(store, settings, now=NOW)


def test_without_predictions_there_is_no_back_test(tmp_path: Path, settings: Settings):
    with pytest.raises(MissingTableError, match="predictions"):
        make_backtest(Warehouse(tmp_path / "none.duckdb"), settings, now=NOW)


def test_the_naive_model_is_that_with_the_lowest_loss(store: Warehouse):
    assert best_naive(store) == "class_prior"


def test_each_book_is_tried_with_its_model_the_ensemble_and_the_best_naive(made: MadeBacktest):
    assert made.models == ("ensemble", "class_prior")
    base = made.table.filter(pl.col("variant") == BASE)
    tried = {(row["book"], row["model"], row["sleeves"]) for row in base.iter_rows(named=True)}
    models = ("rnn", "ensemble", "class_prior")
    assert tried == {
        *(("long", model, sleeves) for model in models for sleeves in (0, 1, 3, 7, 14)),
        *(("both", model, sleeves) for model in models for sleeves in (1, 3, 7, 14)),
    }
    ranked = base.filter((pl.col("book") == "both") & (pl.col("sleeves") == 1)).sort("net_sharpe", descending=True)
    # the scores of the ensemble are those of the other turned round, and the naive one has one score for all
    assert ranked.drop_nulls("net_sharpe")["model"].to_list() == ["rnn", "ensemble"]


def test_every_row_is_a_trial_that_the_store_counts(store: Warehouse, made: MadeBacktest):
    kept = store.read("backtests")
    assert kept.height == kept["digest"].n_unique() == made.table.height == made.trials.count
    assert made.table["trials"].unique().to_list() == [kept.height]


def test_a_rerun_adds_only_what_was_not_tried(store: Warehouse, settings: Settings, made: MadeBacktest):
    before = store.read("backtests")
    more = make_backtest(store, settings, now=NOW.replace(hour=23), models=["mlp"])
    added = more.table.filter(pl.col("model") == "mlp")
    assert added["book"].unique().sort().to_list() == ["both", "long"]
    judged = ("trials", "deflated_sharpe", "overfitting", "effective_trials")  # by what was tried beside it
    same = more.table.filter(pl.col("model") != "mlp").drop(judged)
    assert same.equals(made.table.drop(judged))
    after = store.read("backtests")
    assert after.height == before.height + added.height == count_trials(store).count
    assert after.filter(pl.col("digest").is_in(before["digest"].implode())).sort("digest").equals(before.sort("digest"))
    assert before["computed_at"].unique().to_list() == [NOW]


def test_a_model_without_predictions_is_refused(store: Warehouse, settings: Settings):
    with pytest.raises(TradingError, match=r"the model gru was asked for.*expected some of class_prior, ensemble, mlp"):
        make_backtest(store, settings, now=NOW, models=["gru"])


def test_the_back_test_of_a_book_as_it_is_configured_is_its_ledger(store: Warehouse, made: MadeBacktest):
    for book, sleeves in (("long", 0), ("both", 3)):
        equity = store.read("equity").filter(pl.col("book") == book).sort("session")
        net = equity["net_return"].drop_nulls().to_numpy()
        row = made.table.filter(
            (pl.col("book") == book) & (pl.col("model") == "rnn"),
            (pl.col("variant") == BASE) & (pl.col("sleeves") == sleeves),
        ).row(0, named=True)
        assert row["net_return"] == pytest.approx(net.mean(), rel=1e-9)
        assert row["net_sharpe"] == pytest.approx(net.mean() / net.std(ddof=1) * 252**0.5, rel=1e-9)
        assert row["sessions"] == len(net)


def test_the_tear_sheets_are_files_and_rows(store: Warehouse, settings: Settings, made: MadeBacktest):
    sheets = make_tear_sheets(store, settings)
    assert sorted(path.name for path in sheets.index.parent.iterdir()) == [
        "book_both.html",
        "book_long.html",
        "index.html",
    ]
    assert store.read("tear_sheet").sort("book", "position").equals(sheets.table.sort("book", "position"))
    value = {row["figure"]: row["value"] for row in sheets.table.filter(pl.col("book") == "both").iter_rows(named=True)}
    assert value["trials"] == count_trials(store).count >= made.trials.count
    own = made.table.filter(
        (pl.col("book") == "both") & (pl.col("model") == "rnn"), (pl.col("variant") == BASE) & (pl.col("sleeves") == 3)
    )
    assert value["net Sharpe ratio"] == pytest.approx(own["net_sharpe"].item(), rel=1e-9)
    assert value["break-even cost of a trade"] == pytest.approx(own["break_even"].item(), rel=1e-9)
    page = (sheets.index.parent / "book_both.html").read_text()
    assert 'href="book_long.html"' in page
    assert "K = 3" in page


def test_tear_sheets_are_made_before_there_is_a_back_test(tmp_path: Path, store: Warehouse, settings: Settings):
    copy = Warehouse(tmp_path / "copy.duckdb")
    for table in ("daily_bars", "universe", "target_weights", "fills", "positions", "equity"):
        copy.append(table, store.read(table))
    sheets = make_tear_sheets(copy, settings)
    value = {row["figure"]: row["value"] for row in sheets.table.iter_rows(named=True)}
    assert value["trials"] == 0
    assert value["capacity"] is None
    assert "materialize backtest" in (sheets.index.parent / "book_long.html").read_text()
