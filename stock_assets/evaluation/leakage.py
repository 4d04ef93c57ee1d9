"""What a model would score if it were allowed to cheat, and when a score is too good to be honest.

The label of session t is known only once its horizon is over. A model that predicts today and reads yesterday's label
is handed all but one of the days to be predicted: most published accuracies on this task come from there. The other
leak of such studies, a scaler and components fitted with the test years, is audited as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.evaluation.audited_models import AuditedModel, AuditQuestion, persistence
from stock_assets.evaluation.tables import LEAKAGE_AUDIT
from stock_assets.frames import CLASSES, KEYS, PROBABILITIES
from stock_assets.model.registry import MODELS
from stock_assets.model.splits import label_of_rows_ago, training_rows


@dataclass(frozen=True)
class AlarmLimits:
    """How much better than the best prior of the same labels an honest model may be.

    The prior of a year is the best of three, score by score: `class_prior`, `ticker_prior`, and the class frequencies
    of that very year. The latter are no forecast; without them a year unlike those before it, such as 2020, would ring
    for every model that reads volatility. A prior rings under no rule of labels. Over the priors' mean a model may gain

    - in accuracy, `share_of_errors` of the rows that the prior gets wrong (Goodman & Kruskal 1954), and
    - in log-loss, `nats_per_root` × √(log-loss of the prior), in nats.

    The square root lies between a fixed number of nats, which a leak hardly reaches where nine labels of ten are hold,
    and a fixed share of the prior's loss, which an honest forecast of volatility exceeds there. Both limits are set for
    the default labels of 498 tickers from 2014 to 2019, where the best prior scores .412 and 1.074, from what forecasts
    would score that nobody can make (BENCHMARKS.md): the true volatility of the next 7 sessions with noise, by its R².

                                                    accuracy   log-loss
        best honest models: R² .57, with dates, sides     .472      1.005
        R² .65 of the volatility to come                  .473      1.007
        R² .75                                            .485       .989
        R² .90                                            .506       .960
        the true volatility of the range                  .520       .937
        yesterday's label                                 .734       .740

    The alarm rings below .989, what R² .75 scores, and above .491: its .485 and the .006 that sides which follow the
    day's volatility add. Two true labels in a hundred, mixed into the best honest forecast, ring.

    Measured on 84 of these tickers: gains in log-loss of an honest logistic regression on volatilities, of the same one
    with the label of one row ago, and the limit, in nats.

        horizon  thresholds       hold   prior   honest   limit    leak
              7  +2.7 % −2.2 %    32 %   1.072     .030    .085    .332
              7  +6 %   −5 %      76 %    .637     .021    .065    .261
              7  +10 %  −10 %     95 %    .202     .010    .037    .092
              3  +5 %   −5 %      90 %    .330     .017    .047    .081
              2  +2.7 % −2.2 %    75 %    .671     .028    .067    .092
             20  +5 %   −5 %      33 %   1.059     .022    .084    .537
             21  +2.7 % −2.2 %     4 %    .843     .003    .075    .303

    One calm year reaches the limits by itself, so `years` are needed.
    """

    share_of_errors: float = 0.134
    nats_per_root: float = 0.0817
    years: int = 2

    def __str__(self) -> str:
        return (
            "no model's walk-forward mean is too good to be honest: over the best prior of the same labels it gains at "
            f"most {self.share_of_errors:.1%} of the prior's errors in accuracy and {self.nats_per_root:g} × √(the "
            f"prior's log-loss) in log-loss; judges real prices and {self.years} test years or more"
        )


LIMITS = AlarmLimits()


def frequencies(scored_predictions: pl.DataFrame) -> pl.DataFrame:
    """year, label, rows: how often each label came in `scored_predictions`, rows of `metrics.scored_rows`."""
    rows = (
        scored_predictions.unique(KEYS).group_by(pl.col("session").dt.year().alias("year"), "label").agg(rows=pl.len())
    )
    return rows.sort("year", "label")


def too_good(scores: pl.DataFrame, frequencies: pl.DataFrame, limits: AlarmLimits = LIMITS) -> pl.DataFrame:
    """The models of `metrics.score_table` whose mean of the yearly scores suggests a leak.

    `frequencies` are those of the labels that were scored. Columns: model, accuracy, log_loss, and what `limits` allow:
    highest_accuracy, lowest_log_loss. Empty as well where fewer than `limits.years` years were scored.
    """
    prior = _priors(scores, frequencies)
    accuracy, loss = prior.select(pl.col("accuracy", "log_loss").mean()).row(0)
    mean_scores = scores.filter(pl.col("year").is_null()).select(
        "model",
        "accuracy",
        "log_loss",
        highest_accuracy=pl.lit(accuracy + limits.share_of_errors * (1 - accuracy), pl.Float64),
        lowest_log_loss=pl.lit(loss - limits.nats_per_root * loss**0.5, pl.Float64),
    )
    if prior.height < limits.years:
        return mean_scores.clear()
    return mean_scores.filter(
        (pl.col("accuracy") > pl.col("highest_accuracy")) | (pl.col("log_loss") < pl.col("lowest_log_loss"))
    )


def _priors(scores: pl.DataFrame, frequencies: pl.DataFrame) -> pl.DataFrame:
    """year, accuracy, log_loss: the best scores of the models that read nothing and of the year's own frequencies."""
    share = pl.col("rows") / pl.col("rows").sum()
    in_hindsight = frequencies.filter(pl.col("rows") > 0).group_by("year")
    of_year = in_hindsight.agg(accuracy=share.max(), log_loss=-(share * share.log()).sum())
    names = [name for name, entry in MODELS.items() if entry.reads == "none"]
    forecasts = scores.filter(pl.col("year").is_not_null(), pl.col("model").is_in(names))
    candidates = [frame.select(pl.col("year").cast(pl.Int32), "accuracy", "log_loss") for frame in (of_year, forecasts)]
    return pl.concat(candidates).group_by("year").agg(pl.col("accuracy").max(), pl.col("log_loss").min())


