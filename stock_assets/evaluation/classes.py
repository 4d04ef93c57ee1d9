"""How the three classes were predicted: confusion, precision and recall, calibration.

All take rows of `metrics.scored_rows`, or the table of one of the functions here.
"""

import numpy as np
import polars as pl

from stock_assets.frames import CLASS_NAMES, CLASSES, PROBABILITIES


def confusion_table(scored_predictions: pl.DataFrame) -> pl.DataFrame:
    """model, label, predicted, rows, share: all nine pairs per model; share is of the label's rows."""
    counts = scored_predictions.group_by("model", "label", "predicted").len("rows")
    classes = pl.DataFrame({"label": CLASSES}, schema={"label": pl.Int8})
    pairs = counts.select("model").unique().join(classes, how="cross")
    total = pl.col("rows").sum().over("model", "label")
    return (
        pairs.join(classes.rename({"label": "predicted"}), how="cross")
        .join(counts, on=["model", "label", "predicted"], how="left")
        .with_columns(pl.col("rows").fill_null(0))
        .with_columns(share=pl.when(total > 0).then(pl.col("rows") / total))
        .sort("model", "label", "predicted")
    )


def classification_report(confusion: pl.DataFrame, model: str) -> pl.DataFrame:
    """class, precision, recall, f1, support of one model: sell, hold, buy, their plain and their weighted mean.

    `confusion` is that of `confusion_table`. Of the rows predicted as the class, `precision` is the share that was one;
    of the `support` rows of the class, `recall` the share predicted as one; `f1` their harmonic mean, as scikit-learn's
    `classification_report` has them. Null where there is nothing to divide by; means leave nulls out.
    """
    from sklearn.metrics import classification_report as report_of

    cells = confusion.filter(pl.col("model") == model)
    by_class = report_of(
        cells["label"].to_numpy(),
        cells["predicted"].to_numpy(),
        labels=list(CLASSES),
        target_names=list(CLASS_NAMES.values()),
        sample_weight=cells["rows"].to_numpy(),
        output_dict=True,
        zero_division=np.nan,  # pyright: ignore[reportArgumentType]: a number, which its stub leaves out
    )
    assert isinstance(by_class, dict)
    names = dict(zip((*CLASS_NAMES.values(), "mean", "weighted mean"), (*CLASS_NAMES.values(), *_MEANS), strict=True))
    rows = [
        (name, *(by_class[library_name][score] for score in ("precision", "recall", "f1-score", "support")))
        for name, library_name in names.items()
    ]
    scores = ("precision", "recall", "f1")
    schema = {"class": pl.String, **dict.fromkeys((*scores, "support"), pl.Float64)}
    return pl.DataFrame(rows, schema, orient="row").with_columns(
        pl.col(scores).fill_nan(None), pl.col("support").cast(pl.Int64)
    )


#: What scikit-learn calls the plain and the weighted mean of the classes.
_MEANS = ("macro avg", "weighted avg")


def calibration_table(scored_predictions: pl.DataFrame, bins: int = 20) -> pl.DataFrame:
    """model, class, bin, rows, forecast, observed: whether a class comes as often as its probability.

    Probabilities are sorted into `bins` equal intervals of [0, 1]; `forecast` is their mean within the bin,
    `observed` the share of its rows with that label. Empty bins have no row.
    """
    parts = [
        scored_predictions.select(
            "model",
            pl.lit(c, pl.Int8).alias("class"),
            (pl.col(column) * bins).floor().clip(0, bins - 1).cast(pl.Int32).alias("bin"),
            pl.col(column).alias("forecast"),
            (pl.col("label") == c).cast(pl.Float64).alias("observed"),
        )
        for c, column in zip(CLASSES, PROBABILITIES, strict=True)
    ]
    return (
        pl.concat(parts)
        .group_by("model", "class", "bin")
        .agg(pl.len().alias("rows"), pl.col("forecast", "observed").mean())
        .sort("model", "class", "bin")
    )
