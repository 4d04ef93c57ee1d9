"""What the evaluation report finds out: from frames that were read to the tables and the data of its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import breakdowns, portfolio, study
from stock_assets.evaluation.classes import classification_report, confusion_table
from stock_assets.evaluation.leakage import sweep_of
from stock_assets.evaluation.metrics import RANKED_BY, best_naive, score_table
from stock_assets.evaluation.survivorship import members_at_the_end, survivorship
from stock_assets.model.registry import IN_SERVICE, naive_baselines
from stock_assets.setting_values import LabelRule

#: So many of the best models are drawn, and the best naive baseline; the tables hold all.
LEADING = 5
#: Reactions that are listed: so many of the latest, the largest first. Companies that are named of one day.
LATEST, REACTIONS, NAMED = 100, 15, 12
#: Sessions of the charts of one ticker.
CHART_SESSIONS = 252


@dataclass(frozen=True)
class Ablation:
    """What `study.ablation_table` compares: a sample of the inputs, and the labels to learn from and to score."""

    features: pl.DataFrame
    """ticker, session and every column of `inputs`"""
    labels: pl.DataFrame
    """usable ones, of all sessions"""
    inputs: Mapping[str, Sequence[str]]
    """the sets of columns, by what the report calls them"""


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the report is made from."""

    source: str
    """where the prices come from"""
    currency: str | None
    rule: LabelRule
    seed: int
    scored: pl.DataFrame
    """`metrics.scored_rows` of all predictions"""
    usable_labels: pl.DataFrame
    """session and label of those from the first predicted session on"""
    left_out: Mapping[str, int]
    """labels since then that neither train nor score, by reason"""
    predicted: tuple[date, date]
    """the first and the last predicted session"""
    cutoffs: Mapping[int, date]
    """of each predicted year the last session that its models know"""
    market_volatility: pl.DataFrame
    """session, volatility"""
    universe: pl.DataFrame
    """ticker, sector, from_session, to_session"""
    bars: pl.DataFrame
    """ticker, session, close, volume, split_ratio, total_return, is_member, suspect: all of `daily_bars`"""
    labels: pl.DataFrame
    """ticker, session, label: all, the suspect ones too"""
    context: pl.DataFrame
    """series, session, total_return; no row where there is no market context"""
    audit: pl.DataFrame
    """the table `leakage_audit`; no row before the first audit"""
    ablation: Ablation
    curves: pl.DataFrame
    """model_year, model, epoch, accuracy, rmse of the networks that judged their classes after each epoch"""
    input_value: pl.DataFrame
    """the table `input_value`; no row before it was made"""
    announced: pl.DataFrame
    """`features.announced.ANNOUNCED` at the newest session; no row without announcements"""
    lags: pl.DataFrame
    """`side_inputs.lags.LAGS`"""
    absent: Sequence[str] = ()
    """what the models lack, one sentence or more on each"""


@dataclass(frozen=True)
class Findings:
    """What the report shows: its tables by name, and what its figures are drawn from."""

    tables: Mapping[str, pl.DataFrame]
    best: str
    """the model that the tables and figures of one model are about"""
    leading: pl.DataFrame
    """`metrics.scored_rows` of the models that are drawn"""
    confusion: pl.DataFrame
    tickers: Mapping[str, pl.DataFrame]
    """`breakdowns.by_ticker` of the best model and of the best naive baseline"""
    sector_of: pl.DataFrame
    """ticker, sector"""
    market: str
    """the series that stands for the market"""
    growth: pl.DataFrame
    """`portfolio.growth`; no row where there is no such series"""
    sweep: pl.DataFrame
    """the rows of the audit that copy the label of so many rows ago"""
    labels_by_year: pl.DataFrame
    labels_by_thresholds: pl.DataFrame
    ticker: str
    """the one that is charted"""
    chart: pl.DataFrame
    """`study.chart` of it"""
    cutoffs: Sequence[date]
    curves: pl.DataFrame
    lags: pl.DataFrame
    reactions: pl.DataFrame
    """ticker, residual_return, … of every reaction that is listed"""
    usual_move: float
    """median |total return| of all bars"""

    @property
    def recent(self) -> pl.DataFrame:
        """The last CHART_SESSIONS of the chart."""
        return self.chart.tail(CHART_SESSIONS)


def best_model(means: pl.DataFrame) -> dict[str, Any]:
    """The row of `means` (one per model) with the lowest log-loss that is no naive baseline, else the lowest of all."""
    order = means.sort(pl.col("model").is_in(naive_baselines()), RANKED_BY, "model")
    return order.row(0, named=True)


