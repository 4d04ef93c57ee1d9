"""The simulated market: the same whatever is asked, shaped like a real one, with a known best score."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.sources import simulated_laws
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.simulated_companies import TICKERS
from stock_assets.market.sources.simulated_laws import Shocks, State, step
from stock_assets.market.sources.simulated_schedule import reactions
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA

FIRST, LAST = date(2018, 1, 2), date(2025, 12, 31)
NOW = datetime(2026, 1, 1, 3, tzinfo=UTC)
HORIZON, BUY, SELL = 7, 0.027, 0.022
PRICES = ["open", "high", "low", "close"]

SOME = [f"SIM{i:02d}" for i in (1, 5, 7, 12, 24, 38, 53, 60)]  # a reverse split, listings, delistings

quick = settings(derandomize=True, deadline=None, max_examples=10)


@pytest.fixture(scope="module")
def calendar() -> TradingCalendar:
    return trading_calendar("XNYS", FIRST)


@pytest.fixture(scope="module")
def source(calendar: TradingCalendar) -> SimulatedSource:
    return SimulatedSource(calendar)


@pytest.fixture(scope="module")
def bars(source: SimulatedSource) -> pl.DataFrame:
    return source.fetch(TICKERS, FIRST, LAST, fetched_at=NOW).bars


@pytest.fixture(scope="module")
def returns(bars: pl.DataFrame) -> pl.DataFrame:
    """Total returns as anybody would compute them from as-traded bars: (session, one column per ticker)."""
    total = (pl.col("close") + pl.col("dividend")) * pl.col("split_ratio") / pl.col("close").shift() - 1
    return (
        as_traded(bars)
        .with_columns(total.over("ticker").alias("total_return"))
        .pivot("ticker", index="session", values="total_return", sort_columns=True)
        .sort("session")
    )


@pytest.fixture(scope="module")
def labels(returns: pl.DataFrame) -> pl.DataFrame:
    """An independent labeller, one row and one day ahead at a time, in plain numpy."""
    matrix = returns.drop("session").to_numpy()
    rows = []
    for j, ticker in enumerate(returns.columns[1:]):
        growth = np.cumprod(1 + np.nan_to_num(matrix[:, j]))
        alive = np.flatnonzero(np.isfinite(matrix[:, j]))
        for t in range(alive[0], alive[-1] - HORIZON + 1):
            path = growth[t + 1 : t + 1 + HORIZON] / growth[t] - 1
            touched = path[(path > BUY) | (path < -SELL)]
            rows.append((ticker, returns["session"][t], int(np.sign(touched[0])) if touched.size else 0))
    return pl.DataFrame(rows, schema=["ticker", "session", "label"], orient="row")


def as_traded(frame: pl.DataFrame) -> pl.DataFrame:
    later = pl.col("later_splits")
    return frame.with_columns(pl.col(*PRICES, "dividend") * later, pl.col("volume") / later)


def traded_columns(frame: pl.DataFrame) -> pl.DataFrame:
    return as_traded(frame).select("ticker", "session", *PRICES, "volume", "dividend", "split_ratio")


def autocorrelation(matrix: np.ndarray, lag: int) -> float:
    """The mean over tickers of the correlation of a column with itself `lag` rows later."""
    pairs = (np.stack([column[:-lag], column[lag:]]) for column in matrix.T)
    return float(np.mean([np.corrcoef(pair[:, np.isfinite(pair).all(axis=0)])[0, 1] for pair in pairs]))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def evening_of(day: date) -> datetime:
    """The first moment at which the session of `day` is closed."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def log_loss(probabilities: np.ndarray, classes: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(classes)), classes]).mean())


# What comes back


def test_bars_are_sorted_unique_and_of_the_raw_schema(bars: pl.DataFrame):
    assert bars.schema == RAW_SCHEMA
    assert_frame_equal(bars, bars.unique(["ticker", "session"]).sort("ticker", "session"))
    assert bars["source"].unique().to_list() == ["simulated"]
    assert bars["fetched_at"].unique().to_list() == [NOW]


