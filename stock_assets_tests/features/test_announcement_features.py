import math
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import BadBarsError
from stock_assets.features.announcement_features import (
    COLUMNS,
    GROUP,
    HORIZON,
    LOOKBACK,
    AnnouncementRange,
    announcement_columns,
)
from stock_assets.features.daily import with_quantities
from stock_assets.features.lookback import histories
from stock_assets.features.peers import comovement
from stock_assets.features.side_features import SideFrames, computed
from stock_assets.frames import KEYS
from stock_assets_tests.features.generators import calendar, make_bars
from stock_assets_tests.side_inputs.rows import CALENDAR, announced, stored

SESSIONS = 900
DAYS = calendar(SESSIONS + 60)
SCHEDULE_SCHEMA = {
    "ticker": pl.String,
    "reaction_session": pl.Date,
    "known_from": pl.Date,
    "known_until": pl.Date,
}


@cache
def market(seed: int, gaps: bool = True) -> pl.DataFrame:
    return make_bars(seed, tickers=5, sessions=SESSIONS, gaps=gaps, wild=True)


def random_schedule(seed: int, tickers: Sequence[str] = ("T0", "T1", "T2", "T3")) -> pl.DataFrame:
    """Reactions about every quarter: some known ahead, some when they happen or later, some that do not stand for
    ever, and two in a quarter now and then. T4 has none."""
    rng = random.Random(seed)
    rows = []
    for ticker in tickers:
        place = rng.randrange(0, 60)
        while place < SESSIONS + 40:
            known = max(0, place - rng.choice([0, 0, 3, 10, 30, -1]))
            until = rng.choice([None, None, None, place + 1, place - 2, place + 5])
            if until is None or until > known:
                rows.append((ticker, DAYS[place], DAYS[min(known, len(DAYS) - 1)], until and DAYS[until]))
            place += rng.choice([2, 20, 62, 63, 64])
    return pl.DataFrame(rows, SCHEDULE_SCHEMA, orient="row")