def lag_sweep(
    labels: pl.DataFrame,
    lags: Iterable[int] = range(1, 11),
    years: Sequence[int] | None = None,
    *,
    horizon: int = 7,
) -> pl.DataFrame:
    """lag, honest, rows, accuracy, rmse of copying the label of `lag` rows ago, over the sessions of `years` (all when
    None).

    Lags count the ticker's own rows. `honest` says whether the copied label is known at the session's close: from
    `horizon` on, where the accuracy falls off a cliff. Give all labels, the suspect ones too: a row left out would
    shift the lags.
    """
    rows = labels.sort(KEYS)
    in_years = pl.lit(value=True) if years is None else pl.col("session").dt.year().is_in(list(years))
    table = []
    for lag in lags:
        lagged_label = pl.col("label").shift(lag).over("ticker").alias("lagged")
        pairs = rows.select("session", "label", lagged_label).filter(in_years).drop_nulls("lagged")
        distance = (pairs["lagged"].cast(pl.Float64) - pairs["label"].cast(pl.Float64)).to_numpy()
        scores = (
            (float((distance == 0).mean()), float(np.sqrt((distance**2).mean()))) if len(distance) else (None, None)
        )
        table.append((lag, lag >= horizon, len(distance), *scores))
    schema = {"lag": pl.Int64, "honest": pl.Boolean, "rows": pl.Int64, "accuracy": pl.Float64, "rmse": pl.Float64}
    return pl.DataFrame(table, schema=schema, orient="row")


