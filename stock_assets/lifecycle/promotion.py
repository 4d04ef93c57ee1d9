"""Champion and challenger: which version of a model serves a session, and when another takes its place.

The history of promotions is a table that only grows. It says everything: who serves a session follows from it
and from the versions that are trained, so a prediction can be made again years later by the version that made
it first. The alias `champion` of the model registry is its mirror, and the way a person asks for another one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from typing import Literal

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap
from stock_assets.frames import PROBABILITIES, SMALLEST_PROBABILITY

#: Nats of log-loss by which a challenger has to be better: a sixth of what `rnn` is ahead of logistic regression
#: (README). Less is not worth another version in service, however sure it is.
MARGIN = 0.002
#: Fewer sessions than a month say nothing.
SMALLEST_WINDOW = BLOCK
#: A window holds at least so many blocks: one block as long as the window, drawn in a circle, has the window's own
#: mean whatever is drawn, and an interval without width.
BLOCKS = 3
#: A challenger that leaves out more of the champion's rows than the rest is no replacement.
COVERAGE = 0.95

#: The columns of the table `promotions`.
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "model": pl.String,
    "version": pl.String,
    "model_year": pl.Int32,
    "serves_from": pl.Date,
    "decided_at": pl.Datetime("us", "UTC"),
    "outcome": pl.String,
    "kind": pl.String,
    "replaced": pl.String,
    "window_first": pl.Date,
    "window_last": pl.Date,
    "sessions": pl.Int64,
    "rows": pl.Int64,
    "improvement": pl.Float64,
    "improvement_low": pl.Float64,
    "improvement_high": pl.Float64,
    "margin": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger takes the champion's place, in one sentence and in figures.

    `improvement` is the champion's mean log-loss less the challenger's, in nats, with its 95 % interval `low` to
    `high`; None, as the window, where there was nothing to compare.
    """

    promote: bool
    reason: str
    window_first: date | None
    window_last: date | None
    sessions: int
    rows: int
    improvement: float | None
    low: float | None
    high: float | None
    margin: float


@dataclass(frozen=True)
class Promotion:
    """One row of `promotions`: what was decided about a version, when, and from which session on it holds.

    `outcome` is champion or challenger; `kind` says who decided: a comparison (judged), a person who went back
    (rollback) or moved the alias (alias). `replaced` served before; a challenger was compared with it.
    """

    model: str
    version: str
    model_year: int
    serves_from: date
    decided_at: datetime
    outcome: Literal["champion", "challenger"]
    kind: Literal["judged", "rollback", "alias"]
    replaced: str | None
    reason: str
    verdict: Verdict | None = None


