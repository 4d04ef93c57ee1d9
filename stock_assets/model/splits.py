"""Which labels a model may learn from, and which it is judged on.

A label of session t looks ahead to `horizon_end`. It is known, and may train, once that session is over:
this is the purge, and it is as long as the label's own horizon (López de Prado, Advances in Financial
Machine Learning, chapter 7).

    labels (horizon 2)   t1→t3  t2→t4  t3→t5  t4→t6  t5→t7        cutoff t7, 2 validation sessions
    validation                                t4→t6  t5→t7
    train                t1→t3                                    t2→t4 and t3→t5 end inside the validation
"""

from collections.abc import Collection
from datetime import date

import polars as pl

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.frames import KEYS

#: The reason of a label that is left out because its ticker was no member of the universe on its session.
NO_MEMBER = "no_member"


def usable_labels(
    labels: pl.DataFrame, suspects: pl.DataFrame, outsiders: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The labels that may train and score, and how many of the others were left out, by reason.

    `suspects` holds ticker, session, suspect (a reason or null) of every bar of the labels' horizons. A label is left
    out when any bar of its ticker from its session to its `horizon_end`, both included, is suspect. It is counted once:
    under the reason of its session, else under that of the last suspect bar of its horizon. `outsiders` holds ticker,
    session of those who were no members then: their labels count under NO_MEMBER. A ticker that leaves within the
    horizon keeps its label, since the departure was not known.

    The usable labels have the columns of `labels` and are sorted by ticker and session.

    >>> day = [date(2024, 1, number) for number in (2, 3, 4)]
    >>> labels = pl.DataFrame({"ticker": "A", "session": day[:2], "horizon_end": [day[1], day[2]]})
    >>> suspects = pl.DataFrame({"ticker": "A", "session": day, "suspect": [None, None, "ohlc"]})
    >>> usable, left_out = usable_labels(labels, suspects)
    >>> usable["session"].to_list() == day[:1], left_out
    (True, {'ohlc': 1})
    """
    suspect_bars = suspects.filter(pl.col("suspect").is_not_null()).select(*KEYS, "suspect")
    last_flagged = suspect_bars.select("ticker", _flagged="session", _reason="suspect").sort("_flagged")
    labels_with_reason = (
        labels.join(suspect_bars, on=KEYS, how="left")
        .sort("horizon_end")
        .join_asof(
            last_flagged,
            left_on="horizon_end",
            right_on="_flagged",
            by="ticker",
            check_sortedness=False,  # polars cannot check it within tickers; both sides are sorted here
        )
    )
    inside = pl.when(pl.col("_flagged") > pl.col("session")).then("_reason")
    reason = pl.coalesce("suspect", inside)
    if outsiders is not None and outsiders.height:
        outsider_rows = outsiders.select(KEYS).unique().with_columns(_outside=pl.lit(NO_MEMBER))
        labels_with_reason = labels_with_reason.join(outsider_rows, on=KEYS, how="left")
        reason = pl.coalesce("_outside", reason)
    excluded_counts = (
        labels_with_reason.filter(reason.is_not_null())
        .group_by(reason.alias("reason"))
        .len("rows")
        .sort(["rows", "reason"], descending=[True, False])
    )
    usable = labels_with_reason.filter(reason.is_null()).select(labels.columns).sort(KEYS)
    return usable, dict(excluded_counts.iter_rows())


def label_of_rows_ago(rows: pl.DataFrame, labels: pl.DataFrame, lag: int) -> pl.DataFrame:
    """ticker, session, known_label: at each of `rows` the label of the ticker's own row `lag` rows earlier, or null.

    Free of look-ahead from `lag` = horizon on: at a horizon of seven, the label of seven rows ago is fully known at the
    close. `rows` are all rows of a ticker, those without a label too: a row left out would shift the lags. The result
    is sorted by ticker and session.
    """
    rows_with_label = rows.select(KEYS).join(labels.select(*KEYS, "label"), on=KEYS, how="left").sort(KEYS)
    return rows_with_label.select(*KEYS, pl.col("label").shift(lag).over("ticker").alias("known_label"))


def training_rows(labels: pl.DataFrame, cutoff: date) -> pl.DataFrame:
    """The labels fully known when session `cutoff` is over."""
    return labels.filter(pl.col("horizon_end") <= cutoff)


def require_known(labels: pl.DataFrame, cutoff: date) -> None:
    """Raises CutoffError when a label was not fully known when session `cutoff` was over."""
    late_labels = labels.filter(pl.col("horizon_end") > cutoff)
    if not late_labels.is_empty():
        worst = late_labels.sort("horizon_end").row(-1, named=True)
        raise CutoffError(
            f"{late_labels.height} label(s) look past the cutoff {cutoff}: that of {worst['ticker']} at "
            f"{worst['session']} is known only at {worst['horizon_end']}; expected labels purged by "
            "training_rows"
        )


def require_after(cutoff: date, sessions: Collection[date]) -> None:
    """Raises CutoffError when a session is not after the cutoff of the model that is to predict it."""
    if len(sessions) and min(sessions) <= cutoff:
        raise CutoffError(
            f"a model trained through {cutoff} was asked to predict {min(sessions)}; expected sessions after its cutoff"
        )


def train_validation_split(
    labels: pl.DataFrame, cutoff: date, validation_sessions: int = 126
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, validation) of the labels known by `cutoff`.

    Validation is their last `validation_sessions` sessions. Train is purged: each of its labels ends before
    the first session of the validation. Raises StockAssetsError where that leaves nothing to train on.
    """
    trainable = training_rows(labels, cutoff)
    sessions = trainable["session"].unique().sort()
    if len(sessions) > validation_sessions:
        first = sessions[-validation_sessions]
        train = trainable.filter(pl.col("horizon_end") < first)
        if not train.is_empty():
            return train, trainable.filter(pl.col("session") >= first)
    raise StockAssetsError(
        f"a model with cutoff {cutoff} has labels of {len(sessions)} session(s) to learn from; expected "
        f"more than the {validation_sessions} sessions of its validation and one horizon of purge before them"
    )
