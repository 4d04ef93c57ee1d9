"""What a model would score if it were allowed to cheat.

The label of session t is known only once its horizon is over. Feeding yesterday's label to a prediction of
today hands over six of the seven days to be predicted: most published accuracies on this task come from
there. The other leak that studies of it have, a scaler and components fitted with the test years, is
audited beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.frames import CLASSES, KEYS, PROBABILITIES
from stock_assets.model.config import DeepArConfig, RnnClassifierConfig, RnnConfig
from stock_assets.model.lesson import InputFrames
from stock_assets.model.lesson import Lesson as ModelLesson
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.splits import label_of_rows_ago, training_rows

#: Means of the yearly scores that no honest model of this task has come near on real prices: a volatility forecast
#: far beyond the best known one would be needed. One calm year reaches them by itself, so two are asked for.
TOO_ACCURATE, TOO_SMALL_A_LOSS, YEARS_NEEDED = 0.485, 0.995, 2


def too_good(scores: pl.DataFrame) -> pl.DataFrame:
    """The mean-of-years rows of `metrics.walk_forward_table` that suggest a leak: model, accuracy, log_loss.

    Empty as well where fewer than YEARS_NEEDED years were scored.
    """
    if scores["year"].drop_nulls().n_unique() < YEARS_NEEDED:
        return scores.clear().select("model", "accuracy", "log_loss")
    suspicious = (pl.col("accuracy") > TOO_ACCURATE) | (pl.col("log_loss") < TOO_SMALL_A_LOSS)
    return scores.filter(pl.col("year").is_null() & suspicious).select("model", "accuracy", "log_loss")


def lag_sweep(
    labels: pl.DataFrame,
    lags: Iterable[int] = range(1, 11),
    years: Sequence[int] | None = None,
    horizon: int = 7,
) -> pl.DataFrame:
    """lag, honest, rows, accuracy, rmse of copying the label of `lag` rows ago, over the sessions of
    `years` (all when None).

    Lags count the ticker's own rows. `honest` says whether the copied label is known at the session's
    close: from `horizon` on, where the accuracy falls off a cliff. Give all labels, the suspect ones too: a
    row left out would shift the lags.
    """
    rows = labels.sort(KEYS)
    in_years = pl.lit(True) if years is None else pl.col("session").dt.year().is_in(list(years))
    table = []
    for lag in lags:
        lagged = pl.col("label").shift(lag).over("ticker").alias("lagged")
        pairs = rows.select("session", "label", lagged).filter(in_years).drop_nulls("lagged")
        distance = (pairs["lagged"].cast(pl.Float64) - pairs["label"].cast(pl.Float64)).to_numpy()
        scores = (
            (float((distance == 0).mean()), float(np.sqrt((distance**2).mean()))) if len(distance) else (None, None)
        )
        table.append((lag, lag >= horizon, len(distance), *scores))
    schema = {
        "lag": pl.Int64,
        "honest": pl.Boolean,
        "rows": pl.Int64,
        "accuracy": pl.Float64,
        "rmse": pl.Float64,
    }
    return pl.DataFrame(table, schema=schema, orient="row")


#: Labels that a model of single rows is handed over: the newest that it may know, and those of the rows before.
MEMORY = 7


@dataclass(frozen=True)
class Lesson:
    """What one model of the audit may know, and what it is asked."""

    components: pl.DataFrame
    """ticker, session and the inputs, floating-point numbers; of all sessions"""
    known: pl.DataFrame | None
    """ticker, session, known_label: a label that is handed over, or null; None where none is"""
    labels: pl.DataFrame
    """usable labels to learn from, all known by the cutoff"""
    cutoff: date
    sessions: Sequence[date]
    """Those to predict."""

    def inputs(self) -> pl.DataFrame:
        """The components and, where labels are handed over, the newest MEMORY of them: a column per label and class,
        1 for the class of the label, all 0 for null."""
        if self.known is None:
            return self.components
        ago = (pl.col("known_label").shift(back).over("ticker") for back in range(MEMORY))
        is_class = (
            (label == c).fill_null(False).cast(pl.Float64).alias(f"known_{back}_{name}")
            for back, label in enumerate(ago)
            for c, name in zip(CLASSES, ("sell", "hold", "buy"), strict=True)
        )
        handed = self.known.sort(KEYS).select(*KEYS, *is_class)
        joined = self.components.join(handed, on=KEYS, how="left", maintain_order="left")
        return joined.with_columns(pl.col(handed.columns[2:]).fill_null(0.0))


#: Trains on a lesson and answers for its sessions: ticker, session, p_sell, p_hold, p_buy and, where the model has a
#: point forecast of the label other than p_buy - p_sell, `expected`.
Model = Callable[[Lesson], pl.DataFrame]


class Fitted(Protocol):
    def predict(self, features: pl.DataFrame, sessions: Sequence[date], /) -> pl.DataFrame: ...


def of_rows(fit: Callable[[pl.DataFrame, pl.DataFrame, date], Fitted], every: int = 1) -> Model:
    """The model that `fit` makes of (features, labels, cutoff): one that looks at a session's own row alone.

    It learns from every `every`-th session: neighbours share all but one of a horizon's days.
    """

    def answer(lesson: Lesson) -> pl.DataFrame:
        inputs = lesson.inputs()
        return fit(inputs, _every(lesson.labels, every), lesson.cutoff).predict(inputs, lesson.sessions)

    return answer


def of_recurrent(config: RnnClassifierConfig, seed: int) -> Model:
    """The recurrent classifier, with a known label among its inputs."""

    def answer(lesson: Lesson) -> pl.DataFrame:
        from stock_assets.model.networks.rnn_classifier import train_rnn_classifier

        inputs = InputFrames(components=lesson.inputs())
        given = ModelLesson(inputs, lesson.labels, lesson.cutoff, seed, horizon=0)  # which only `rnn` reads
        return train_rnn_classifier(given, config).predict(inputs, lesson.sessions)

    return answer


def of_deepar(config: DeepArConfig, seed: int) -> Model:
    """The reference study's own network; `expected` is the location of its distribution."""

    def answer(lesson: Lesson) -> pl.DataFrame:
        from stock_assets.model.networks.deepar import forecast_to_probabilities, train_deepar

        inputs = InputFrames(components=lesson.components)
        if lesson.known is not None:
            inputs = replace(inputs, known_labels=lesson.known)
        given = ModelLesson(inputs, lesson.labels, lesson.cutoff, seed, horizon=0)  # which only `rnn` reads
        forecast = train_deepar(given, config).forecast(inputs, lesson.sessions)
        return forecast_to_probabilities(forecast).with_columns(expected=forecast["location"])

    return answer