def test_prices_are_positive_and_inside_their_range(bars: pl.DataFrame):
    assert bars.select(pl.col(*PRICES, "adj_close", "volume").min() > 0).row(0) == (True,) * 6
    assert bars.filter(pl.col("high") < pl.max_horizontal("open", "close", "low")).is_empty()
    assert bars.filter(pl.col("low") > pl.min_horizontal("open", "close", "high")).is_empty()
    assert bars.select(pl.all().exclude("previous_adj_close").null_count().sum()).sum_horizontal()[0] == 0
    assert bars.select(pl.col(pl.Float64).is_nan().any()).sum_horizontal()[0] == 0


def test_the_universe_says_that_it_is_simulated_and_who_trades_when(source: SimulatedSource, bars: pl.DataFrame):
    universe = source.universe()
    assert universe.schema == UNIVERSE_SCHEMA
    assert universe["ticker"].to_list() == [f"SIM{i:02d}" for i in range(1, 61)]
    assert universe["name"].str.contains(r"^Simulated \w+ Company \d\d \(not a real company\)$").all()
    assert universe["sector"].n_unique() == 6
    assert universe.filter(pl.col("from_session") > FIRST).height == 8
    assert universe.filter(pl.col("to_session").is_not_null()).height == 6
    traded = bars.group_by("ticker").agg(
        from_session=pl.col("session").min(), to_session=pl.col("session").max(), bars=pl.len()
    )
    both = universe.join(traded, on="ticker", suffix="_traded")
    assert both["from_session"].equals(both["from_session_traded"])
    assert both["to_session"].fill_null(LAST).equals(both["to_session_traded"])


def test_every_company_trades_on_every_session_of_its_listing(bars: pl.DataFrame, calendar: TradingCalendar):
    spans = bars.group_by("ticker").agg(
        pl.len(), pl.col("session").min().alias("a"), pl.col("session").max().alias("b")
    )
    for ticker, count, first, last in spans.iter_rows():
        assert count == len(calendar.between(first, last)), ticker


def test_a_short_calendar_leaves_later_listings_out(calendar: TradingCalendar):
    short = SimulatedSource(TradingCalendar("XNYS", calendar.sessions[:420]))
    universe = short.universe()
    assert universe.height == 56
    # SIM05 has its last bar on the calendar's last session
    assert universe.filter(pl.col("to_session").is_not_null())["ticker"].to_list() == ["SIM05"]
    assert SimulatedSource(TradingCalendar("XNYS", calendar.sessions[:419])).universe()["to_session"].null_count() == 56


def test_tickers_narrow_what_is_offered_and_not_what_happens(calendar: TradingCalendar, bars: pl.DataFrame):
    narrow = SimulatedSource(calendar, tickers=("SIM07", "SIM02"))
    assert narrow.universe()["ticker"].to_list() == ["SIM02", "SIM07"]
    answer = narrow.fetch(["SIM07", "SIM07"], FIRST, LAST, fetched_at=NOW).bars
    assert_frame_equal(answer, bars.filter(pl.col("ticker") == "SIM07"))
    with pytest.raises(SourceError, match=r"has no ticker SIM03; it has SIM02, SIM07"):
        narrow.fetch(["SIM03"], FIRST, LAST, fetched_at=NOW)


# The same answer, however it is asked


@quick
@given(day=st.integers(0, 2010), length=st.integers(1, 400), evening=st.integers(0, 700))
def test_as_traded_rows_never_depend_on_when_or_how_they_are_fetched(day: int, length: int, evening: int):
    calendar = trading_calendar("XNYS", FIRST)
    source = SimulatedSource(calendar)
    first, last = calendar.sessions[day], calendar.sessions[min(day + length, 2010)]
    early = evening_of(last)
    seen_then = source.fetch(SOME, first, last, fetched_at=early).bars
    seen_later = source.fetch(SOME, first, last, fetched_at=early + timedelta(days=evening)).bars
    whole = source.fetch(SOME, FIRST, LAST, fetched_at=NOW).bars.filter(pl.col("session").is_between(first, last))
    for other in (seen_later, whole):
        assert_frame_equal(traded_columns(seen_then), traded_columns(other), rel_tol=1e-12, abs_tol=0)
    # among answers of one evening a range is a part of the whole, to the bit
    assert_frame_equal(source.fetch(SOME, first, last, fetched_at=NOW).bars, whole, check_exact=True)