def make_findings(inputs: ReportInputs) -> Findings:
    """The tables of the report and the data of its figures.

    Raises StockAssetsError where no naive baseline was predicted or no prediction has a usable label.
    """
    scores = score_table(inputs.scored, seed=inputs.seed)
    means = scores.filter(pl.col("year").is_null())
    naive = best_naive(means, naive_baselines())
    if naive is None:
        raise StockAssetsError(f"predictions hold no naive baseline; expected one of {', '.join(naive_baselines())}")
    best = best_model(means)["model"]
    drawn_models = [*means["model"].head(LEADING), best, naive["model"]]
    leading = inputs.scored.filter(pl.col("model").is_in(drawn_models))
    confusion = confusion_table(leading)
    tickers = {model: breakdowns.by_ticker(inputs.scored, model) for model in (best, naive["model"])}
    sector_of = sectors(inputs.universe)
    market, market_rows = portfolio.market_returns(inputs.context)
    returns = portfolio.daily_returns(inputs.scored, best, market_rows)
    ticker = study.most_traded(inputs.bars)
    rule = inputs.rule
    thresholds = [(rule.buy_threshold, rule.sell_threshold), study.SYMMETRIC]
    year = pl.col("session").dt.year().alias("year")
    tables = {
        "walk_forward": scores,
        "classification": classification_report(confusion, best),
        "market": portfolio.comparison(returns, inputs.seed),
        "tickers": tickers[best],
        "sectors": breakdowns.by_sector(inputs.scored, best, sector_of),
    }
    return Findings(
        tables=tables | _tables(inputs, best),
        best=best,
        leading=leading,
        confusion=confusion,
        tickers=tickers,
        sector_of=sector_of,
        market=market,
        growth=portfolio.growth(returns),
        sweep=sweep_of(inputs.audit),
        labels_by_year=inputs.usable_labels.group_by(year, "label").agg(rows=pl.len()),
        labels_by_thresholds=study.label_counts(inputs.bars, rule.horizon, thresholds),
        ticker=ticker,
        chart=study.chart(inputs.bars.filter(pl.col("ticker") == ticker), inputs.labels),
        cutoffs=list(inputs.cutoffs.values()),
        curves=inputs.curves,
        lags=inputs.lags,
        reactions=inputs.announced.filter("happened").drop_nulls("residual_return"),
        usual_move=float(inputs.bars["total_return"].abs().median() or 0.0),  # pyright: ignore[reportArgumentType]: a number
    )


def _tables(inputs: ReportInputs, best: str) -> dict[str, pl.DataFrame]:
    """The tables that no figure but their own is made from."""
    last = inputs.bars.select(pl.col("session").max()).item()
    trusted = inputs.bars.filter(pl.col("suspect").is_null())
    survivors = members_at_the_end(inputs.universe, last)
    ablation = inputs.ablation
    reasons = pl.DataFrame(list(inputs.left_out.items()), {"reason": pl.String, "rows": pl.Int64}, orient="row")
    return {
        "spread": breakdowns.decile_spread(inputs.scored, seed=inputs.seed),
        "survivorship": survivorship(inputs.scored, trusted, best, survivors=survivors, seed=inputs.seed),
        "regimes": breakdowns.by_regime(inputs.scored, inputs.market_volatility),
        "ablation": study.ablation_table(
            ablation.features, ablation.labels, cutoffs=inputs.cutoffs, inputs=ablation.inputs
        ),
        "leakage": inputs.audit.filter(pl.col("lag").is_null()),
        "lag_sweep": sweep_of(inputs.audit),
        "suspects": reasons,
        "input_value": of_one_model(inputs.input_value),
        "coming": coming(inputs.announced),
        "reactions": inputs.announced.filter("happened")
        .drop_nulls("residual_return")
        .sort("reaction_session", descending=True)
        .head(LATEST)
        .sort(-pl.col("residual_return").abs(), "ticker")
        .head(REACTIONS),
    }


def coming(announcements: pl.DataFrame) -> pl.DataFrame:
    """reaction_session, companies, tickers (at most NAMED of them, as text) of the announcements to come."""
    days = announcements.filter(~pl.col("happened")).sort("reaction_session", "ticker").group_by("reaction_session")
    rows = days.agg(companies=pl.len(), named=pl.col("ticker").head(NAMED)).sort("reaction_session")
    further_companies = pl.when(pl.col("companies") > NAMED).then(
        pl.format(" and {} more", pl.col("companies") - NAMED)
    )
    return rows.select(
        "reaction_session",
        "companies",
        tickers=pl.col("named").list.join(", ") + further_companies.otherwise(pl.lit("")),
    )


def of_one_model(input_value: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table `input_value` of the model in service, else of the first one by name."""
    models = input_value["model"].unique().sort().to_list()
    return input_value.filter(pl.col("model").is_in([IN_SERVICE] if IN_SERVICE in models else models[:1]))


def sectors(universe: pl.DataFrame) -> pl.DataFrame:
    """ticker, sector: the last one that `universe` states of each ticker; no row for a ticker without one."""
    members = universe.select("ticker", "sector", "from_session").sort("from_session")
    return members.group_by("ticker").agg(pl.col("sector").drop_nulls().last()).drop_nulls()