@dataclass(frozen=True)
class Audit:
    """The market and the test years that all models of the audit share.

    Every score is the mean of the yearly scores, on the usable labels of the year whose inputs, yesterday's label and
    label of a horizon ago exist; `rows` counts them.
    """

    components: pl.DataFrame
    """ticker, session and the inputs, made without the test years"""
    labels: pl.DataFrame
    """all labels, the suspect ones too: a row left out would shift the lags"""
    usable: pl.DataFrame
    """those that may train and score"""
    cutoffs: Mapping[int, date]
    """of each test year the last session that its models may know"""
    horizon: int = 7

    def table(
        self,
        models: Mapping[str, AuditedModel],
        predictions: pl.DataFrame | None = None,
        *,
        cheap: str = "logistic",
        peeking: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """SCHEMA, lag null: honest and cheating scores side by side.

        `predictions` (model, ticker, session, p_sell, p_hold, p_buy) are the honest walk-forward ones; models without
        a row in a test year are left out. Each of `models` is trained again with the labels up to yesterday's beside
        the components. `peeking` are components whose scaler and axes were fitted with the test years too: the model
        `cheap` is trained on them and on the honest ones.

        Raises StockAssetsError when a year has no row to score, or nothing to learn from.
        """
        honest = f"copies the label of {self.horizon} rows ago, known at the close"
        table = [self._row("honest", "persistence", honest, model=persistence, lag=self.horizon)]
        if predictions is not None:
            since = "the walk-forward predictions: each year by a model that was trained before it"
            predicted_years = pl.col("session").dt.year().unique()
            for (name,), answer in predictions.partition_by("model", as_dict=True, maintain_order=True).items():
                if set(self.cutoffs) <= set(answer.select(predicted_years).to_series()):
                    table.append(self._row("honest", str(name), since, model=lambda _, answer=answer: answer))
        if peeking is not None:
            before = "the components alone, scaler and axes fitted before the test years"
            table.append(self._row("honest", cheap, before, model=models[cheap]))
            after = "the components alone, scaler and axes fitted with the test years too"
            table.append(self._row("cheating", cheap, after, model=models[cheap], components=peeking))
        yesterday = f"copies yesterday's label: {self.horizon - 1} of its {self.horizon} days are in the future"
        table.append(self._row("cheating", "persistence", yesterday, model=persistence, lag=1))
        return pl.concat([pl.DataFrame(table, schema=SCHEMA), self.cheating(models)])

    def cheating(self, models: Mapping[str, AuditedModel], inputs: str = "the components") -> pl.DataFrame:
        """SCHEMA, lag null: each of `models` trained with the labels up to yesterday's beside its `inputs`."""
        note = f"{inputs} and the labels up to yesterday's, which are not known yet"
        table = [self._row("cheating", name, note, model=model, lag=1) for name, model in models.items()]
        return pl.DataFrame(table, schema=SCHEMA)

    def sweep(self, name: str, model: AuditedModel, lags: Iterable[int] = range(1, 11)) -> pl.DataFrame:
        """SCHEMA: the model trained with the labels up to that of so many rows ago, honest from the horizon on."""
        table = []
        for lag in lags:
            protocol = "honest" if lag >= self.horizon else "cheating"
            note = f"the components and the labels up to that of {lag} row{'s' if lag > 1 else ''} ago"
            table.append(self._row(protocol, name, note, model=model, lag=lag) | {"lag": lag})
        return pl.DataFrame(table, schema=SCHEMA)

    def copied(self) -> pl.DataFrame:
        """SCHEMA: persistence copies the label of so many rows ago, whether usable or not, in the test years."""
        sweep = lag_sweep(self.labels, years=[*self.cutoffs], horizon=self.horizon)
        return sweep.select(
            protocol=pl.when("honest").then(pl.lit("honest")).otherwise(pl.lit("cheating")),
            model=pl.lit("persistence"),
            lag=pl.col("lag").cast(pl.Int32),
            rows="rows",
            accuracy="accuracy",
            rmse="rmse",
            ordinal_rmse=pl.lit(None, pl.Float64),
            log_loss=pl.lit(None, pl.Float64),
            note=pl.format("copies the label of {} rows ago", "lag"),
        )

    def _row(
        self,
        protocol: str,
        name: str,
        note: str,
        *,
        model: AuditedModel,
        lag: int | None = None,
        components: pl.DataFrame | None = None,
    ) -> dict:
        handed_labels = None if lag is None else label_of_rows_ago(self.labels, self.labels, lag)
        components = self.components if components is None else components
        years = []
        for year, cutoff in self.cutoffs.items():
            test = self._test_rows(year)
            learned_rows = training_rows(self.usable, cutoff)
            question = AuditQuestion(
                components, handed_labels, learned_rows, cutoff, test["session"].unique().sort().to_list()
            )
            years.append(_scores(model(question), test, name=name, year=year))
        row = {score: float(np.mean([of_year[score] for of_year in years])) for score in years[0]}
        row |= {"rows": sum(of_year["rows"] for of_year in years)}
        if model is persistence:  # it states no probability
            row |= {"log_loss": None, "ordinal_rmse": None}
        return {"protocol": protocol, "model": name, "lag": None, **row, "note": note}

    def _test_rows(self, year: int) -> pl.DataFrame:
        rows = self.usable.filter(pl.col("session").dt.year() == year).join(
            self.components.select(KEYS), on=KEYS, how="semi"
        )
        for lag in (1, self.horizon):
            rows = rows.join(label_of_rows_ago(self.labels, self.labels, lag).drop_nulls(), on=KEYS, how="semi")
        if rows.is_empty():
            raise StockAssetsError(f"the leakage audit has no row to score in {year}; expected features and labels")
        return rows


#: The table of an audit. `rmse` is of the most probable class, `ordinal_rmse` of the point forecast: the expected
#: label, p_buy - p_sell, or the location of a network that states one.
SCHEMA = LEAKAGE_AUDIT.schema


def sweep_of(audit: pl.DataFrame, model: str = "persistence") -> pl.DataFrame:
    """The rows of `audit` that sweep the lag of the label that `model` copies, or reads, with `honest` (Boolean)."""
    in_sweep = pl.col("lag").is_not_null() & (pl.col("model") == model)
    return audit.filter(in_sweep).with_columns(honest=pl.col("protocol") == "honest")


def _scores(answer: pl.DataFrame, test: pl.DataFrame, *, name: str, year: int) -> dict[str, float]:
    scored_answers = test.select(*KEYS, "label").join(answer, on=KEYS)
    if scored_answers.is_empty():
        raise StockAssetsError(f"{name} answered none of the {test.height} rows of {year} that the audit scores")
    truth, probabilities = (
        scored_answers["label"].cast(pl.Int64).to_numpy(),
        scored_answers.select(PROBABILITIES).to_numpy(),
    )
    expected = (
        scored_answers["expected"].to_numpy()
        if "expected" in scored_answers.columns
        else probabilities @ np.asarray(CLASSES)
    )
    return {
        "rows": len(truth),
        "accuracy": metrics.accuracy(truth, probabilities),
        "rmse": metrics.rmse(truth, probabilities),
        "ordinal_rmse": float(np.sqrt(((expected - truth) ** 2).mean())),
        "log_loss": metrics.log_loss(truth, probabilities),
    }
