"""The reference study's own network: DeepAR (Salinas, Flunkert, Gasthaus & Januschowski 2020), on the label series.

The label, -1, 0 or 1, is taken as a number. An LSTM meets, at every row of a ticker, the row's inputs, the ticker's
embedding and the newest label that may be known, and answers with a Student-t distribution of the row's own label.
The distribution's mass in (-∞, -1/2], (-1/2, 1/2] and (1/2, ∞) are the probabilities of sell, hold and buy.

Which label may be known is the caller's choice (`splits.label_of_rows_ago`): that of a horizon ago is honest,
yesterday's is what the study took, and what `leakage_audit` shows. The study samples paths step by step; here the
newest known label is a direct input, so that one pass answers for a session.

    row            t-8    t-7    t-6   …   t                       horizon 7, honest
    known label    y-15   y-14   y-13  …   y-7
    answers        y-8    y-7    y-6   …   y        the last one is the prediction
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import expm1, log, pi

import numpy as np
import polars as pl
import torch
from scipy.special import stdtr
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.errors import BadBarsError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.config import DeepArConfig
from stock_assets.model.descent import Checkpoint, Descent, best_device, descend, device_of
from stock_assets.model.inference import answers_along, answers_at
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.rnn import (
    SeededDropout,
    StackedLSTM,
    with_weights,
)
from stock_assets.model.scaling import feature_columns, fit_scaler
from stock_assets.model.splits import require_after, require_known, train_validation_split
from stock_assets.model.training import EpochReport, TrainedRnn, asked_rows
from stock_assets.model.windows import (
    IGNORE,
    Panel,
    build_panel,
    random_segments,
)

#: The scale has no likelihood to bound it where the location hits a label, a whole number, again and again: the
#: density grows without end. A label stands for the interval of width one around it, of which this is the deviation.
SMALLEST_SCALE = 12**-0.5
#: Below two a Student-t distribution has no variance.
SMALLEST_DEGREES = 2.0
#: The degrees of freedom before training: close to a normal distribution.
FIRST_DEGREES = 10.0
#: Columns of `DeepAr`'s answer.
_LOCATION, _SCALE, _DEGREES = range(3)


class DeepAr(nn.Module):
    """Location, scale and degrees of freedom of the label at every step, from that step's inputs and those before it.

    Every ticker starts at the same embedding, zero; ticker `tickers` is any unknown one, which has the mean
    of the others. The bias starts at the distribution of all labels, whose mean and deviation are given, every
    other weight from `generator`.
    """

    def __init__(
        self,
        features: int,
        tickers: int,
        config: DeepArConfig,
        mean: float = 0.0,
        deviation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(tickers, config.embedding))
        self.lstm = StackedLSTM(features + 2 + config.embedding, config, generator)
        self.dropout = SeededDropout(config.dropout)
        self.head = nn.Linear(config.hidden, 3, device="meta").to_empty(device="cpu")
        nn.init.uniform_(self.head.weight, -(config.hidden**-0.5), config.hidden**-0.5, generator=generator)
        scale = deviation * (1 - SMALLEST_DEGREES / FIRST_DEGREES) ** 0.5  # whose distribution has this deviation
        free = max(scale - SMALLEST_SCALE, 0.01), FIRST_DEGREES - SMALLEST_DEGREES
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([mean, *(log(expm1(value)) for value in free)]))

    def forward(self, inputs: Tensor, tickers: Tensor) -> Tensor:
        """[B, L, F + 2] and [B] -> [B, L, 3]."""
        states = self.lstm(self._with_embedding(inputs, tickers))  # [B, L, H]
        return _distribution(self.head(self.dropout(states)))

    def at_last_step(self, inputs: Tensor, tickers: Tensor) -> Tensor:
        """The answer at the last step alone: [B, L, F + 2] and [B] -> [B, 3]."""
        return _distribution(self.head(self.lstm(self._with_embedding(inputs, tickers))[:, -1]))

    def _with_embedding(self, inputs: Tensor, tickers: Tensor) -> Tensor:
        table = torch.cat([self.embedding, self.embedding.mean(dim=0, keepdim=True)])
        vectors = table[tickers][:, None].expand(-1, inputs.shape[1], -1)
        return torch.cat([inputs, vectors], dim=-1)


@dataclass(frozen=True)
class TrainedDeepAr(TrainedRnn):
    """A `TrainedRnn` whose weights are those of `DeepAr`; two columns for the known label follow its features.

    `train_loss` of its curve is the negative log density of a label, in nats; the rest is of the class probabilities.
    """

    kind = "deepar"
    configuration = DeepArConfig
    further = ("tickers",)

    config: DeepArConfig
    tickers: tuple[str, ...]
    """Those with an embedding of their own, in order."""

    def network(self) -> DeepAr:  # pyright: ignore[reportIncompatibleMethodOverride]: asked with tickers too
        """The network in evaluation mode. Raises ArtifactError when the weights do not fit the configuration."""
        return with_weights(DeepAr(len(self.features), len(self.tickers), self.config), self.weights)


def train_deepar(
    components: pl.DataFrame,
    labels: pl.DataFrame,
    known: pl.DataFrame,
    config: DeepArConfig,
    cutoff: date,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedDeepAr:
    """The network of the best epoch, trained on what was known when session `cutoff` was over.

    `components` has ticker, session and the inputs, which are its columns of floating-point numbers; `labels`
    are usable and purged; `known` holds ticker, session, known_label: the newest label (-1, 0, 1) that may be
    known there, null for none, as for a row that it lacks. Rows after `cutoff` are not looked at. The last
    `config.validation_sessions` sessions of the labels choose the epoch, by the log-loss of the class
    probabilities; scaler, embeddings and weights come from the labels that end before them. The same seed,
    inputs and kind of processor give the same weights, also when a training that was interrupted goes on from
    `checkpoint`; torch's own random state is not used.

    Raises CutoffError for a label that ends after `cutoff`, BadBarsError for inputs that are not finite, a
    known label that is none or a row that comes twice, and StockAssetsError for too little history or a loss
    that is not finite.
    """
    require_known(labels, cutoff)
    train, validation = train_validation_split(labels, cutoff, config.validation_sessions)
    past = components.filter(pl.col("session") <= cutoff).sort(KEYS)
    columns = feature_columns(components)
    rows = past.join(train.select(*KEYS, "label"), on=KEYS, maintain_order="left")
    if rows.is_empty():
        raise StockAssetsError(
            f"none of the {train.height} training label(s) known by {cutoff} has inputs; expected rows of the same "
            "tickers and sessions"
        )
    mean, std = fit_scaler(rows, columns)
    tickers = tuple(rows["ticker"].unique().sort())
    panel, ticker_of = _panel(past, known, columns, mean, std, tickers, config.input_clip)
    targets = rows["label"].cast(pl.Float64).to_numpy()
    network = DeepAr(
        len(columns),
        len(tickers),
        config,
        float(targets.mean()),
        float(targets.std()),
        torch.Generator().manual_seed(seed),
    )
    found = _fit(
        network.to(best_device()),
        panel.labelled(train),
        panel.labelled(validation),
        ticker_of,
        config,
        seed,
        on_epoch or (lambda _: None),
        checkpoint,
    )
    return TrainedDeepAr(
        config, columns, mean, std, found.weights, cutoff, seed, found.curve, found.best_epoch, tickers
    )


def forecast_deepar(
    trained: TrainedDeepAr, components: pl.DataFrame, known: pl.DataFrame, sessions: Collection[date]
) -> pl.DataFrame:
    """The Student-t distribution of the label for every ticker and session that has enough history.

    Returns ticker, session, location, scale, degrees (f64), sorted by ticker and session; the location is the
    mean, the point forecast. Each row looks at exactly the last `config.context` rows of its ticker, that of
    the session included; where there are fewer there is no row (`training.missing_history` counts them). Rows
    after a session never touch it. `known` is as in training; a ticker unknown to it has the mean embedding.

    Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
    BadBarsError as `train_deepar`.
    """
    require_after(trained.cutoff, sessions)
    config = trained.config
    panel, ticker_of = _panel(
        components, known, trained.features, trained.mean, trained.std, trained.tickers, config.input_clip
    )
    asked = asked_rows(panel.keys, sessions, config.context)
    last_rows = np.flatnonzero(asked.to_numpy())
    values, network = torch.from_numpy(panel.values), trained.network()
    answers = answers_at(
        last_rows, config.context, 3, lambda windows: network.at_last_step(values[windows], ticker_of[windows[:, -1]])
    )
    columns = zip(("location", "scale", "degrees"), answers.astype(np.float64).T, strict=True)
    return panel.keys.filter(asked).with_columns(pl.Series(name, column) for name, column in columns)


def predict_deepar(
    trained: TrainedDeepAr, components: pl.DataFrame, known: pl.DataFrame, sessions: Collection[date]
) -> pl.DataFrame:
    """ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell of `forecast_deepar`. Raises likewise."""
    return forecast_to_probabilities(forecast_deepar(trained, components, known, sessions))


def forecast_to_probabilities(forecast: pl.DataFrame) -> pl.DataFrame:
    """The frame of every model, ticker, session, p_sell, p_hold, p_buy, score, of `forecast_deepar`'s answer."""
    return probability_frame(
        forecast.select(KEYS), class_probabilities(forecast.select("location", "scale", "degrees").to_numpy())
    )