class Oracle:
    """Every column by its text, one ticker and session at a time, with loops."""

    def __init__(self, bars: pl.DataFrame, schedule: pl.DataFrame) -> None:
        rows = with_quantities(
            histories(bars, ("open", "high", "low", "close", "volume", "split_ratio", "suspect"), DAYS)
        )
        self.bars = {
            (ticker, DAYS.index(session)): bar
            for (ticker, session), bar in zip(rows.select(KEYS).rows(), rows.to_dicts(), strict=True)
        }
        self.tickers = sorted(bars["ticker"].unique())
        self.events = [
            (t, DAYS.index(e), DAYS.index(f), DAYS.index(u) if u else math.inf) for t, e, f, u in schedule.rows()
        ]

    def of(self, ticker: str, t: int) -> dict[str, float]:
        k, s = self.until(ticker, t), self.since(ticker, t)
        quiet = self.quiet(ticker, t)
        v, g = self.mean([total + 1e-6 for total in quiet], 66), self.g(quiet)
        sizes, squares = self.recent(ticker, t)
        market = self.market(t)
        size = (sum(sizes) + 3 * market) / (len(sizes) + 3)
        square = (sum(squares) + 3 * math.exp(2 * (g + market))) / (len(sizes) + 3)
        is_ahead = k > 0
        last = self.last(ticker, t)
        peers = [p for p in self.peers(ticker, t) if (p, t) in self.bars]
        reacted = [p for p in peers if self.since(p, t) <= 2]
        moved = [self.residual(p, t - int(self.since(p, t))) for p in reacted]
        moved = [move for move in moved if math.isfinite(move)]
        dated = [p for p in self.tickers if (p, t) in self.bars and self.dated(p, t)]
        five = sum(r for i in range(max(0, t - 4), t + 1) if math.isfinite(r := self.residual(ticker, i)))
        jump, residual = self.jump(ticker, last), self.residual(ticker, last)
        jump, residual = (x if math.isfinite(x) else 0.0 for x in (jump, residual))
        return {
            "reaction_ahead": float(is_ahead),
            "reaction_nearness": (8 - k) / 7 if is_ahead else 0.0,
            "reaction_in_1": float(k == 1),
            "reaction_in_7": float(k == 7),
            "reaction_size": size,
            "reaction_ahead_size": size if is_ahead else 0.0,
            "reaction_mixture": 0.5 * math.log((6 * v + math.exp(2 * (g + size))) / (7 * v)) if is_ahead else 0.0,
            "reaction_mixture_squares": 0.5 * math.log((6 * v + square) / (7 * v)) if is_ahead else 0.0,
            "reaction_ahead_level": 0.5 * math.log(v) + 4.2 if is_ahead else 0.0,
            **{f"quiet_vol_{w}": 0.5 * math.log(self.mean(quiet, w) + 1e-5) for w in (2, 5, 10, 22, 66, 250)},
            **{f"quiet_vol_half_life_{h}": 0.5 * math.log(self.fading(quiet, h) + 1e-5) for h in (4, 25)},
            **{
                f"quiet_vol_log_{w}": self.mean([0.5 * math.log(total + 1e-5) for total in quiet], w) for w in (66, 250)
            },
            "since_reaction_3": math.exp(-s / 3),
            "since_reaction_10": math.exp(-s / 10),
            "since_reaction": min(s / 70, 3.0),
            "reaction_today": float(s == 0),
            "reaction_yesterday": float(s == 1),
            "reaction_echo": jump * math.exp(-s / 4),
            "reaction_dates": float(self.dated(ticker, t)),
            **{f"reaction_residual_{w}": residual if s <= w else 0.0 for w in (3, 20, 60)},
            "reaction_ahead_residual_5": is_ahead * five,
            "peers_ahead": sum(self.until(p, t) > 0 for p in peers) / len(peers) if peers else 0.0,
            "peers_reacted": len(reacted) / len(peers) if peers else 0.0,
            "peers_residual": float(np.mean(moved)) if moved else 0.0,
            "market_ahead": float(np.mean([self.until(p, t) > 0 for p in dated])) if dated else math.nan,
        }

    def stands(self, ticker: str, t: int) -> list[int]:
        return sorted({e for name, e, f, u in self.events if name == ticker and f <= t < u})

    def until(self, ticker: str, t: int) -> int:
        ahead = [e - t for e in self.stands(ticker, t) if 0 < e - t <= HORIZON]
        return min(ahead, default=0)

    def last(self, ticker: str, t: int) -> int:
        return max((e for e in self.stands(ticker, t) if t - 520 < e <= t), default=-1)

    def since(self, ticker: str, t: int) -> float:
        last = self.last(ticker, t)
        return t - last if last >= 0 else math.inf

    def dated(self, ticker: str, t: int) -> bool:
        return any(abs(e - t) <= 130 for e in self.stands(ticker, t))

    def quiet(self, ticker: str, t: int) -> list[float]:
        """`total` of the bars of this history up to t that were no reaction at their own close."""
        history = self.bars[ticker, t]["history"]
        bars = [(i, bar) for (name, i), bar in self.bars.items() if name == ticker and i <= t]
        bars = [(i, bar) for i, bar in bars if bar["history"] == history and bar["total"] is not None]
        return [bar["total"] for i, bar in sorted(bars, key=lambda pair: pair[0]) if i not in self.stands(ticker, i)]

    @staticmethod
    def mean(values: list[float], window: int) -> float:
        enough = len(values) >= min(window, 50)
        return sum(values[-window:]) / len(values[-window:]) if enough else math.nan

    @staticmethod
    def fading(values: list[float], half_life: int) -> float:
        weights = [0.5 ** (i / half_life) for i in range(min(len(values), 250))]
        if not weights:
            return math.nan
        return sum(w * x for w, x in zip(weights, reversed(values), strict=False)) / sum(weights)

    def g(self, quiet: list[float]) -> float:
        return self.mean([0.5 * math.log(total + 1e-6) for total in quiet], 66)

    @cache  # noqa: B019 - one oracle a test
    def jump(self, ticker: str, e: int) -> float:
        before = [i for name, i in self.bars if name == ticker and i < e]
        bar = self.bars.get((ticker, e))
        if not bar or not before or bar["total"] is None:
            return math.nan
        if self.bars[ticker, max(before)]["history"] != bar["history"]:
            return math.nan
        return 0.5 * math.log(bar["total"] + 1e-6) - self.g(self.quiet(ticker, max(before)))

    def recent(self, ticker: str, t: int) -> tuple[list[float], list[float]]:
        past = [e for e in self.stands(ticker, t) if t - 520 < e <= t and math.isfinite(self.jump(ticker, e))][-8:]
        return [self.jump(ticker, e) for e in past], [self.bars[ticker, e]["r"] ** 2 for e in past]

    def market(self, t: int) -> float:
        cells = [(name, i) for name in self.tickers for i in range(max(0, t - 249), t + 1) if (name, i) in self.bars]
        sizes = [self.jump(*cell) for cell in cells if cell[1] in self.stands(*cell) and not self.bars[cell]["suspect"]]
        sizes = [size for size in sizes if math.isfinite(size)]
        return sum(sizes) / len(sizes) if sizes else math.nan

    def residual(self, ticker: str, t: int) -> float:
        """With five tickers there are no factors: r minus the market's."""
        bar = self.bars.get((ticker, t))
        if not bar or bar["r"] is None:
            return math.nan
        others = [self.bars[name, t] for name in self.tickers if (name, t) in self.bars]
        others = [other["r"] for other in others if other["r"] is not None and not other["suspect"]]
        return bar["r"] - (sum(others) / len(others) if others else 0.0)

    def peers(self, ticker: str, t: int) -> list[str]:
        first = DAYS[t].replace(month=(DAYS[t].month - 1) // 3 * 3 + 1, day=1)
        begin = next(i for i, day in enumerate(DAYS) if day >= first)
        returns = [
            [
                bar["r"]
                if (bar := self.bars.get((name, i))) and not bar["suspect"] and bar["r"] is not None
                else np.nan
                for name in self.tickers
            ]
            for i in range(max(0, begin - 250), begin)
        ]
        found = comovement(np.array(returns, float).reshape(-1, len(self.tickers))).peers[self.tickers.index(ticker)]
        return [name for name, is_peer in zip(self.tickers, found, strict=True) if is_peer]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 3),
    schedule_seed=st.integers(0, 50),
    places=st.sets(st.integers(40, SESSIONS - 1), min_size=1, max_size=3),
)
def test_columns_equal_their_texts_computed_with_loops(seed: int, schedule_seed: int, places: set[int]):
    bars, schedule = market(seed), random_schedule(schedule_seed)
    made = announcement_columns(bars, schedule, DAYS[:SESSIONS], calendar=DAYS)
    oracle = Oracle(bars, schedule)
    for place in places:
        for row in made.filter(pl.col("session") == DAYS[place]).iter_rows(named=True):
            bar = oracle.bars[row["ticker"], place]
            expected = oracle.of(row["ticker"], place)
            # the market has dates, and the ticker missed few of the last LOOKBACK sessions
            seen = any(oracle.dated(name, place) for name in oracle.tickers if (name, place) in oracle.bars)
            first = max(0, place - LOOKBACK + 1)
            of_history = [
                i
                for (name, i), other in oracle.bars.items()
                if (name, other["history"]) == (row["ticker"], bar["history"]) and first <= i <= place
            ]
            seen &= place - min(of_history) + 1 - len(of_history) <= 50
            for name in COLUMNS:
                value = expected[name] if seen else math.nan
                found = math.nan if row[name] is None else row[name]
                assert found == pytest.approx(value, abs=1e-9, nan_ok=True), (row["ticker"], DAYS[place], name)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 3), schedule_seed=st.integers(0, 50), place=st.integers(0, SESSIONS - 1))
