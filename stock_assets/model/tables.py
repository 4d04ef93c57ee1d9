"""What the model room keeps."""

import polars as pl

from stock_assets.model.registry import models_into, named
from stock_assets.tables import SESSION, TICKER, UTC_TIME, Column, Table, declare

_MODEL_YEAR = Column("model_year", pl.Int64(), "the year that the model serves")
_TRAINED_THROUGH = Column("trained_through", pl.Date(), "the cutoff: no label known later was used")
_PCA_VERSION = Column("pca_version", pl.String(), "the principal components that were there when it was trained")


def _trained_table(name: str, text: str, *, networks: bool) -> Table:
    """A table of trained versions, one row each; those of networks say how the training went."""
    scores = (
        Column("best_epoch", pl.Int64(), "the epoch whose weights were kept; null without epochs"),
        Column("validation_accuracy", pl.Float64(), "share of validation rows whose most probable class came true"),
        Column(
            "validation_log_loss",
            pl.Float64(),
            "mean negative log-probability of what came true, in nats; lower is better",
        ),
    )
    return Table(
        name,
        "model",
        text,
        (
            _MODEL_YEAR,
            Column("model", pl.String(), named(models_into(name))),
            Column("version", pl.String(), "model, cutoff and a hash of the weights"),
            _TRAINED_THROUGH,
            Column("trained_at", UTC_TIME, "when it was trained", unit="UTC"),
            Column("training_rows", pl.Int64(), "labels learned from, after the purge"),
            *(scores if networks else ()),
            _PCA_VERSION,
            Column(
                "artifact",
                pl.String(),
                "folder of the weights below the artifacts folder; null once a challenger that lost is tidied away",
            ),
        ),
        keys=("model_year", "model", "version"),
        partitions="model year",
    )


def _prediction_table(name: str, text: str, models: str, *, followed_by: tuple[str, ...] = ()) -> Table:
    """A table of probabilities, one row per model, ticker and session."""
    return Table(
        name,
        "model",
        text,
        (
            Column("model", pl.String(), models),
            Column("model_version", pl.String(), "the version that made the row"),
            Column("trained_through", pl.Date(), "the cutoff of that version; always before the session"),
            TICKER,
            SESSION,
            Column("p_sell", pl.Float64(), "probability that the lower barrier is touched first"),
            Column("p_hold", pl.Float64(), "probability that neither is touched"),
            Column("p_buy", pl.Float64(), "probability that the upper barrier is touched first"),
            Column("score", pl.Float64(), "p_buy - p_sell"),
        ),
        keys=("model", "ticker", "session"),
        partitions="predicted session",
        followed_by=followed_by,
    )


TRAINED_RNN = declare(
    _trained_table("trained_rnn", "the recurrent networks, `rnn` and `rnn_classifier`", networks=True)
)
TRAINED_BASELINES = declare(
    _trained_table(
        "trained_baselines", "what a network has to beat: naive priors, logistic regression, MLP, trees", networks=False
    )
)
TRAINED_REFERENCES = declare(
    _trained_table(
        "trained_references",
        "models that never serve, for the report and the audit: the study's network, persistence, SVM",
        networks=True,
    )
)

TRAINED_ENSEMBLE = declare(
    Table(
        "trained_ensemble",
        "model",
        "the average that had the smallest log-loss in the model years before",
        (
            Column("model_year", pl.Int64(), "the year that the average serves"),
            Column("member", pl.String(), "the model that is weighed"),
            Column("weight", pl.Float64(), "its share of every probability; the weights of a version sum to 1"),
            Column(
                "log_loss", pl.Float64(), "its own log-loss on the rows that chose the weights; null where none did"
            ),
            Column("rows", pl.Int64(), "walk-forward predictions of earlier years that chose the weights"),
            Column("version", pl.String(), "ensemble, cutoff and a hash of the weights"),
            _TRAINED_THROUGH,
        ),
        keys=("model_year", "member", "version"),
        partitions="model year",
    )
)

PREDICTIONS = declare(
    _prediction_table(
        "predictions",
        "probabilities per model and of the ensemble, never from one trained through the session",
        "a model of trained_rnn or trained_baselines, or their ensemble",
        followed_by=("publication",),
    )
)
REFERENCE_PREDICTIONS = declare(
    _prediction_table(
        "reference_predictions",
        "what the models that never serve would have predicted, for the report and the audit",
        "a model of trained_references",
    )
)

TUNED_HYPERPARAMETERS = declare(
    Table(
        "tuned_hyperparameters",
        "model",
        "one row per Optuna trial, judged before the first model year; on demand, `make run` leaves it out",
        (
            Column("network", pl.String(), "what was tuned: deepar or rnn"),
            Column(
                "study", pl.String(), "the network and a digest of inputs, folds and ranges: trials compare within one"
            ),
            Column("trial", pl.Int64(), "its number, in the order they began"),
            Column("state", pl.String(), "complete, pruned, or fail when its process died"),
            Column(
                "value", pl.Float64(), "mean log-loss of the validation periods, in nats; null but for complete trials"
            ),
            Column("is_default", pl.Boolean(), "whether it is the configuration that the network has by default"),
            Column("params", pl.String(), "the hyperparameters, as JSON"),
            Column("epochs", pl.Int64(), "epochs trained, over all folds"),
            Column("seconds", pl.Float64(), "how long it took"),
            Column("started", UTC_TIME, "when it began", unit="UTC"),
        ),
        keys=("study", "trial"),
    )
)
