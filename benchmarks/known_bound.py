"""How near `rnn` comes to the best score that the simulated market allows, and where the rest is lost.

    python -m benchmarks.known_bound [--seeds N] [--without dates] [--without context]

Walk-forward 2020 to 2025 on 60 simulated tickers since 2018, as `stock_assets_tests/model/test_skill.py` asserts it.
The bound is what a forecast scores that knows the laws, the state behind the prices and what is published of coming
announcements (`SimulatedSource.oracle_probabilities`). No forecast sees that state: `filtered_probabilities` knows the
laws too, but only what prices, ^VIX and dates show, and is what a forecast can reach in practice. Two more oracles know
the state and the past announcements alone, or only how frequent they are.

The loss above the bound is taken apart in the probabilities themselves, so that it does not matter how a model made
them: ln(P(move) / P(hold)) and ln(P(buy) / P(sell)), each as the mean of its session and the differences to it. Each
of the four parts is replaced by the oracle's, the others kept. With --seeds the same is shown of the mean of several
trainings, which is what the noise of one training costs. Intervals from blocks of 21 days.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.common import preamble, table
from stock_assets.evaluation.bootstrap import BLOCK, drawn_sessions, interval
from stock_assets.features.announcement_features import GROUP
from stock_assets.features.labels import barrier_labels
from stock_assets.features.market_context import context_features
from stock_assets.features.side_features import SideFrames, computed
from stock_assets.features.stationary import stationary_features
from stock_assets.frames import KEYS
from stock_assets.market.adjustments import clean_bars
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.simulated_schedule import Dates
from stock_assets.model.baselines.naive import fit_class_prior, fit_ticker_prior
from stock_assets.model.config import RnnConfig
from stock_assets.model.lesson import InputFrames, Lesson
from stock_assets.model.networks.rnn import train_rnn
from stock_assets.model.splits import training_rows, usable_labels
from stock_assets.setting_values import LabelRule
from stock_assets.side_inputs.announcing import with_replays
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.sources.simulated_announcements import SimulatedAnnouncements

RULE = LabelRule(7, 0.027, 0.022)
FIRST, LAST = date(2018, 1, 2), date(2025, 12, 31)
YEARS = tuple(range(2020, 2026))
#: Every so many sessions are scored, each with so many paths of the oracle.
EVERY, PATHS = 3, 1000
PROBABILITIES = ["p_sell", "p_hold", "p_buy"]
#: Single precision, so that the score is that of any machine.
CONFIG = RnnConfig(bfloat16=False)


@dataclass(frozen=True)
class Market:
    """The simulated market as the models read it; `without` leaves out what a user may lack."""

    seed: int = 0
    without: tuple[str, ...] = ()

    @cached_property
    def source(self) -> SimulatedSource:
        return SimulatedSource(trading_calendar("XNYS", FIRST, LAST), self.seed)

    @property
    def days(self) -> tuple[date, ...]:
        return self.source.calendar.sessions

    @cached_property
    def bars(self) -> pl.DataFrame:
        universe = self.source.universe()
        tickers = universe["ticker"].unique().to_list()
        raw = self.source.fetch(tickers, FIRST, LAST, fetched_at=_EVENING).bars
        return clean_bars(raw, universe, self.days)

    @cached_property
    def suspects(self) -> pl.DataFrame:
        return self.bars.filter(pl.col("suspect").is_not_null()).select(*KEYS, "suspect")

    @cached_property
    def labels(self) -> pl.DataFrame:
        return usable_labels(barrier_labels(self.bars, RULE), self.suspects)[0]

    @cached_property
    def features(self) -> pl.DataFrame:
        """ticker, session and every input column of the models."""
        features = stationary_features(self.bars)
        if "context" not in self.without:
            closes = self.source.context(FIRST, LAST, _EVENING).rows
            context = context_features(closes, self.days)
            features = features.join(context, on="session", how="left", maintain_order="left")
        if "dates" not in self.without:
            features = features.join(self._announcement_features(), on=KEYS, how="left", maintain_order="left")
        return features

    def _announcement_features(self) -> pl.DataFrame:
        # the calendar goes on beyond the last session, where announcements are expected
        calendar = trading_calendar("XNYS", FIRST, LAST + timedelta(days=60))
        tickers = self.source.universe()["ticker"].unique().to_list()
        answer = SimulatedAnnouncements(calendar, self.seed).fetch(tickers, FIRST, LAST, fetched_at=_EVENING)
        rows = with_session(with_replays(answer.rows, calendar), calendar)
        return computed(GROUP, SideFrames(self.bars, {"announcements": rows}, self.days, calendar))

    def oracle(self, sessions: Sequence[date], dates: Dates = "published") -> pl.DataFrame:
        buy, sell = RULE.buy_threshold, RULE.sell_threshold
        return self.source.oracle_probabilities(
            sessions, horizon=RULE.horizon, buy_threshold=buy, sell_threshold=sell, paths=PATHS, dates=dates
        )

    def filtered(self, sessions: Sequence[date]) -> pl.DataFrame:
        buy, sell = RULE.buy_threshold, RULE.sell_threshold
        return self.source.filtered_probabilities(
            sessions, horizon=RULE.horizon, buy_threshold=buy, sell_threshold=sell, paths=PATHS
        )


_EVENING = datetime(LAST.year, LAST.month, LAST.day, tzinfo=UTC) + timedelta(days=1)


class Scored(NamedTuple):
    """N rows that every forecast answered."""

    keys: pl.DataFrame
    """ticker, session"""
    truth: np.ndarray
    """int64 [N]: -1, 0, 1"""
    forecasts: Mapping[str, np.ndarray]
    """float64 [N, 3] by name: sell, hold, buy"""

    @property
    def session(self) -> np.ndarray:
        """int64 [N]: the number of the row's session among those scored."""
        return self.keys["session"].rank("dense").cast(pl.Int64).to_numpy() - 1

    @property
    def year(self) -> np.ndarray:
        return self.keys["session"].dt.year().to_numpy()

    def losses(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 [N]: -ln of the probability of what came."""
        return -np.log(probabilities[np.arange(len(self.truth)), self.truth + 1])

    def log_loss(self, probabilities: np.ndarray) -> float:
        """The mean of the yearly means."""
        losses, year = self.losses(probabilities), self.year
        return float(np.mean([losses[year == one_year].mean() for one_year in np.unique(year)]))

    def share(self, name: str = "rnn", *, best_name: str = "bound") -> float:
        """The share of the way from the best naive baseline to the bound, or to `best_name`, that a forecast makes."""
        loss = {key: self.log_loss(values) for key, values in self.forecasts.items()}
        naive = min(loss["class_prior"], loss["ticker_prior"])
        return (naive - loss[name]) / (naive - loss[best_name])

    def interval_of(self, statistic: "np.ndarray | tuple[np.ndarray, np.ndarray]") -> tuple[float, float]:
        """The 95 % interval of the mean of a figure of each row, or of the ratio of two means."""
        parts = statistic if isinstance(statistic, tuple) else (statistic, np.ones(len(self.truth)))
        session = self.session
        sums = np.stack([np.bincount(session, part) for part in parts])
        draws = drawn_sessions(np.random.default_rng(0), sums.shape[1], max(1, BLOCK // EVERY), draws=1000)
        totals = sums[:, draws].sum(axis=-1)
        return interval(totals[0] / totals[1])


def walk_forward(
    market: Market, *, config: RnnConfig = CONFIG, years: Sequence[int] = YEARS, seeds: int = 1, oracles: bool = False
) -> Scored:
    """Every year predicted by models that were trained up to the year before, by the bound and by the naive baselines.

    With `oracles` also by those that know less.
    """
    inputs = InputFrames(features=market.features, suspects=market.suspects)
    answers: dict[str, list[pl.DataFrame]] = {}
    for year in years:
        cutoff = max(day for day in market.days if day.year < year)
        training_labels, sessions = (
            training_rows(market.labels, cutoff),
            [day for day in market.days if day.year == year],
        )
        new_forecasts = {
            "class_prior": fit_class_prior(training_labels, cutoff).predict(inputs.features, sessions),
            "ticker_prior": fit_ticker_prior(training_labels, cutoff).predict(inputs.features, sessions),
            "bound": market.oracle(sessions[::EVERY]),
            "filter": market.filtered(sessions[::EVERY]),
        }
        for seed in range(seeds):
            model = train_rnn(Lesson(inputs, training_labels, cutoff, seed, RULE.horizon), config)
            new_forecasts["rnn" if seed == 0 else f"seed {seed}"] = model.predict(inputs, sessions)
        if oracles:
            new_forecasts |= {dates: market.oracle(sessions[::EVERY], dates) for dates in ("past", "none")}
        for name, frame in new_forecasts.items():
            answers.setdefault(name, []).append(frame)
    frames = {name: pl.concat(parts) for name, parts in answers.items()}
    rows = market.labels.select(*KEYS, "label").sort(KEYS)
    for frame in frames.values():
        rows = rows.join(frame, on=KEYS, how="semi", maintain_order="left")
    keys = rows.select(KEYS)
    forecasts = {
        name: keys.join(frame, on=KEYS, how="left", maintain_order="left").select(PROBABILITIES).to_numpy()
        for name, frame in frames.items()
    }
    return Scored(keys, rows["label"].cast(pl.Int64).to_numpy(), forecasts)


PARTS = ("level", "cross-section", "side of the day", "sides against each other")


def parts_of(probabilities: np.ndarray, session: np.ndarray) -> np.ndarray:
    """float64 [4, N], PARTS: the log odds of a move and of buy against sell, as their session's mean and the rest."""
    sell, hold, buy = probabilities.T
    odds = np.stack([np.log((sell + buy) / hold), np.log(buy / sell)])
    counts = np.bincount(session)
    means = np.stack([np.bincount(session, log_odds) / counts for log_odds in odds])[:, session]
    return np.stack([means[0], odds[0] - means[0], means[1], odds[1] - means[1]])


def from_parts(parts: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: the probabilities that `parts_of` took apart."""
    move, buy = (1 / (1 + np.exp(-(parts[i] + parts[i + 1]))) for i in (0, 2))
    return np.column_stack([move * (1 - buy), 1 - move, move * buy])


def mean_odds(forecasts: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [N, 3]: the forecast with the mean log odds of several."""
    logs = np.mean([np.log(forecast) for forecast in forecasts], axis=0)
    return np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each year")
    parser.add_argument("--market", type=int, default=0, help="the seed of the market")
    parser.add_argument("--without", action="append", default=[], choices=["dates", "context"])
    options = parser.parse_args()
    market = Market(options.market, tuple(options.without))
    scored_forecasts = walk_forward(market, seeds=options.seeds, oracles=True)
    print_scores(scored_forecasts)
    trained_forecasts = {
        name: values for name, values in scored_forecasts.forecasts.items() if name == "rnn" or name.startswith("seed")
    }
    print_parts("`rnn`", scored_forecasts, trained_forecasts["rnn"])
    if len(trained_forecasts) > 1:
        print_parts(
            f"the mean of {len(trained_forecasts)} trainings",
            scored_forecasts,
            mean_odds(list(trained_forecasts.values())),
        )


def print_scores(scores: Scored) -> None:
    naive = scores.losses(scores.forecasts[min(("class_prior", "ticker_prior"), key=lambda n: _loss(scores, n))])
    bound_losses = scores.losses(scores.forecasts["bound"])
    rows = []
    for name, values in scores.forecasts.items():
        losses = scores.losses(values)
        low, high = scores.interval_of((naive - losses, naive - bound_losses))
        above = scores.interval_of(losses - bound_losses)
        share = f"{scores.share(name):.1%} [{low:.1%}, {high:.1%}]"
        accuracy = f"{(values.argmax(axis=1) - 1 == scores.truth).mean():.4f}"
        gap = f"{scores.log_loss(values) - _loss(scores, 'bound'):+.4f} [{above[0]:+.4f}, {above[1]:+.4f}]"
        rows.append((_NAMES.get(name, name), f"{_loss(scores, name):.4f}", gap, accuracy, share))
    print(table(("forecast", "log-loss", "above the bound", "accuracy", "share of the way"), rows))
    years = np.unique(scores.year)
    by_year = [
        (
            name,
            *(f"{scores.losses(scores.forecasts[name])[scores.year == year].mean():.4f}" for year in years),
        )
        for name in ("rnn", "bound")
    ]
    print(table(("log-loss by year", *map(str, years)), by_year))


_NAMES = {
    "bound": "bound: the laws, the state and the published dates",
    "filter": "a filter: the laws, and what prices, ^VIX and dates show",
    "past": "the same with past announcements alone",
    "none": "the same without any date",
}


def _loss(scored_forecasts: Scored, name: str) -> float:
    return scored_forecasts.log_loss(scored_forecasts.forecasts[name])


def print_parts(title: str, scored_forecasts: Scored, probabilities: np.ndarray) -> None:
    """What it would gain with each part of the oracle's forecast in the place of its own."""
    own = parts_of(probabilities, scored_forecasts.session)
    best = parts_of(scored_forecasts.forecasts["bound"], scored_forecasts.session)
    before, rows = scored_forecasts.losses(probabilities), []
    for i, part in enumerate(PARTS):
        own_replaced, only_own = own.copy(), best.copy()
        own_replaced[i], only_own[i] = best[i], own[i]
        losses_with_best, losses_with_only_own = (
            scored_forecasts.losses(from_parts(parts)) for parts in (own_replaced, only_own)
        )
        low, high = scored_forecasts.interval_of(before - losses_with_best)
        slope = np.polyfit(own[i], best[i], 1)[0] if own[i].std() > 1e-9 else float("nan")
        correlation = np.corrcoef(own[i], best[i])[0, 1] if own[i].std() > 1e-9 else float("nan")
        rows.append(
            (
                part,
                f"{(before - losses_with_best).mean():.4f} [{low:.4f}, {high:.4f}]",
                f"{(losses_with_only_own - scored_forecasts.losses(scored_forecasts.forecasts['bound'])).mean():.4f}",
                f"{own[i].std():.3f}",
                f"{best[i].std():.3f}",
                f"{correlation:.3f}",
                f"{slope:.2f}",
            )
        )
    print(
        f"{title}: {scored_forecasts.share('rnn'):.1%}"
        if title == "`rnn`"
        else f"{title}: {_share(scored_forecasts, probabilities):.1%}"
    )
    header = ("part", "gain with the oracle's", "loss of the bound with its own", "spread", "the oracle's")
    print(table((*header, "correlation", "slope of the oracle's on its own"), rows))


def _share(scored_forecasts: Scored, probabilities: np.ndarray) -> float:
    return scored_forecasts._replace(forecasts={**scored_forecasts.forecasts, "mean": probabilities}).share("mean")


if __name__ == "__main__":
    preamble()
    main()