@settings(quick, max_examples=5)
@given(count=st.integers(1, 600), further=st.integers(1, 300), seed=st.integers(0, 3))
def test_the_future_of_the_calendar_and_of_the_run_changes_nothing(count: int, further: int, seed: int):
    calendar = trading_calendar("XNYS", FIRST)
    last, later = calendar.sessions[count - 1], calendar.sessions[count - 1 + further]

    def answer(source: SimulatedSource, furthest: date) -> pl.DataFrame:
        simulated_laws._block.cache_clear()
        simulated_laws._history.cache_clear()
        source.fetch(TICKERS, furthest, furthest, fetched_at=evening_of(furthest))
        return source.fetch(TICKERS, FIRST, last, fetched_at=evening_of(last)).bars

    closed = TradingCalendar("XNYS", calendar.sessions[:count])
    truncated = answer(SimulatedSource(closed, seed), last)
    assert_frame_equal(truncated, answer(SimulatedSource(calendar, seed), later), check_exact=True)


def test_only_closed_sessions_exist(source: SimulatedSource):
    monday = date(2024, 3, 4)
    noon = datetime(2024, 3, 4, 12, tzinfo=UTC)
    assert source.fetch(["SIM01"], FIRST, LAST, fetched_at=noon).bars["session"].max() == date(2024, 3, 1)
    assert source.fetch(["SIM01"], FIRST, LAST, fetched_at=noon + timedelta(hours=12)).bars["session"].max() == monday


def test_a_vendor_restates_history_after_a_split_and_a_dividend(source: SimulatedSource, bars: pl.DataFrame):
    ticker, day, ratio = bars.filter(pl.col("split_ratio") == 4).select("ticker", "session", "split_ratio").row(0)
    first = day - timedelta(days=10)
    before = source.fetch([ticker], first, day, fetched_at=evening_of(day) - timedelta(hours=3)).bars
    after = source.fetch([ticker], first, day, fetched_at=evening_of(day)).bars
    restated = after.filter(pl.col("session") < day)
    np.testing.assert_allclose(before["close"] / restated["close"], ratio, rtol=1e-12)
    np.testing.assert_allclose(restated["volume"] / before["volume"], ratio, rtol=1e-12)
    assert restated["later_splits"].to_list() == [ratio] * restated.height
    assert after["later_splits"][-1] == 1.0  # strictly after the bar: not on the ex-date itself
    assert after["adj_close"][-1] == after["close"][-1]


def test_adjusted_closes_follow_the_total_return(bars: pl.DataFrame):
    previous = pl.col("close").shift().over("ticker")
    compared = (
        as_traded(bars)
        .with_columns(
            adjusted=pl.col("adj_close") / pl.col("adj_close").shift().over("ticker") - 1,
            total=(pl.col("close") + pl.col("dividend")) * pl.col("split_ratio") / previous - 1,
            paid=pl.col("dividend") * pl.col("split_ratio") / previous,
        )
        .drop_nulls("total")
    )
    # the vendor's rule compounds a dividend where the total return adds it, which differs by exactly this much
    compounded = (compared["total"] * compared["paid"] / (1 - compared["paid"])).to_numpy()
    difference = (compared["adjusted"] - compared["total"]).to_numpy()
    np.testing.assert_allclose(difference, compounded, atol=1e-12)
    assert 0 < np.abs(compounded).max() < 1e-2
    answered = compared["adj_close"] / compared["previous_adj_close"] - 1
    np.testing.assert_allclose(answered, compared["adjusted"], atol=1e-12)


def test_the_first_bar_of_a_range_still_has_its_previous_adjusted_close(source: SimulatedSource, bars: pl.DataFrame):
    day = source.fetch(TICKERS, date(2019, 6, 3), date(2019, 6, 3), fetched_at=NOW).bars
    assert day["previous_adj_close"].null_count() == 0
    assert_frame_equal(day, bars.filter(pl.col("session") == date(2019, 6, 3)))
    assert bars["previous_adj_close"].null_count() == 60


