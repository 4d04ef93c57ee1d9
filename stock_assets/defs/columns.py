"""What every column of every table means: shown in the UI beside the asset."""

from stock_assets.features.indicators import DESCRIPTIONS as INDICATOR_DESCRIPTIONS
from stock_assets.features.stationary import DESCRIPTIONS as STATIONARY_DESCRIPTIONS

KEY = {
    "ticker": ("VARCHAR", "the ticker as the source spells it"),
    "session": ("DATE", "the trading day, in the exchange's own time zone"),
}
_METRICS = {
    "accuracy": ("DOUBLE", "share of rows whose most probable class came true"),
    "log_loss": ("DOUBLE", "mean negative log-probability of what came true, in nats; lower is better"),
}

COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "universe": {
        "ticker": KEY["ticker"],
        "name": ("VARCHAR", "the company, where the source knows it"),
        "sector": ("VARCHAR", "the sector, where the source knows it: simulated does, a snapshot may, yahoo does not"),
        "from_session": ("DATE", "the first session of the membership"),
        "to_session": ("DATE", "the last session of the membership; null while it lasts"),
    },
    "raw_ohlcv": {
        **KEY,
        "open": ("DOUBLE", "first price, in the vendor's basis (split-adjusted as of fetched_at)"),
        "high": ("DOUBLE", "highest price, in the vendor's basis"),
        "low": ("DOUBLE", "lowest price, in the vendor's basis"),
        "close": ("DOUBLE", "last price, in the vendor's basis"),
        "adj_close": ("DOUBLE", "close adjusted for splits and dividends, as of fetched_at"),
        "volume": ("DOUBLE", "shares traded, in the vendor's basis"),
        "dividend": (
            "DOUBLE",
            "dividend on its ex-date, in the vendor's basis; null where the source has none",
        ),
        "split_ratio": (
            "DOUBLE",
            "new shares per old one on the ex-date, 1 on ordinary days; null where unknown",
        ),
        "later_splits": ("DOUBLE", "product of the split ratios after the bar and up to fetched_at"),
        "previous_adj_close": ("DOUBLE", "adjusted close of the preceding bar in the same answer"),
        "source": ("VARCHAR", "who said it: simulated, snapshot or yahoo"),
        "fetched_at": ("TIMESTAMPTZ", "when it was said, UTC"),
    },
    "daily_bars": {
        **KEY,
        "open": ("DOUBLE", "first price as traded, in the currency of the listing"),
        "high": ("DOUBLE", "highest price as traded"),
        "low": ("DOUBLE", "lowest price as traded"),
        "close": ("DOUBLE", "last price as traded"),
        "volume": ("DOUBLE", "shares traded on the day"),
        "dividend": ("DOUBLE", "dividend per share on its ex-date, as paid"),
        "split_ratio": ("DOUBLE", "new shares per old one on the ex-date, 1 on ordinary days"),
        "total_return": (
            "DOUBLE",
            "(close + dividend) * split_ratio / previous close - 1; no later event changes it",
        ),
        "is_member": ("BOOLEAN", "whether the universe held the ticker on that session"),
        "suspect": ("VARCHAR", "why the row neither trains nor scores; null for a trusted bar"),
    },
    "indicators": {**KEY, **{name: ("DOUBLE", text) for name, text in INDICATOR_DESCRIPTIONS.items()}},
    "stationary_features": {
        **KEY,
        **{name: ("DOUBLE", text) for name, text in STATIONARY_DESCRIPTIONS.items()},
    },
    "labels": {
        **KEY,
        "label": ("TINYINT", "1 buy, -1 sell, 0 hold: which barrier the total return touches first"),
        "touch_session": ("DATE", "the session of the first touch; null for hold"),
        "horizon_end": ("DATE", "the session on which the label became known"),
        "forward_return_1": ("DOUBLE", "total return to the ticker's next bar, as a fraction"),
        "forward_return_7": ("DOUBLE", "total return over the whole horizon, as a fraction"),
    },
    "pca_model": {
        "pca_version": ("VARCHAR", "hash of the numbers of the fit"),
        "component": ("INTEGER", "1 for the component that explains most"),
        "position": ("INTEGER", "place of the feature in the model's input, from 0"),
        "feature": ("VARCHAR", "a column of stationary_features"),
        "loading": ("DOUBLE", "weight of the standardised feature in the component"),
        "mean": ("DOUBLE", "mean of the feature over the fit window"),
        "scale": ("DOUBLE", "standard deviation of the feature over the fit window"),
        "explained_variance_ratio": ("DOUBLE", "share of the fit window's variance in the component"),
        "fit_from": ("DATE", "first session of the fit window"),
        "fit_through": ("DATE", "last session of the fit window"),
        "n_rows": ("BIGINT", "rows of the fit window"),
    },
    "pca_components": {
        **KEY,
        "pc_1 … pc_k": ("DOUBLE", "scores on the principal components that hold 95 % of the variance"),
        "pca_version": ("VARCHAR", "the fit that made the row"),
    },
    "trained_rnn": {
        "model_year": ("INTEGER", "the year that the model serves"),
        "model": ("VARCHAR", "rnn, rnn_classifier or deepar"),
        "version": ("VARCHAR", "model, cutoff and a hash of the weights"),
        "trained_through": ("DATE", "the cutoff: no label known later was used"),
        "training_rows": ("BIGINT", "labels learned from, after the purge"),
        "best_epoch": ("INTEGER", "the epoch whose weights were kept"),
        "validation_accuracy": _METRICS["accuracy"],
        "validation_log_loss": _METRICS["log_loss"],
        "pca_version": ("VARCHAR", "the principal components it reads"),
        "artifact": ("VARCHAR", "folder of the weights below the artifacts folder"),
    },
    "trained_baselines": {
        "model_year": ("INTEGER", "the year that the model serves"),
        "model": ("VARCHAR", "class_prior, ticker_prior, persistence, logistic, svm, mlp or trees"),
        "version": ("VARCHAR", "model, cutoff and a hash of the numbers"),
        "trained_through": ("DATE", "the cutoff: no label known later was used"),
        "training_rows": ("BIGINT", "labels learned from, after the purge"),
        "pca_version": ("VARCHAR", "the principal components it reads"),
        "artifact": ("VARCHAR", "folder of the numbers below the artifacts folder"),
    },
    "trained_ensemble": {
        "model_year": ("INTEGER", "the year that the average serves"),
        "member": ("VARCHAR", "the model that is weighed"),
        "weight": ("DOUBLE", "its share of every probability; the weights of a version sum to 1"),
        "log_loss": ("DOUBLE", "its own log-loss on the rows that chose the weights; null where none did"),
        "rows": ("BIGINT", "walk-forward predictions of earlier years that chose the weights"),
        "version": ("VARCHAR", "ensemble, cutoff and a hash of the weights"),
        "trained_through": ("DATE", "the cutoff: no label known later was used"),
    },
    "predictions": {
        "model": ("VARCHAR", "a model of trained_rnn or trained_baselines, or their ensemble"),
        "model_version": ("VARCHAR", "the version that made the row"),
        "trained_through": ("DATE", "the cutoff of that version; always before the session"),
        **KEY,
        "p_sell": ("DOUBLE", "probability that the lower barrier is touched first"),
        "p_hold": ("DOUBLE", "probability that neither is touched"),
        "p_buy": ("DOUBLE", "probability that the upper barrier is touched first"),
        "score": ("DOUBLE", "p_buy - p_sell"),
    },
    "tuned_hyperparameters": {
        "network": ("VARCHAR", "what was tuned: deepar or rnn"),
        "study": ("VARCHAR", "the network and a digest of inputs, folds and ranges: trials compare within one"),
        "trial": ("BIGINT", "its number, in the order they began"),
        "state": ("VARCHAR", "complete, pruned, or fail when its process died"),
        "value": ("DOUBLE", "mean log-loss of the validation periods, in nats; null but for complete trials"),
        "is_default": ("BOOLEAN", "whether it is the configuration that the network has by default"),
        "params": ("VARCHAR", "the hyperparameters, as JSON"),
        "epochs": ("BIGINT", "epochs trained, over all folds"),
        "seconds": ("DOUBLE", "how long it took"),
        "started": ("TIMESTAMPTZ", "when it began, UTC"),
    },
    "evaluation_report": {
        "model": ("VARCHAR", "the model, or a naive baseline"),
        "year": ("INTEGER", "the test year; null for the mean of the yearly scores"),
        "sessions": ("BIGINT", "sessions scored"),
        "rows": ("BIGINT", "trusted predictions whose label is known"),
        **_METRICS,
        **{
            f"{name}_{end}": ("DOUBLE", f"{text} end of the 95 % interval of {name}, day-block bootstrap")
            for name in ("accuracy", "log_loss", "rank_ic")
            for end, text in (("low", "lower"), ("high", "upper"))
        },
        "rank_ic": ("DOUBLE", "mean daily rank correlation of the score with the next session's return"),
        "rank_ic_t": ("DOUBLE", "t-statistic of the daily rank IC"),
        "balanced_accuracy": ("DOUBLE", "mean over the classes of the share that is hit"),
        "macro_f1": ("DOUBLE", "mean F1 over the classes"),
        "brier": ("DOUBLE", "mean squared error of the probabilities, summed over the classes"),
        "rmse": ("DOUBLE", "root mean squared error of the class taken as -1, 0, 1"),
        "ordinal_rmse": ("DOUBLE", "root mean squared error of p_buy - p_sell against the label"),
    },
    "leakage_audit": {
        "protocol": ("VARCHAR", "honest or cheating"),
        "model": ("VARCHAR", "what was scored"),
        "lag": ("INTEGER", "in a sweep, rows between the session and the label that is copied or read; else null"),
        "rows": ("BIGINT", "rows that were scored"),
        "accuracy": _METRICS["accuracy"],
        "rmse": ("DOUBLE", "root mean squared error of the class taken as -1, 0, 1"),
        "ordinal_rmse": ("DOUBLE", "root mean squared error of the point forecast of the label; null for persistence"),
        "log_loss": _METRICS["log_loss"],
        "note": ("VARCHAR", "where the score comes from"),
    },
    "operations": {
        "session": KEY["session"],
        "models": ("BIGINT", "models that predicted the session, the ensemble included"),
        "rows": ("BIGINT", "tickers that the model in service predicted"),
        "suspects": ("BIGINT", "bars of the session that are suspect, and neither train nor score"),
        "version": ("VARCHAR", "the version of rnn that predicted the session"),
        "trained_through": ("DATE", "its cutoff"),
        "age": ("BIGINT", "sessions between its cutoff and the session"),
        "scored": ("BIGINT", "rows of rnn whose label is known and trusted"),
        "log_loss": ("DOUBLE", "of rnn on these rows, mean, in nats; null until a label is known"),
        "ensemble_log_loss": ("DOUBLE", "of the ensemble"),
        "naive_log_loss": ("DOUBLE", "of the naive baseline that was best over all these sessions"),
        "accuracy": _METRICS["accuracy"],
    },
    "alerts": {
        "key": ("VARCHAR", "the trouble: the same at every repetition"),
        "title": ("VARCHAR", "what the last message said, or would have said, in a line"),
        "text": ("VARCHAR", "the message itself"),
        "run_id": ("VARCHAR", "the last run it was about; null where it is about none"),
        "first_at": ("TIMESTAMPTZ", "when it came first since it was last resolved, UTC"),
        "last_at": ("TIMESTAMPTZ", "when it came last, UTC"),
        "sent_at": ("TIMESTAMPTZ", "when a person was told last, UTC; null while a channel has not been reached"),
        "count": ("BIGINT", "times it came that no message has told of yet"),
        "resolved_at": ("TIMESTAMPTZ", "when it was over, UTC; null while it lasts"),
    },
}

_PRICES = ("open", "high", "low", "close", "dividend")
_RETURN = [("daily_bars", "total_return")]
_PRICED = [("daily_bars", "total_return"), ("daily_bars", "close")]

#: Which columns a column is computed from, where that helps a reader: table → column → (table, column)s.
LINEAGE: dict[str, dict[str, list[tuple[str, str]]]] = {
    "daily_bars": {
        **{name: [("raw_ohlcv", name), ("raw_ohlcv", "later_splits")] for name in (*_PRICES, "volume")},
        "split_ratio": [("raw_ohlcv", "split_ratio")],
        "total_return": [
            ("raw_ohlcv", name)
            for name in (
                "close",
                "dividend",
                "split_ratio",
                "later_splits",
                "adj_close",
                "previous_adj_close",
            )
        ],
        "is_member": [("universe", "from_session"), ("universe", "to_session")],
        "suspect": [("raw_ohlcv", name) for name in ("open", "high", "low", "close", "volume")],
    },
    "indicators": {name: _RETURN if name.startswith("rsi") else _PRICED for name in INDICATOR_DESCRIPTIONS},
    "labels": dict.fromkeys(("label", "touch_session", "horizon_end", "forward_return_1", "forward_return_7"), _RETURN),
}
