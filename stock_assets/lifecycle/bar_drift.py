"""Drift of a market of bars: which sessions a session is compared with, and when a person is alerted."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.features.bar_features import BAR_INPUTS
from stock_assets.lifecycle.alerts import Alert

#: Sessions of the recent window, that of the figure included: those that a challenger is judged on are as many.
RECENT_BARS = 5
#: Sessions over which the best naive model is looked for.
YARDSTICK = 20
#: The drift of inputs from which on a person is alerted (`python -m benchmarks minutes_drift`).
INPUT_LIMIT = 0.3
#: The columns that are compared: those that follow from the clock move with the days of the window alone.
COMPARED = tuple(name for name in BAR_INPUTS if not name.startswith(("time_", "week_")))
DRIFT_KEY, SKILL_KEY = "drift/bar_features", "skill/bar_predictions"


def session_rows(
    losses: pl.DataFrame, versions: Mapping[date, str], naive: Sequence[str], *, champion: str, drift: pl.DataFrame
) -> pl.DataFrame:
    """`BAR_SESSIONS` of the sessions of `versions`, ascending.

    `losses` has session, model, rows and log_loss (nats) of `champion` and of the models `naive`, in the sessions to
    score and the YARDSTICK - 1 before each; `drift` is `drift.summary` of the inputs.
    """
    moved_shares = dict(drift.iter_rows())
    rows = []
    for session, version in sorted(versions.items()):
        past = losses.filter(pl.col("session") <= session, pl.col("model").is_in(list(naive)))
        yardstick_sessions = past["session"].unique().sort().tail(YARDSTICK)
        means = (
            past.filter(pl.col("session").is_in(yardstick_sessions.implode()))
            .group_by("model")
            .agg(loss=(pl.col("log_loss") * pl.col("rows")).sum() / pl.col("rows").sum())
            .sort("loss", "model")
        )
        best = means["model"][0] if means.height else None
        count_and_loss = {
            model: (count, loss)
            for model, count, loss in losses.filter(pl.col("session") == session)
            .select("model", "rows", "log_loss")
            .iter_rows()
        }
        count, own = count_and_loss.get(champion, (0, None))
        rows.append(
            (session, version, count, own, best, count_and_loss.get(best, (0, None))[1], moved_shares.get(session))
        )
    names = ("session", "version", "rows", "log_loss", "naive", "naive_log_loss", "input_drift")
    return pl.DataFrame(rows, schema=list(names), orient="row")


def drift_alert(rows: pl.DataFrame, figures: pl.DataFrame, now: datetime) -> Alert | None:
    """The alert where the inputs of the newest of `rows` (`BAR_SESSIONS`) have moved by INPUT_LIMIT or more; `figures`
    are those of the table `drift`. None where they have not, or nothing is known."""
    newest = rows.sort("session").row(-1, named=True) if rows.height else {}
    moved_share = newest.get("input_drift")
    if moved_share is None or moved_share < INPUT_LIMIT:
        return None
    of_session = figures.filter(pl.col("session") == newest["session"]).sort("ks", descending=True).head(3)
    columns = ", ".join(f"{name} {ks:.2f}" for name, ks in of_session.select("column", "ks").iter_rows())
    text = (
        f"a tenth of the inputs has moved by {moved_share:.2f} (KS) or more, {INPUT_LIMIT:g} is the limit: {columns}; "
        f"the {RECENT_BARS} sessions to {newest['session']} against those that {newest['version']} learned from. A "
        "training makes a challenger of newer bars; see the table promotions"
    )
    return Alert(DRIFT_KEY, "the inputs of the bars have drifted", text, None, now)


def skill_alert(rows: pl.DataFrame, now: datetime, *, seed: int = 0) -> Alert | None:
    """The alert where the champion was surely worse than the best naive model over the newest RECENT_BARS of `rows`
    (`BAR_SESSIONS`) with labels: the 95 % interval of its lead, of whole days, lies below 0. None otherwise."""
    scored_rows = rows.drop_nulls(["log_loss", "naive_log_loss"]).sort("session").tail(RECENT_BARS)
    if scored_rows.height < RECENT_BARS:
        return None
    lead = (scored_rows["naive_log_loss"] - scored_rows["log_loss"]).to_numpy()
    span = block_bootstrap(lead, 1, seed, weights=scored_rows["rows"].cast(pl.Float64).to_numpy())
    if span is None or span[1] >= 0:
        return None
    text = (
        f"log-loss higher than that of {scored_rows['naive'][-1]} by {-float(lead.mean()):.4f} nats a session, lead "
        f"[{span[0]:.4f}, {span[1]:.4f}], over {scored_rows['session'][0]} to {scored_rows['session'][-1]}; expected a "
        "lead above 0. Look at bar_report; `stock-assets rollback bar_rnn` brings an earlier version back"
    )
    return Alert(SKILL_KEY, "the model in service is worse than the best naive one", text, None, now)