def test_frozen_values(source: SimulatedSource, bars: pl.DataFrame):
    """Notices an accidental change of the market: it would contradict the bars that users have stored."""
    rows = as_traded(bars).select("ticker", "session", "close", "volume")
    frozen = [
        ("SIM01", date(2018, 1, 2), 78.12966542096386, 9460683.0),
        ("SIM38", date(2019, 12, 16), 43.9939726910156, 62794284.0),
        ("SIM60", date(2025, 12, 31), 62.50239652483027, 770293.0),
    ]
    for found, expected in zip([rows.row(i) for i in (0, 70_000, -1)], frozen, strict=True):
        assert found[:2] == expected[:2]
        assert found[2:] == pytest.approx(expected[2:], rel=1e-6)  # libraries of exp and log differ in last bits
    drift = source.expected_next_return([LAST])["expected_return"].sum()
    assert drift == pytest.approx(0.032576515417205534, rel=1e-6)


# Shaped like a market


def test_corporate_actions(bars: pl.DataFrame):
    ratios = bars.filter(pl.col("split_ratio") != 1)["split_ratio"]
    assert set(ratios) == {0.1, 2.0, 4.0}
    assert ratios.len() >= 30
    dividends = as_traded(bars).filter(pl.col("dividend") > 0)
    assert dividends["ticker"].n_unique() == 36
    assert dividends.height >= 900
    np.testing.assert_allclose(dividends["dividend"] * 100, (dividends["dividend"] * 100).round(0), rtol=1e-9)
    special = dividends.with_columns(rate=pl.col("dividend") / pl.col("close")).filter(pl.col("rate") > 0.05)
    assert special["ticker"].to_list() == ["SIM12"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stylised_facts(calendar: TradingCalendar, seed: int):
    bars = SimulatedSource(calendar, seed).fetch(TICKERS, FIRST, LAST, fetched_at=NOW).bars
    growth = bars.with_columns((pl.col("adj_close") / pl.col("previous_adj_close") - 1).alias("r"))
    r = growth.pivot("ticker", index="session", values="r").sort("session").drop("session").to_numpy()
    pooled = r[np.isfinite(r)]
    assert (((pooled - pooled.mean()) / pooled.std()) ** 4).mean() > 4  # fat tails; 3 is normal
    assert 0.012 < pooled.std() < 0.022
    ordinary = np.where(reactions(seed, np.arange(len(r))), np.nan, r)  # a reaction is large by itself
    for lag in range(1, 6):
        assert autocorrelation(np.abs(ordinary), lag) > 0.1  # volatility clusters
        assert abs(autocorrelation(r, lag)) < 0.06  # direction hardly does
    full = r[:, np.isfinite(r[1:]).all(axis=0)][1:]
    assert 0.25 < np.corrcoef(full.T)[np.triu_indices(full.shape[1], 1)].mean() < 0.5
    logs = growth.drop_nulls("r").select("ticker", r=pl.col("r").abs(), volume=(pl.col("volume").log()))
    assert logs.group_by("ticker").agg(pl.corr("r", "volume"))["r"].to_numpy().min() > 0.2
    assert bars.filter(pl.col("split_ratio") < 1).height >= 1


def test_sectors_move_together(source: SimulatedSource, returns: pl.DataFrame):
    complete = [name for name in returns.columns[1:] if returns[name].null_count() <= 1]
    matrix = returns.select(complete).drop_nulls().to_numpy()
    correlation = np.corrcoef((matrix - matrix.mean(axis=1, keepdims=True)).T)
    sector = dict(source.universe().select("ticker", "sector").iter_rows())
    codes = np.array([sector[name] for name in complete])
    same, apart = codes[:, None] == codes, codes[:, None] != codes
    np.fill_diagonal(same, False)
    assert correlation[same].mean() > correlation[apart].mean() + 0.1


def test_ranges_tell_the_volatility_of_the_closes(bars: pl.DataFrame):
    """Garman and Klass's estimator plus the squared gap has the mean of the squared close-to-close moves."""
    before = pl.col("close").shift().over("ticker") / pl.col("split_ratio") - pl.col("dividend")
    gap, move = (pl.col("open") / before).log(), (pl.col("close") / before).log()
    span, inner = (pl.col("high") / pl.col("low")).log(), (pl.col("close") / pl.col("open")).log()
    estimate, truth, overnight = (
        as_traded(bars)
        .select(gap**2 + 0.5 * span**2 - (2 * np.log(2) - 1) * inner**2, truth=move**2, overnight=gap**2)
        .mean()
        .row(0)
    )
    assert 0.9 < estimate / truth < 1.1
    assert 0.2 < overnight / truth < 0.3


@quick
@given(
    turbulent=st.booleans(),
    market=st.floats(-1, 1.25),
    own=st.floats(-1.2, 1.2),
    reversal=st.floats(-12, 12),
    shock=st.floats(-6, 6),
    sign=st.sampled_from([-1, 1]),
    reacts=st.booleans(),
)
@example(turbulent=True, market=1.25, own=1.2, reversal=12, shock=-6, sign=1, reacts=False)
@example(turbulent=True, market=1.25, own=1.2, reversal=12, shock=-6, sign=1, reacts=True)
def test_no_return_comes_near_minus_one(
    turbulent: bool, market: float, own: float, reversal: float, shock: float, sign: int, reacts: bool
):
    state = State(np.array([turbulent]), np.array([market]), np.full(60, own), np.full(60, reversal))
    one, sectors, all_companies = np.full(1, shock), np.full(6, shock), np.full(60, shock)
    shocks = Shocks(one, sectors, all_companies, np.full(1, 0.5), one, sign * all_companies)
    returns, following = step(state, shocks, np.full(60, reacts))
    assert returns.min() > -0.92
    assert -1 <= following.market[0] <= 1.25
    assert np.abs(following.own).max() <= 1.2


# The best score is known


def test_labels_are_roughly_balanced(labels: pl.DataFrame):
    shares = [labels.filter(pl.col("label") == value).height / labels.height for value in (-1, 0, 1)]
    assert min(shares) > 0.25, shares
    assert max(shares) < 0.42, shares


def test_the_oracle_beats_every_prior_and_is_calibrated(source: SimulatedSource, labels: pl.DataFrame):
    sessions = labels["session"].unique().sort().to_list()[10::20]
    oracle = source.oracle_probabilities(sessions, horizon=HORIZON, buy_threshold=BUY, sell_threshold=SELL, paths=400)
    assert oracle.columns == ["ticker", "session", "p_sell", "p_hold", "p_buy"]
    assert_frame_equal(oracle, oracle.sort("ticker", "session"))

    joined = oracle.join(labels, on=["ticker", "session"])
    p, classes = joined.select("p_sell", "p_hold", "p_buy").to_numpy(), joined["label"].to_numpy() + 1
    assert joined.height > 5000
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert p.min() > 0

    own = np.eye(3)[classes]
    frequency = own.mean(axis=0)
    prior = log_loss(np.tile(frequency, (len(classes), 1)), classes)
    # per-ticker frequencies of the very rows that are scored: a naive opponent who is even allowed to cheat
    shares = joined.with_columns(pl.Series(name, own[:, k]) for k, name in enumerate("abc"))
    per_ticker = shares.select(pl.col("a", "b", "c").mean().over("ticker")).to_numpy()
    score = log_loss(p, classes)
    assert score < prior - 0.06
    assert score < log_loss(per_ticker, classes) - 0.03

    # rows of one day share the market, hence the width
    np.testing.assert_allclose(p.mean(axis=0), frequency, atol=0.03)
    for k in range(3):
        order = np.argsort(p[:, k])
        for part in np.array_split(order, 5):
            assert abs(p[part, k].mean() - own[part, k].mean()) < 0.06
    # a calibrated forecaster's own entropy is what it scores
    assert abs(-(p * np.log(p)).sum(axis=1).mean() - score) < 0.02


def test_the_oracle_is_a_function_of_its_question(source: SimulatedSource):
    days = [date(2021, 5, 3), date(2023, 5, 3)]
    both = source.oracle_probabilities(days, horizon=3, buy_threshold=BUY, sell_threshold=SELL, paths=50)
    one = source.oracle_probabilities(days[1:], horizon=3, buy_threshold=BUY, sell_threshold=SELL, paths=50)
    assert_frame_equal(one, both.filter(pl.col("session") == days[1]), check_exact=True)
    unreachable = source.oracle_probabilities(days, horizon=3, buy_threshold=5.0, sell_threshold=0.999, paths=50)
    assert unreachable["p_hold"].min() == pytest.approx((50 + 1 / 3) / 51)
    assert source.oracle_probabilities([], horizon=3, buy_threshold=BUY, sell_threshold=SELL).is_empty()


def test_the_planted_drift_ranks_the_next_returns(source: SimulatedSource, returns: pl.DataFrame):
    """The rank IC that nobody can beat; anybody sees a part of it in yesterday's returns."""
    sessions = returns["session"].to_list()
    expected = (
        source.expected_next_return(sessions)
        .pivot("ticker", index="session", values="expected_return", sort_columns=True)
        .sort("session")
    )
    mean, actual = expected.drop("session").to_numpy()[:-1], returns.drop("session").to_numpy()[1:]
    both = np.isfinite(mean) & np.isfinite(actual)
    ics = np.array([rank_correlation(m[k], a[k]) for m, a, k in zip(mean, actual, both, strict=True)])
    assert 0.03 < ics.mean() < 0.06
    # the drift is the mean, not only its order: regressing returns on it gives a slope of one
    residual, centred = actual[both] - actual[both].mean(), mean[both] - mean[both].mean()
    assert 0.7 < (residual * centred).sum() / (centred**2).sum() < 1.3
    yesterday = returns.drop("session").to_numpy()[1:-1]
    seen = [
        rank_correlation(-y[k], a[k])
        for y, a, k in zip(yesterday, actual[1:], both[1:] & np.isfinite(yesterday), strict=True)
    ]
    assert 0.005 < np.mean(seen) < ics.mean()


# Questions without an answer


def test_an_unknown_ticker_is_named_beside_what_exists(source: SimulatedSource, calendar: TradingCalendar):
    message = r"has no ticker AAPL; it has SIM01, SIM02, SIM03, … SIM60 \(60 tickers\)"
    with pytest.raises(SourceError, match=message):
        source.fetch(["SIM01", "AAPL"], FIRST, LAST, fetched_at=NOW)
    with pytest.raises(SourceError, match=message):
        SimulatedSource(calendar, tickers=("AAPL",)).universe()


@pytest.mark.parametrize(
    ("tickers", "first", "last", "fetched_at"),
    [
        (["SIM60"], FIRST, date(2018, 12, 31), NOW),  # not listed yet
        (["SIM05"], date(2020, 1, 2), LAST, NOW),  # delisted
        (TICKERS, date(2024, 12, 25), date(2024, 12, 25), NOW),  # a holiday
        (TICKERS, LAST, FIRST, NOW),  # reversed
        (TICKERS, FIRST, LAST, datetime(2018, 1, 2, 20, tzinfo=UTC)),  # before the first close
        (TICKERS, date(2026, 1, 5), date(2026, 1, 9), NOW),  # the future
        ([], FIRST, LAST, NOW),
    ],
)
def test_nothing_is_an_error(
    source: SimulatedSource, tickers: list[str], first: date, last: date, fetched_at: datetime
):
    with pytest.raises(EmptySourceError, match=f"from {first} to {last}; at .* it has"):
        source.fetch(tickers, first, last, fetched_at=fetched_at)


def test_a_split_is_announced_before_its_session_as_its_bar_shows_it():
    bars, count = simulated_laws.history_to(7, 1000).bars["split_ratio"], 0
    for position in range(1001):
        announced = simulated_laws.announced_splits(7, position)
        assert announced == {TICKERS[j]: bars[position, j] for j in np.flatnonzero(bars[position] != 1)}
        count += len(announced)
    assert count > 10