def test_a_session_alone_has_the_same_row_as_in_a_range(seed: int, schedule_seed: int, place: int):
    bars, schedule = market(seed), random_schedule(schedule_seed)
    made = announcement_columns(bars, schedule, DAYS[:SESSIONS], calendar=DAYS).filter(pl.col("session") == DAYS[place])
    near = bars.filter(pl.col("session").is_between(DAYS[max(0, place - LOOKBACK + 1)], DAYS[place]))
    alone = announcement_columns(
        near.sample(fraction=1.0, shuffle=True, seed=1), schedule, [DAYS[place]], calendar=DAYS
    )
    assert alone.select(KEYS).equals(made.select(KEYS))
    for name in COLUMNS:
        assert alone[name].is_null().equals(made[name].is_null()), name
        np.testing.assert_allclose(alone[name].to_numpy(), made[name].to_numpy(), rtol=0, atol=1e-9, err_msg=name)


def test_a_range_in_steps_has_the_rows_of_a_range_at_once(tmp_path: Path):
    """Groups of tickers, then blocks of sessions that begin anywhere, on panels in files."""
    bars, schedule, asked = market(1), random_schedule(3), DAYS[100:SESSIONS]
    made = announcement_columns(bars, schedule, asked, calendar=DAYS)
    tickers = sorted(bars["ticker"].unique())
    steps = AnnouncementRange(schedule, asked, tickers, calendar=DAYS, folder=tmp_path)
    own = pl.concat([steps.own(bars.filter(pl.col("ticker").is_in(some))) for some in (tickers[:1], tickers[1:])])
    ends = [asked[place] for place in (0, 1, 130, 795, len(asked) - 1)]
    begins = [date.min, *(end + timedelta(days=1) for end in ends)]
    blocks = [own.filter(pl.col("session").is_between(*pair)) for pair in zip(begins, ends, strict=False)]
    found = pl.concat([steps.completed(block) for block in blocks])
    assert_frame_equal(found.sort(KEYS), made.sort(KEYS), rel_tol=0, abs_tol=1e-9)
    assert list(tmp_path.iterdir()) == []  # the files have no name


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 3), schedule_seed=st.integers(0, 50), cut=st.integers(100, SESSIONS - 2))
def test_nothing_that_became_known_after_a_session_is_seen(seed: int, schedule_seed: int, cut: int):
    bars, schedule = market(seed), random_schedule(schedule_seed)
    made = announcement_columns(bars, schedule, DAYS[:SESSIONS], calendar=DAYS)
    noise = np.random.default_rng(cut)
    later = pl.col("session") > DAYS[cut]
    other = pl.Series(np.exp(noise.normal(3, 1, bars.height)))
    noisy = bars.with_columns(
        **{name: pl.when(later).then(other).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")},
        total_return=pl.when(later).then(pl.Series(noise.normal(0, 0.05, bars.height))).otherwise("total_return"),
    )
    # what a reader of that evening has: rows that were known, and no end of theirs that came later
    then = schedule.filter(pl.col("known_from") <= DAYS[cut]).with_columns(
        known_until=pl.when(pl.col("known_until") <= DAYS[cut]).then("known_until")
    )
    again = announcement_columns(noisy, then, DAYS[:SESSIONS], calendar=DAYS)
    before = pl.col("session") <= DAYS[cut]
    assert again.filter(before).equals(made.filter(before))
    assert not again.filter(later).equals(made.filter(later))


def test_a_market_without_dates_has_null_columns():
    made = announcement_columns(market(0), pl.DataFrame(schema=SCHEDULE_SCHEMA), DAYS[:SESSIONS], calendar=DAYS)
    assert made.height == market(0).height
    assert made.select(pl.all_horizontal(pl.col(COLUMNS).is_null()).all()).item()


def test_a_ticker_without_dates_has_those_of_the_market_around_it():
    made = announcement_columns(market(0, gaps=False), random_schedule(1), DAYS[700:SESSIONS], calendar=DAYS)
    without = made.filter(pl.col("ticker") == "T4")
    assert (without["reaction_dates"] == 0).all()
    assert (without["reaction_ahead"] == 0).all()
    assert (without["since_reaction"] == 3.0).all()
    assert without["reaction_size"].null_count() == 0
    assert without["market_ahead"].max() > 0


def test_no_bars_have_no_rows():
    made = announcement_columns(market(0).clear(), random_schedule(0), DAYS[:10], calendar=DAYS)
    assert made.height == 0
    assert made.columns == [*KEYS, *COLUMNS]


def test_a_bar_twice_is_refused():
    bars = market(0)
    with pytest.raises(BadBarsError, match="expected one bar per ticker and session"):
        announcement_columns(pl.concat([bars, bars.tail(1)]), random_schedule(0), DAYS[:SESSIONS], calendar=DAYS)


def test_ten_real_years_equal_their_days(real_data: Callable[[str], Path]):
    """Real prices and dates of a hundred tickers: a session alone, and with what became known later removed."""
    prices = pl.read_parquet(real_data("yahoo_sp500_2010_2019.parquet"))
    dates = pl.read_parquet(real_data("earnings_dates_2008_2020.parquet"))
    tickers = sorted(prices["ticker"].unique())[:100]
    prices = prices.filter(pl.col("ticker").is_in(tickers), pl.col("date") >= date(2013, 6, 1)).sort("ticker", "date")
    scale = pl.col("adj_close") / pl.col("close")
    bars = prices.with_columns(
        *(pl.col(name) * scale for name in ("open", "high", "low", "close")),
        session="date",
        total_return=pl.col("adj_close").pct_change().over("ticker"),
        suspect=pl.lit(None, pl.String),
    )
    sessions = tuple(bars["session"].unique().sort())
    dates = dates.filter(pl.col("ticker").is_in(tickers), pl.col("date").is_between(sessions[0], sessions[-1]))
    reaction = pl.Series(sessions).extend_constant(None, 2)
    place = pl.Series(sessions).search_sorted(dates["date"])
    exact = (reaction.gather(place) == dates["date"]).fill_null(value=False)
    schedule = dates.select(
        "ticker",
        reaction_session=reaction.gather(place + ((dates["when"] == "post") & exact)),
        known_from=pl.col("date") - pl.duration(days=14),
        known_until=pl.lit(None, pl.Date),
    ).drop_nulls("reaction_session")
    day = date(2019, 7, 24)
    asked = [session for session in sessions if session >= date(2017, 1, 3)]
    made = announcement_columns(bars, schedule, asked, calendar=sessions).filter(pl.col("session") == day)
    alone = announcement_columns(
        bars.filter(pl.col("session") <= day), schedule.filter(pl.col("known_from") <= day), [day], calendar=sessions
    )
    assert made["reaction_ahead"].sum() > 20  # in the middle of the season
    assert made["reaction_size"].median() > 0.5
    for name in COLUMNS:
        np.testing.assert_allclose(alone[name].to_numpy(), made[name].to_numpy(), rtol=0, atol=1e-9, err_msg=name)


def test_the_group_reads_the_versions_that_are_stored():
    days = calendar(450)
    bars = make_bars(0, tickers=2, sessions=450, events=False).with_columns(
        ticker=pl.when(pl.col("ticker") == "T0").then(pl.lit("AAA")).otherwise("ticker"),
        session=pl.col("session").replace_strict(dict(zip(days, CALENDAR.sessions, strict=False))),
    )
    rows = stored(
        announced(("2024-05-02", "pre", "2024-04-20 12:00"), origin="calendar"),
        announced(("2024-05-02", "post", "2024-05-02 21:00"), origin="filed"),
    )
    made = computed(GROUP, SideFrames(bars, {"announcements": rows}, CALENDAR.sessions[250:450], CALENDAR))
    of_day = {row["session"]: row for row in made.filter(pl.col("ticker") == "AAA").iter_rows(named=True)}
    assert of_day[date(2024, 4, 22)]["reaction_ahead"] == 0.0
    assert of_day[date(2024, 4, 22)]["reaction_dates"] == 1.0
    assert of_day[date(2024, 4, 23)]["reaction_in_7"] == 1.0
    assert of_day[date(2024, 5, 2)]["reaction_today"] == 1.0  # as the vendor said
    assert of_day[date(2024, 5, 3)]["reaction_today"] == 1.0  # as the filing of the evening before says
    assert of_day[date(2024, 4, 19)]["reaction_dates"] is None  # nobody had a date