def of_volatility(config: RnnConfig, seed: int, suspects: pl.DataFrame, horizon: int) -> Model:
    """The model `rnn`; its components are to be the stationary features."""

    def answer(lesson: Lesson) -> pl.DataFrame:
        from stock_assets.model.networks.rnn import train_rnn

        inputs = InputFrames(features=lesson.inputs(), suspects=suspects)
        given = ModelLesson(inputs, lesson.labels, lesson.cutoff, seed, horizon)
        return train_rnn(given, config).predict(inputs, lesson.sessions)

    return answer


def persistence(lesson: Lesson) -> pl.DataFrame:
    """Copies the known label; no row where there is none."""
    if lesson.known is None:
        raise StockAssetsError("persistence copies a known label; expected a lesson with one")
    copied = lesson.known.drop_nulls().filter(pl.col("session").is_in(list(lesson.sessions)))
    return probability_frame(copied, (copied["known_label"].to_numpy()[:, None] == np.asarray(CLASSES)).astype(float))


@dataclass(frozen=True)
class Audit:
    """The market and the test years that all models of the audit share.

    Every score is the mean of the yearly scores, on the usable labels of the year whose inputs, yesterday's label and
    label of a horizon ago exist; `rows` counts them.
    """

    components: pl.DataFrame
    """ticker, session and the inputs, made without the test years"""
    labels: pl.DataFrame
    """All labels, the suspect ones too: a row left out would shift the lags."""
    usable: pl.DataFrame
    """Those that may train and score."""
    cutoffs: Mapping[int, date]
    """Of each test year the last session that its models may know."""
    horizon: int = 7

    def table(
        self, models: Mapping[str, Model], predictions: pl.DataFrame | None = None, cheap: str = "logistic",
        peeking: pl.DataFrame | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """SCHEMA, lag null: honest and cheating scores side by side.

        `predictions` (model, ticker, session, p_sell, p_hold, p_buy) are the honest walk-forward ones; models without
        a row in a test year are left out. Each of `models` is trained again with the labels up to yesterday's beside
        the components. `peeking` are components whose scaler and axes were fitted with the test years too: the model
        `cheap` is trained on them and on the honest ones.

        Raises StockAssetsError when a year has no row to score, or nothing to learn from.
        """
        known = f"copies the label of {self.horizon} rows ago, known at the close"
        table = [self._row("honest", "persistence", known, persistence, self.horizon)]
        if predictions is not None:
            since = "the walk-forward predictions: each year by a model that was trained before it"
            asked = pl.col("session").dt.year()
            for (name,), answer in predictions.partition_by("model", as_dict=True, maintain_order=True).items():
                if set(self.cutoffs) <= set(answer.select(asked.unique()).to_series()):
                    table.append(self._row("honest", str(name), since, lambda _, answer=answer: answer))
        if peeking is not None:
            before = "the components alone, scaler and axes fitted before the test years"
            table.append(self._row("honest", cheap, before, models[cheap]))
            after = "the components alone, scaler and axes fitted with the test years too"
            table.append(self._row("cheating", cheap, after, models[cheap], components=peeking))
        yesterday = f"copies yesterday's label: {self.horizon - 1} of its {self.horizon} days are in the future"
        table.append(self._row("cheating", "persistence", yesterday, persistence, 1))
        return pl.concat([pl.DataFrame(table, schema=SCHEMA), self.cheating(models)])

    def cheating(self, models: Mapping[str, Model], inputs: str = "the components") -> pl.DataFrame:
        """SCHEMA, lag null: each of `models` trained with the labels up to yesterday's beside its `inputs`."""
        note = f"{inputs} and the labels up to yesterday's, which are not known yet"
        table = [self._row("cheating", name, note, model, 1) for name, model in models.items()]
        return pl.DataFrame(table, schema=SCHEMA)

    def sweep(self, name: str, model: Model, lags: Iterable[int] = range(1, 11)) -> pl.DataFrame:
        """SCHEMA: the model trained with the labels up to that of so many rows ago, honest from the horizon on."""
        table = []
        for lag in lags:
            protocol = "honest" if lag >= self.horizon else "cheating"
            note = f"the components and the labels up to that of {lag} row{'s' if lag > 1 else ''} ago"
            table.append(self._row(protocol, name, note, model, lag) | {"lag": lag})
        return pl.DataFrame(table, schema=SCHEMA)

    def _row(
        self, protocol: str, name: str, note: str, model: Model, lag: int | None = None,
        components: pl.DataFrame | None = None,
    ) -> dict:  # fmt: skip
        known = None if lag is None else label_of_rows_ago(self.labels, self.labels, lag)
        components = self.components if components is None else components
        years = []
        for year, cutoff in self.cutoffs.items():
            test = self._test_rows(year)
            learned = training_rows(self.usable, cutoff)
            lesson = Lesson(components, known, learned, cutoff, test["session"].unique().sort().to_list())
            years.append(_scores(model(lesson), test, name, year))
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
SCHEMA = {
    "protocol": pl.String,
    "model": pl.String,
    "lag": pl.Int32,
    "rows": pl.Int64,
    "accuracy": pl.Float64,
    "rmse": pl.Float64,
    "ordinal_rmse": pl.Float64,
    "log_loss": pl.Float64,
    "note": pl.String,
}


def _scores(answer: pl.DataFrame, test: pl.DataFrame, name: str, year: int) -> dict[str, float]:
    scored = test.select(*KEYS, "label").join(answer, on=KEYS)
    if scored.is_empty():
        raise StockAssetsError(f"{name} answered none of the {test.height} rows of {year} that the audit scores")
    truth, probabilities = scored["label"].cast(pl.Int64).to_numpy(), scored.select(PROBABILITIES).to_numpy()
    expected = scored["expected"].to_numpy() if "expected" in scored.columns else probabilities @ np.asarray(CLASSES)
    return {
        "rows": len(truth),
        "accuracy": metrics.accuracy(truth, probabilities),
        "rmse": metrics.rmse(truth, probabilities),
        "ordinal_rmse": float(np.sqrt(((expected - truth) ** 2).mean())),
        "log_loss": metrics.log_loss(truth, probabilities),
    }


def _every(labels: pl.DataFrame, every: int) -> pl.DataFrame:
    sessions = labels["session"].unique().sort()
    return labels.filter(pl.col("session").is_in(sessions.gather_every(every).to_list()))
