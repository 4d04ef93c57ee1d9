"""What the publication room keeps in the store, and the columns of the files that it publishes."""

import polars as pl

from stock_assets.tables import SESSION, TICKER, UTC_TIME, Column, Table, declare
from stock_assets.trading.tables import (
    BREAKS,
    ORDER_EVENTS,
    ORDER_GATES,
    ORDERS,
    PAPER_EQUITY,
    PAPER_POSITIONS,
    TRADING_SWITCH,
)

PUBLICATION = declare(
    Table(
        "publication",
        "publication",
        "what is published of a session: the newest file of its predictions, and the entry of the ledger that named it",
        (
            SESSION,
            Column("entry", pl.String(), "the entry of the ledger that published the file first"),
            Column("digest", pl.String(), "the file's name: the first 12 hexadecimal digits of its SHA-256"),
            Column("rows", pl.Int64(), "its rows"),
            Column("published_at", UTC_TIME, "when the entry was written", unit="UTC"),
            Column("content", pl.String(), "a digest of the stored predictions that it holds"),
        ),
        keys=("session",),
        partitions="predicted session",
    )
)


def _file(name: str, text: str, *columns: Column, keys: tuple[str, ...]) -> Table:
    """The declaration of a published file. It is no table of the store, so it is not declared to it."""
    return Table(name, "publication", text, columns, keys)


_MODEL = Column("model", pl.String(), "the model; null where the ticker is left out")

#: predictions/session=YYYY-MM-DD/<digest>.parquet, sorted by ticker and model.
PREDICTIONS_FILE = _file(
    "predictions",
    "one row per ticker and model, and one without a model per ticker that the model in service leaves out",
    TICKER,
    _MODEL,
    Column("model_version", pl.String(), "the version that made the row"),
    Column("trained_through", pl.Date(), "the cutoff of that version; always before the session"),
    Column("p_sell", pl.Float64(), "probability that the lower barrier is touched first"),
    Column("p_hold", pl.Float64(), "probability that neither is touched"),
    Column("p_buy", pl.Float64(), "probability that the upper barrier is touched first"),
    Column("score", pl.Float64(), "p_buy - p_sell"),
    Column("rank", pl.Int32(), "1 for the highest score of the model and session; ties go by ticker"),
    Column("status", pl.String(), "predicted or left_out"),
    Column(
        "reason",
        pl.String(),
        "why it is left out, after no_bar:, suspect:, no_member: or missing_history:; null where it is predicted",
    ),
    keys=("ticker",),
)
#: bars/session=YYYY-MM-DD/<digest>.parquet, sorted by ticker.
BARS_FILE = _file(
    "bars",
    "the bar of every ticker, as traded",
    TICKER,
    Column("name", pl.String(), "the company; null where the source does not know it"),
    Column("sector", pl.String(), "the sector; null where the source does not know it"),
    Column("open", pl.Float64(), "first price as traded", unit="listing currency"),
    Column("high", pl.Float64(), "highest price as traded", unit="listing currency"),
    Column("low", pl.Float64(), "lowest price as traded", unit="listing currency"),
    Column("close", pl.Float64(), "last price as traded", unit="listing currency"),
    Column("volume", pl.Float64(), "shares traded"),
    Column("dividend", pl.Float64(), "dividend per share on its ex-date, as paid", unit="listing currency"),
    Column("split_ratio", pl.Float64(), "new shares per old one on the ex-date, 1 on ordinary days"),
    Column("total_return", pl.Float64(), "total return since the previous bar", unit="fraction"),
    Column("is_member", pl.Boolean(), "whether the universe held the ticker on that session"),
    Column("suspect", pl.String(), "why the bar neither trains nor scores; null for a trusted one"),
    keys=("ticker",),
)
#: outcomes/session=YYYY-MM-DD/<digest>.parquet, sorted by ticker: there once the labels of the session are known.
OUTCOMES_FILE = _file(
    "outcomes",
    "what came true of the predictions of a session",
    TICKER,
    Column("label", pl.Int8(), "1 buy, -1 sell, 0 hold"),
    Column("horizon_end", pl.Date(), "the session on which the label became known"),
    Column(
        "forward_return_horizon", pl.Float64(), "total return from this close to that of horizon_end", unit="fraction"
    ),
    Column("usable", pl.Boolean(), "whether the label scores: neither suspect nor, with MEMBERS_ONLY, of a non-member"),
    keys=("ticker",),
)