def judge(
    champion: pl.DataFrame, challenger: pl.DataFrame, labels: pl.DataFrame, margin: float = MARGIN, seed: int = 0
) -> Verdict:
    """Whether `challenger` is promoted: its mean log-loss is at least `margin` nats lower, and surely lower.

    Both are predictions (ticker, session, p_sell, p_hold, p_buy) of one recent window that neither was trained on;
    `labels` (ticker, session, label -1, 0 or 1) are usable ones. Compared are the rows with a label that both
    answer. The 95 % interval of the improvement is that of paired day blocks (`block_bootstrap`): as long as those
    of every other score, or a third of a shorter window; its lower end has to be above zero.

    A challenger whose probabilities are improper anywhere, one that leaves rows out, and a window of less than a
    month stay a challenger. Raises StockAssetsError for improper probabilities of the champion and for a row that
    comes twice.
    """
    for name, rows in (("champion", champion), ("challenger", challenger), ("labels", labels)):
        _require_once(name, rows)
    if said := _improper(champion):
        raise StockAssetsError(f"the champion cannot be compared with: {said}")
    known = labels.select("ticker", "session", "label")
    ours = champion.join(known, on=["ticker", "session"])
    both = (
        ours.join(challenger, on=["ticker", "session"], suffix="_new")
        .with_columns(gain=_surprise("") - _surprise("_new"))
        .sort("session", "ticker")
    )
    daily = both.group_by("session", maintain_order=True).agg(pl.col("gain").mean(), pl.len().cast(pl.Float64))
    first, last = (daily["session"][0], daily["session"][-1]) if daily.height else (None, None)

    def verdict(promote: bool, reason: str, *figures: float) -> Verdict:
        said = f"{'promoted' if promote else 'stays challenger'}: {reason}"
        improvement, low, high = figures or (None, None, None)
        return Verdict(promote, said, first, last, daily.height, both.height, improvement, low, high, margin)

    if said := _improper(challenger):
        return verdict(False, said)
    if daily.height < SMALLEST_WINDOW:
        return verdict(
            False, f"{daily.height} session(s) with labels that both answer; at least {SMALLEST_WINDOW} are needed"
        )
    if both.height < COVERAGE * ours.height:
        return verdict(
            False, f"it answers {both.height} of the champion's {ours.height} rows; at least {COVERAGE:.0%} are needed"
        )
    gains, weights = daily["gain"].to_numpy(), daily["len"].to_numpy()
    improvement = float(np.average(gains, weights=weights))
    interval = block_bootstrap(gains, min(BLOCK, daily.height // BLOCKS), seed, weights=weights)
    assert interval is not None  # there are sessions
    low, high = interval
    better = "lower" if improvement >= 0 else "higher"
    reason = (
        f"log-loss {better} by {abs(improvement):.4f} nats, improvement [{low:.4f}, {high:.4f}] on {daily.height} "
        f"sessions, {first} to {last}, {both.height} rows; asked for are {margin:g} and an interval above 0"
    )
    return verdict(improvement >= margin and low > 0, reason, improvement, low, high)


def promotion_rows(promotions: Sequence[Promotion]) -> pl.DataFrame:
    """The rows of the table `promotions`, with the columns of SCHEMA."""
    rows = []
    for promotion in promotions:
        row = {field.name: getattr(promotion, field.name) for field in fields(promotion) if field.name != "verdict"}
        if promotion.verdict is not None:
            judged = asdict(promotion.verdict)
            row |= {"improvement_low": judged.pop("low"), "improvement_high": judged.pop("high")}
            row |= {name: judged[name] for name in SCHEMA if name in judged and name not in row}
        rows.append({name: row.get(name) for name in SCHEMA})
    return pl.DataFrame(rows, schema=SCHEMA)


def serving(promotions: pl.DataFrame, trained: pl.DataFrame, model: str, session: date) -> str:
    """The version of `model` that serves `session`. Parameters and errors as `champions`."""
    return champions(promotions, trained, model, [session])[session]


def champions(promotions: pl.DataFrame, trained: pl.DataFrame, model: str, sessions: Iterable[date]) -> dict[date, str]:
    """The version of `model` that serves each of `sessions`.

    Among the champions of the session's year that serve from it or earlier, the newest by (serves_from, decided_at);
    before the first of them the base, which is the version of the model year with the earliest cutoff. `promotions`
    has the columns of SCHEMA, `trained` is one row per version: model, model_year, version, trained_through.

    Raises ArtifactError for a session whose model year has neither.
    """
    histories: dict[int, list[dict]] = {}
    found = {}
    for session in sessions:
        year = session.year
        if year not in histories:
            histories[year] = champion_history(promotions, trained, model, year).to_dicts()
        before = [row["version"] for row in histories[year] if row["serves_from"] <= session]
        if not before:
            raise ArtifactError(
                f"{session} needs {model} of model year {year}, and no version of it is trained. Materialize model "
                f"year {year} first."
            )
        found[session] = before[-1]
    return found


def champion_history(promotions: pl.DataFrame, trained: pl.DataFrame, model: str, year: int) -> pl.DataFrame:
    """Who served, or would have, from when on: version, serves_from, decided_at, kind, reason; ascending, one row per
    day of change. The first is the base, of kind `base`, which serves from 1 January and was decided by nobody."""
    rows = pl.DataFrame(_succession(promotions, trained, model, year), schema=_HISTORY)
    return rows.unique("serves_from", keep="last", maintain_order=True)


def previous_champion(promotions: pl.DataFrame, trained: pl.DataFrame, model: str, year: int) -> str | None:
    """The version that the newest champion of the year replaced; None where that is the first.

    A rollback takes back what came after the version it returns to. So a second one goes further back, not forth.
    """
    stack: list[str] = []
    for row in _succession(promotions, trained, model, year):
        if row["kind"] == "rollback" and row["version"] in stack:
            del stack[stack.index(row["version"]) + 1 :]
        elif stack[-1:] != [row["version"]]:
            stack.append(row["version"])
    return stack[-2] if len(stack) > 1 else None


def reconcile(
    champion_alias: str | None, serving_alias: str | None, table_version: str
) -> Literal["agree", "follow", "repair"]:
    """What to do about the alias `champion` of a model when the table says that `table_version` serves next.

    The table is written first, then the alias `champion`, and last the alias `serving`, which nobody moves but us: it
    is where we left `champion`. Hence, where `champion` is not what the table says:

    - `champion` is elsewhere than `serving`: a person moved it in the registry, and the table has to follow;
    - both are the same: nobody touched it. Our own change was cut off after the table, or another model year has
      begun; the aliases are repaired. So they are where there is no alias yet.

    Where `champion` is what the table says and `serving` is not, we were cut off between the two: repair.
    """
    if champion_alias == table_version:
        return "agree" if serving_alias == table_version else "repair"
    return "repair" if champion_alias in (None, serving_alias) else "follow"


_HISTORY = {name: SCHEMA[name] for name in ("version", "serves_from", "decided_at", "kind", "reason")}


def _succession(promotions: pl.DataFrame, trained: pl.DataFrame, model: str, year: int) -> list[dict]:
    """The base, then every champion of the year by (serves_from, decided_at), also those that never got to serve."""
    of_year = (pl.col("model") == model) & (pl.col("model_year") == year)
    base = trained.filter(of_year).sort("trained_through", "version").head(1)
    first = [
        {
            "version": row["version"],
            "serves_from": date(year, 1, 1),
            "decided_at": None,
            "kind": "base",
            "reason": f"the first version of model year {year}, trained through {row['trained_through']}",
        }
        for row in base.iter_rows(named=True)
    ]
    later = promotions.filter(of_year & (pl.col("outcome") == "champion")).sort("serves_from", "decided_at")
    return first + later.select(list(_HISTORY)).to_dicts()


def _surprise(suffix: str) -> pl.Expr:
    """-ln p(label) in nats, cut as in `log_loss`."""
    p_sell, p_hold, p_buy = (pl.col(f"{name}{suffix}") for name in PROBABILITIES)
    label = pl.col("label")
    of_label = pl.when(label == -1).then(p_sell).when(label == 0).then(p_hold).otherwise(p_buy)
    return -of_label.cast(pl.Float64).clip(lower_bound=SMALLEST_PROBABILITY).log()


def _improper(predictions: pl.DataFrame) -> str | None:
    """A sentence about the rows whose probabilities are not finite, negative, or do not sum to 1; None without one."""
    finite = pl.all_horizontal(pl.col(p).is_finite() & (pl.col(p) >= 0) for p in PROBABILITIES).fill_null(False)
    wrong = predictions.filter(~finite | ((pl.sum_horizontal(PROBABILITIES) - 1).abs() > 1e-6))
    if wrong.is_empty():
        return None
    row = wrong.sort("session", "ticker").row(0, named=True)
    shown = ", ".join(f"{p} {row[p]}" for p in PROBABILITIES)
    return f"{wrong.height} row(s) hold no probabilities that sum to 1, {row['ticker']} at {row['session']}: {shown}"


def _require_once(name: str, rows: pl.DataFrame) -> None:
    twice = rows.group_by("ticker", "session").len().filter(pl.col("len") > 1).sort("session", "ticker")
    if not twice.is_empty():
        ticker, session, times = twice.row(0)
        raise StockAssetsError(f"{times} rows of {ticker} at {session} in {name}; expected one per ticker and session")