def class_probabilities(distributions: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: the mass below -1/2, between and above 1/2 of N × (location, scale, degrees of freedom)."""
    location, scale, degrees = np.asarray(distributions, np.float64).T
    sell = stdtr(degrees, (-0.5 - location) / scale)
    buy = stdtr(degrees, (location - 0.5) / scale)  # the upper tail: the distribution is symmetric
    return np.stack([sell, np.maximum(1 - sell - buy, 0.0), buy], axis=1)


def negative_log_density(distributions: Tensor, labels: Tensor) -> Tensor:
    """Of each label (-1, 0, 1) under its Student-t distribution, in nats: [N, 3], [N] -> [N]."""
    location, scale, degrees = distributions.unbind(dim=-1)
    square = ((labels - location) / scale).square()
    return (
        torch.lgamma(degrees / 2)
        - torch.lgamma((degrees + 1) / 2)
        + 0.5 * torch.log(pi * degrees)
        + scale.log()
        + (degrees + 1) / 2 * torch.log1p(square / degrees)
    )


def _distribution(raw: Tensor) -> Tensor:
    raw = raw.float()  # where the products were made in half precision
    free = functional.softplus(raw[..., _SCALE:])
    return torch.stack([raw[..., _LOCATION], SMALLEST_SCALE + free[..., 0], SMALLEST_DEGREES + free[..., 1]], dim=-1)


def _panel(
    components: pl.DataFrame,
    known: pl.DataFrame,
    columns: Sequence[str],
    mean: np.ndarray,
    std: np.ndarray,
    tickers: Sequence[str],
    clip: float,
) -> tuple[Panel, Tensor]:
    """(the panel, whose values end with the known label and whether there is one; the ticker index of its rows)."""
    panel = build_panel(components, columns, mean, std, clip)
    joined = panel.keys.join(known.select(*KEYS, "known_label"), on=KEYS, how="left", maintain_order="left")
    if joined.height != panel.keys.height:
        ticker, session = joined.filter(joined.select(KEYS).is_duplicated()).select(KEYS).row(0)
        raise BadBarsError(f"known labels hold {ticker} at {session} twice; expected one row per ticker and session")
    label = joined["known_label"].cast(pl.Float32)
    wrong = joined.filter(label.is_not_null() & ~label.is_in(list(map(float, CLASSES))))
    if not wrong.is_empty():
        ticker, session, found = wrong.row(0)
        raise BadBarsError(f"the known label of {ticker} at {session} is {found}; expected -1, 0, 1 or null")
    inputs = np.stack([label.fill_null(0.0).to_numpy(), label.is_not_null().to_numpy()], axis=1).astype(np.float32)
    values = np.concatenate([panel.values, np.concatenate([inputs, np.zeros((1, 2), np.float32)])], axis=1)
    index = {ticker: i for i, ticker in enumerate(tickers)}
    ticker_of = np.repeat(
        [index.get(panel.keys["ticker"][int(first)], len(tickers)) for first in panel.starts],
        panel.ends - panel.starts,
    )
    return replace(panel, values=values), torch.from_numpy(ticker_of.astype(np.int64))


def _fit(
    network: DeepAr,
    train: Panel,
    validation: Panel,
    ticker_of: Tensor,
    config: DeepArConfig,
    seed: int,
    on_epoch: Callable[[EpochReport], None],
    checkpoint: Checkpoint | None,
) -> Descent[EpochReport]:
    place = device_of(network)
    values, labels = torch.from_numpy(train.values).to(place), torch.from_numpy(train.labels).to(place)
    ticker_of = ticker_of.to(place)

    def loss_of(rows: Tensor) -> tuple[Tensor, int]:
        known = labels[rows] != IGNORE  # [B, L]
        targets = (labels[rows][known] + CLASSES[0]).float()  # [K]
        answers = network(values[rows], ticker_of[rows[:, 0]])[known]  # [K, 3]
        return negative_log_density(answers, targets).mean(), len(targets)

    def judge(epoch: int, train_loss: float | None) -> EpochReport:
        network.eval()
        if train_loss is None:
            first = random_segments(train, config.segment, np.random.default_rng(seed))[: config.batch]
            with torch.inference_mode():
                train_loss = loss_of(torch.from_numpy(first).to(place))[0].item()
        return _judge(network, validation, ticker_of, config, epoch, train_loss)

    return descend(network, train, config, seed, loss_of, judge, EpochReport, on_epoch, checkpoint)


def _judge(
    network: DeepAr, panel: Panel, ticker_of: Tensor, config: DeepArConfig, epoch: int, train_loss: float
) -> EpochReport:
    """The report of an epoch, on the panel's labels, by one pass along each ticker."""
    place = device_of(network)
    values = torch.from_numpy(panel.values).to(place)

    def answer(spans: Tensor) -> Tensor:
        spans = spans.to(place)
        return network(values[spans], ticker_of[spans[:, 0]])

    rows, answers = answers_along(panel, config, 3, answer)
    if not len(rows):
        raise StockAssetsError("no label of the validation sessions has inputs; expected rows of the same sessions")
    probabilities, truth = class_probabilities(answers), panel.labels[rows]  # [V, 3], [V]
    distance = probabilities.argmax(axis=1) - truth
    of_truth = probabilities[np.arange(len(truth)), truth]
    return EpochReport(
        epoch=epoch,
        epochs=config.epochs,
        train_loss=train_loss,
        validation_loss=float(-np.log(np.maximum(of_truth, 1e-15)).mean()),
        accuracy=float((distance == 0).mean()),
        rmse=float(np.sqrt((distance**2).mean())),
    )