#: monitoring/<name>/<digest>.parquet: each as of the moment of the entry, the newest rows last where they have a time.
MONITORING: dict[str, Table] = {
    table.name: table
    for table in (
        _file(
            "sessions",
            "one row per recent predicted session: the rows of the table operations, and what was expected",
            SESSION,
            Column("models", pl.Int64(), "models that predicted the session, the ensemble included"),
            Column("rows", pl.Int64(), "tickers that the model in service predicted"),
            Column("left_out", pl.Int64(), "tickers of the session that it did not predict"),
            Column("suspects", pl.Int64(), "bars of the session that are suspect"),
            Column("version", pl.String(), "the version of the model in service that predicted the session"),
            Column("trained_through", pl.Date(), "its cutoff"),
            Column("age", pl.Int64(), "sessions between its cutoff and the session"),
            Column("scored", pl.Int64(), "rows whose label is known and trusted"),
            Column("log_loss", pl.Float64(), "of the model in service on these rows; null until a label is known"),
            Column("ensemble_log_loss", pl.Float64(), "of the ensemble"),
            Column("naive_log_loss", pl.Float64(), "of the naive baseline that was best over all these sessions"),
            Column("accuracy", pl.Float64(), "share of rows whose most probable class came true"),
            Column("rank_ic", pl.Float64(), "Spearman correlation of score and return to horizon_end"),
            Column(
                "expected_log_loss",
                pl.Float64(),
                "mean entropy of the published probabilities of the model in service: its log-loss if they are right",
            ),
            keys=("session",),
        ),
        _file(
            "rolling_skill",
            "log-loss over the last 21 sessions and its 95 % interval by day blocks, per model",
            SESSION,
            Column("model", pl.String(), "the model in service, the ensemble, or naive"),
            Column("log_loss", pl.Float64(), "mean of the daily log-loss", unit="nats"),
            Column("low", pl.Float64(), "lower end of its 95 % interval; null with too few sessions"),
            Column("high", pl.Float64(), "upper end"),
            Column("gain", pl.Float64(), "running sum of the naive baseline's log-loss less the model's"),
            keys=("session", "model"),
        ),
        _file(
            "reliability",
            "how often a class came true where its probability was about so high, of the model in service",
            Column("class", pl.String(), "sell, hold or buy"),
            Column("bin", pl.Int32(), "the decile of the probability, 1 to 10"),
            Column("probability", pl.Float64(), "mean probability in the bin"),
            Column("frequency", pl.Float64(), "share of its rows that came true"),
            Column("rows", pl.Int64(), "rows in the bin"),
            keys=("class", "bin"),
        ),
        _file(
            "score",
            "the walk-forward score of every model on all years, with the best naive baseline beside it",
            Column("model", pl.String(), "the model"),
            Column("naive", pl.Boolean(), "whether it is the best naive baseline"),
            Column("log_loss", pl.Float64(), "mean over the years", unit="nats"),
            Column("low", pl.Float64(), "lower end of the 95 % interval by day blocks; null where there is none"),
            Column("high", pl.Float64(), "upper end"),
            Column("accuracy", pl.Float64(), "share of rows whose most probable class came true"),
            Column("rank_ic", pl.Float64(), "Spearman correlation of score and return"),
            Column("rows", pl.Int64(), "rows scored"),
            keys=("model",),
        ),
        _file(
            "drift",
            "how far the last month lies from the reference, per input and probability, of the recent sessions",
            SESSION,
            Column("kind", pl.String(), "input or prediction"),
            Column("column", pl.String(), "the column"),
            Column("psi", pl.Float64(), "population stability index"),
            Column("ks", pl.Float64(), "two-sample Kolmogorov-Smirnov distance, 0 to 1"),
            Column("reference_through", pl.Date(), "the cutoff at which the reference ends"),
            keys=("session", "kind", "column"),
        ),
        _file(
            "histograms",
            "the shares of the columns that drifted most, in the deciles of the reference",
            Column("column", pl.String(), "the column"),
            Column("bin", pl.Int32(), "1 to 10"),
            Column("low", pl.Float64(), "where the bin begins; null for the first"),
            Column("high", pl.Float64(), "where it ends; null for the last"),
            Column("reference", pl.Float64(), "share of the rows of the reference"),
            Column("recent", pl.Float64(), "share of the rows of the last month"),
            keys=("column", "bin"),
        ),
        _file(
            "promotions",
            "every verdict on a challenger, every rollback and every moved alias: the table promotions",
            Column("model", pl.String(), "the model"),
            Column("version", pl.String(), "the version that the decision is about"),
            Column("model_year", pl.Int32(), "the year that it serves"),
            Column("serves_from", pl.Date(), "the first session that the decision holds for"),
            Column("decided_at", UTC_TIME, "when it was decided", unit="UTC"),
            Column("outcome", pl.String(), "champion or challenger"),
            Column("kind", pl.String(), "judged, rollback or alias"),
            Column("replaced", pl.String(), "the version that served before, or was compared with"),
            Column("improvement", pl.Float64(), "log-loss of the champion less that of the challenger", unit="nats"),
            Column("improvement_low", pl.Float64(), "lower end of its 95 % interval"),
            Column("improvement_high", pl.Float64(), "upper end"),
            Column("reason", pl.String(), "why, in one sentence"),
            keys=("model", "version", "decided_at"),
        ),
        _file(
            "retraining_decisions",
            "whether the model in service is trained again after a session, and why",
            SESSION,
            Column("decided_at", UTC_TIME, "when it was decided", unit="UTC"),
            Column("retrain", pl.Boolean(), "whether a training was asked for"),
            Column("rule", pl.String(), "the rule that asked for it, or what forbade it"),
            Column("reason", pl.String(), "the figure and its limit, in one sentence"),
            keys=("session",),
        ),
        _file(
            "in_service",
            "every model's champion, and each version that has another alias",
            Column("model", pl.String(), "the model"),
            Column("alias", pl.String(), "champion, champion (requested), challenger, …"),
            Column("version", pl.String(), "the version"),
            Column("trained_through", pl.Date(), "its cutoff"),
            Column("model_year", pl.Int32(), "the year that it serves"),
            Column("serves_from", pl.Date(), "the first session that it serves; null where it does not"),
            Column("reason", pl.String(), "why, in one sentence"),
            keys=("model", "alias"),
        ),
        _file(
            "failures",
            "the runs that failed lately, the newest first",
            Column("at", UTC_TIME, "when the run was made", unit="UTC"),
            Column("what", pl.String(), "the assets"),
            Column("partitions", pl.String(), "their partitions"),
            Column("run_id", pl.String(), "the run in Dagster"),
            keys=("run_id",),
        ),
        _file(
            "checks",
            "the newest result of every check of an asset",
            Column("asset", pl.String(), "the asset"),
            Column("check", pl.String(), "the check"),
            Column("passed", pl.Boolean(), "whether it passed"),
            Column("severity", pl.String(), "WARN or ERROR"),
            Column("text", pl.String(), "what it found; null where it found nothing"),
            Column("at", UTC_TIME, "when it looked", unit="UTC"),
            Column("run_id", pl.String(), "the run in Dagster"),
            keys=("asset", "check"),
        ),
        _file(
            "fetch_outcomes",
            "why a ticker has no bar over a stretch of sessions: those that reach the recent sessions",
            TICKER,
            Column("first", pl.Date(), "the first session of the stretch"),
            Column("last", pl.Date(), "its last session"),
            Column("outcome", pl.String(), "not_listed, delisted, halted, holiday, unknown or error"),
            Column("reason", pl.String(), "what was seen, or the vendor's own words"),
            keys=("ticker", "first"),
        ),
        _file(
            "announcements",
            "per ticker the announcements that are expected within 45 days, and the last 8 reactions; as the schedule "
            "stood at the newest predicted session",
            TICKER,
            Column("reaction_session", pl.Date(), "the first session whose close can show the reaction"),
            Column("day", pl.Date(), "the day of the announcement"),
            Column("moment", pl.String(), "when on that day: pre, during, post, unknown"),
            Column("origin", pl.String(), "what says so: filed, file, calendar or replayed from a year before"),
            Column("known_from", pl.Date(), "the first session at whose close the date stood"),
            Column("happened", pl.Boolean(), "whether its reaction session is over"),
            Column("total_return", pl.Float64(), "of the reaction session; null for one to come", unit="fraction"),
            Column(
                "residual_return",
                pl.Float64(),
                "the same less the mean of the session's tickers, each cut at 0.2",
                unit="fraction",
            ),
            keys=("ticker", "reaction_session"),
        ),
        _file(
            "known_lags",
            "how long after an event its row was known, by side input: the share of rows in each bin",
            Column("side_input", pl.String(), "the side input"),
            Column("bin", pl.Int32(), "1, 2, … in the order of the lag"),
            Column(
                "low",
                pl.Float64(),
                "where it begins; null without end, below 0 for what is known ahead",
                unit="days",
            ),
            Column("high", pl.Float64(), "where it ends; null without end", unit="days"),
            Column("share", pl.Float64(), "share of the rows"),
            Column("rows", pl.Int64(), "rows in the bin"),
            keys=("side_input", "bin"),
        ),
        _file("paper_equity", PAPER_EQUITY.text, *PAPER_EQUITY.columns, keys=PAPER_EQUITY.keys),
        _file(
            "paper_orders",
            "the orders of the account for the next open, and what the broker last said of them",
            *ORDERS.columns,
            *(column for column in ORDER_EVENTS.columns if column.name in ("event", "status", "filled", "text")),
            keys=ORDERS.keys,
        ),
        _file(
            "paper_positions",
            "the positions of the account at the newest close",
            *PAPER_POSITIONS.columns,
            keys=PAPER_POSITIONS.keys,
        ),
        _file(
            "paper_gates",
            "the conditions on the newest orders, and the limits that are used",
            *ORDER_GATES.columns,
            keys=ORDER_GATES.keys,
        ),
        _file("paper_breaks", BREAKS.text, *BREAKS.columns, keys=BREAKS.keys),
        _file("paper_switch", TRADING_SWITCH.text, *TRADING_SWITCH.columns, keys=TRADING_SWITCH.keys),
    )
}
