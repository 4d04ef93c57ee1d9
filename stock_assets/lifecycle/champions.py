"""Champion and challenger: which version of a model serves a session, and when another takes its place.

Every model has versions. The *base version* of a model year is the one with the earliest cutoff; it serves the year
until the table `promotions` names another *champion*. A version that was trained within the year is a *challenger*: it
is judged once against the champion. `promotions` only grows, and the champion of every session follows from it and from
the trained versions alone, so old predictions can be made again by the version that made them first.
The alias `champion` of the model registry mirrors the table. A person who moves it asks for another champion.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap
from stock_assets.frames import KEYS, PROBABILITIES, improper, repeated, surprise
from stock_assets.lifecycle.tables import PROMOTIONS

#: Aliases in the model registry. A person moves CHAMPION_ALIAS to have another version serve. MIRROR_ALIAS is moved by
#: this code alone and stands where this code left CHAMPION_ALIAS. CHALLENGER_ALIAS is the newest version that was
#: judged and does not serve.
CHAMPION_ALIAS, MIRROR_ALIAS, CHALLENGER_ALIAS = "champion", "serving", "challenger"

#: Nats of log-loss by which a challenger has to be better: a sixth of what `rnn` is ahead of logistic regression
#: (README). A smaller gain is not worth another version in service, however certain it is.
MARGIN = 0.002
#: Sessions that a comparison needs: a month.
SMALLEST_WINDOW = BLOCK
#: A window holds at least so many blocks: one block as long as the window, drawn in a circle, has the window's own
#: mean whatever is drawn, and an interval without width.
BLOCKS = 3
#: The model year of every version of a model of bars within the session: these have no model years, and it begins
#: before every session.
BAR_YEAR = date.min.year
#: A challenger that predicts a smaller share of the champion's rows is no replacement.
COVERAGE = 0.95


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger replaces the champion, in one sentence and in figures.

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

    `outcome` is champion or challenger. `kind` names what decided: a comparison (judged), a person's rollback
    (rollback) or a person who moved the alias (alias). `replaced` served before; a challenger was compared with it.
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


@dataclass(frozen=True)
class Window:
    """What a comparison looks at."""

    keys: Sequence[str] = tuple(KEYS)
    """what names a row of predictions and labels"""
    smallest: int = SMALLEST_WINDOW
    """sessions that it needs"""
    block: int = BLOCK
    """sessions of a block of the bootstrap at most"""


OF_DAYS = Window()


def judge(
    champion: pl.DataFrame,
    challenger: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    margin: float = MARGIN,
    seed: int = 0,
    window: Window = OF_DAYS,
) -> Verdict:
    """Whether `challenger` is promoted: its mean log-loss is at least `margin` nats lower, and surely lower.

    Both are predictions (ticker, session, p_sell, p_hold, p_buy) of one recent window that neither was trained on;
    `labels` (ticker, session, label -1, 0 or 1) are usable ones. Only rows that have a label and a prediction of both
    are compared. The 95 % interval of the improvement is that of paired day blocks (`block_bootstrap`). A block is as
    long as in every other score, or a third of a shorter window. The lower end of the interval has to be above zero.

    At intervals below a day `window` names the rows by their bar as well.

    A challenger with improper probabilities or with too few rows stays a challenger, and so does every challenger on a
    window of fewer sessions than the smallest. Raises StockAssetsError for improper probabilities of the champion and
    for a repeated row.
    """
    for name, rows in (("champion", champion), ("challenger", challenger), ("labels", labels)):
        _require_unique(name, rows, window.keys)
    if problem := _improper(champion):
        raise StockAssetsError(f"the champion cannot be compared with: {problem}")
    of_champion = champion.join(labels.select(*window.keys, "label"), on=window.keys)
    of_both = (
        of_champion.join(challenger, on=window.keys, suffix="_new")
        .with_columns(gain=surprise() - surprise("_new"))
        .sort("session", "ticker")
    )
    daily = of_both.group_by("session", maintain_order=True).agg(pl.col("gain").mean(), pl.len().cast(pl.Float64))
    first, last = (daily["session"][0], daily["session"][-1]) if daily.height else (None, None)

    def verdict(promote: bool, reason: str, *figures: float) -> Verdict:
        sentence = f"{'promoted' if promote else 'stays challenger'}: {reason}"
        improvement, low, high = figures or (None, None, None)
        return Verdict(promote, sentence, first, last, daily.height, of_both.height, improvement, low, high, margin)

    if problem := _improper(challenger) or _too_few(
        daily.height, of_both.height, of_champion.height, smallest=window.smallest
    ):
        return verdict(False, problem)
    gains, weights = daily["gain"].to_numpy(), daily["len"].to_numpy()
    improvement = float(np.average(gains, weights=weights))
    interval = block_bootstrap(gains, min(window.block, daily.height // BLOCKS), seed, weights=weights)
    assert interval is not None  # there are sessions
    low, high = interval
    better = "lower" if improvement >= 0 else "higher"
    reason = (
        f"log-loss {better} by {abs(improvement):.4f} nats, improvement [{low:.4f}, {high:.4f}] on {daily.height} "
        f"sessions, {first} to {last}, {of_both.height} rows; required are {margin:g} and an interval above 0"
    )
    return verdict(improvement >= margin and low > 0, reason, improvement, low, high)


def promotion_rows(promotions: Sequence[Promotion]) -> pl.DataFrame:
    """The rows of the table `promotions`."""
    rows = []
    for promotion in promotions:
        row = {field.name: getattr(promotion, field.name) for field in fields(promotion) if field.name != "verdict"}
        if promotion.verdict is not None:
            figures = asdict(promotion.verdict)
            row |= {"improvement_low": figures.pop("low"), "improvement_high": figures.pop("high")}
            row |= {name: figures[name] for name in PROMOTIONS.names if name in figures and name not in row}
        rows.append({name: row.get(name) for name in PROMOTIONS.names})
    return pl.DataFrame(rows, schema=PROMOTIONS.schema)


def champion_at(
    promotions: pl.DataFrame, versions: pl.DataFrame, model: str, *, session: date, year: int | None = None
) -> str:
    """The version of `model` that serves `session`. Parameters and errors as `champions_at`."""
    return champions_at(promotions, versions, model, sessions=[session], year=year)[session]


def champions_at(
    promotions: pl.DataFrame,
    versions: pl.DataFrame,
    model: str,
    *,
    sessions: Iterable[date],
    year: int | None = None,
) -> dict[date, str]:
    """The version of `model` that serves each of `sessions`.

    It is the newest, by (serves_from, decided_at), of the champions of the session's year that serve from the session
    or earlier, and the base version before the first of them. `promotions` is the table, `versions` has one row per
    version: model, model_year, version, trained_through. `year` is the model year of all `sessions` where it is not
    that of the calendar (BAR_YEAR).

    Raises ArtifactError for a session whose model year has neither.
    """
    histories: dict[int, list[dict]] = {}
    serving_versions = {}
    for session in sessions:
        model_year = session.year if year is None else year
        if model_year not in histories:
            histories[model_year] = champion_history(promotions, versions, model, year=model_year).to_dicts()
        before = [row["version"] for row in histories[model_year] if row["serves_from"] <= session]
        if not before:
            requirement = model if model_year == BAR_YEAR else f"{model} of model year {model_year}"
            raise ArtifactError(
                f"{session} needs {requirement}, and no version of it is trained. Materialize it first."
            )
        serving_versions[session] = before[-1]
    return serving_versions


def challengers_to_judge(
    promotions: pl.DataFrame, all_versions: pl.DataFrame, session: date
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(champion, challenger) of every model whose newest version is to be judged, as rows of `all_versions` by column.

    `all_versions` holds versions of the model year of `session`, by ascending cutoff. The base version of the year is
    never judged: it serves because the year has begun.
    """
    pairs = []
    for (model,), versions in all_versions.partition_by("model", as_dict=True, maintain_order=True).items():
        champion, newest = (
            champion_at(promotions, all_versions, str(model), session=session),
            versions.row(-1, named=True),
        )
        is_judged = promotions.filter(pl.col("version") == newest["version"]).height > 0
        if versions.height > 1 and newest["version"] != champion and not is_judged:
            pairs.append((versions.row(by_predicate=pl.col("version") == champion, named=True), newest))
    return pairs


def champion_history(promotions: pl.DataFrame, versions: pl.DataFrame, model: str, *, year: int) -> pl.DataFrame:
    """Every champion of the year: version, serves_from, decided_at, kind, reason; ascending, one row per day of change.

    The first row is the base version: its kind is `base`, it serves from 1 January, and its decided_at is null.
    Champions that were replaced before they served a session are included.
    """
    rows = pl.DataFrame(_succession(promotions, versions, model, year=year), schema=_HISTORY)
    return rows.unique("serves_from", keep="last", maintain_order=True)


def previous_champion(promotions: pl.DataFrame, versions: pl.DataFrame, model: str, *, year: int) -> str | None:
    """The version that the newest champion of the year replaced; None where that is the first.

    A rollback undoes every promotion after the version it returns to. So a second rollback goes further back and not
    forth again.
    """
    stack: list[str] = []
    for row in _succession(promotions, versions, model, year=year):
        if row["kind"] == "rollback" and row["version"] in stack:
            del stack[stack.index(row["version"]) + 1 :]
        elif stack[-1:] != [row["version"]]:
            stack.append(row["version"])
    return stack[-2] if len(stack) > 1 else None


def reconcile(
    champion_alias: str | None, mirror_alias: str | None, table_version: str
) -> Literal["agree", "follow", "repair"]:
    """What to do about the aliases of a model whose champion is `table_version` by the table `promotions`.

    This code writes the table first, then CHAMPION_ALIAS and last MIRROR_ALIAS, which no person moves. So, where
    CHAMPION_ALIAS names another version than the table:

    - and another than MIRROR_ALIAS: a person moved it, and the table has to follow;
    - and the same as MIRROR_ALIAS: nobody moved it. Either our own change was cut off after the table, or another model
      year has begun; the aliases are repaired. They are repaired too where there is no alias yet.

    Where CHAMPION_ALIAS names the table's version and MIRROR_ALIAS does not, we were cut off between the two: repair.

    >>> reconcile("rnn-b", "rnn-a", "rnn-a"), reconcile("rnn-a", "rnn-a", "rnn-b")
    ('follow', 'repair')
    """
    if champion_alias == table_version:
        return "agree" if mirror_alias == table_version else "repair"
    return "repair" if champion_alias in (None, mirror_alias) else "follow"


def decisions_from(
    promotions: pl.DataFrame, versions: pl.DataFrame, cause: Promotion, *, session: date
) -> list[Promotion]:
    """The decisions by which the version of `cause` serves `session` of its model year and every later one.

    There is one for `session` and one for each later day from which the table `promotions` has another version serve;
    none where that version serves anyway. Model, version, kind, moment and reason are those of `cause`. Parameters and
    errors as `champions_at`.
    """
    history = champion_history(promotions, versions, cause.model, year=cause.model_year)
    days = sorted({session, *history.filter(pl.col("serves_from") > session)["serves_from"]})
    serving = champions_at(promotions, versions, cause.model, sessions=days)
    return [
        replace(cause, serves_from=day, replaced=version)
        for day, version in serving.items()
        if version != cause.version
    ]


def after_all(history: pl.DataFrame, now: datetime) -> datetime:
    """`now`, or just after the newest decision where that is later: who waited for it decides after it."""
    newest = history["decided_at"].max()
    return max(now, newest + timedelta(microseconds=1)) if isinstance(newest, datetime) else now


_HISTORY = {name: PROMOTIONS.schema[name] for name in ("version", "serves_from", "decided_at", "kind", "reason")}


def _succession(promotions: pl.DataFrame, versions: pl.DataFrame, model: str, *, year: int) -> list[dict]:
    """The base version, then every champion of the year by (serves_from, decided_at), also those that never served."""
    of_year = (pl.col("model") == model) & (pl.col("model_year") == year)
    base = versions.filter(of_year).sort("trained_through", "version").head(1)
    first = [
        {
            "version": row["version"],
            "serves_from": date(year, 1, 1),
            "decided_at": None,
            "kind": "base",
            "reason": f"the first version{'' if year == BAR_YEAR else f' of model year {year}'}, trained through "
            f"{row['trained_through']}",
        }
        for row in base.iter_rows(named=True)
    ]
    later = promotions.filter(of_year & (pl.col("outcome") == "champion")).sort("serves_from", "decided_at")
    return first + later.select(list(_HISTORY)).to_dicts()


def _improper(predictions: pl.DataFrame) -> str | None:
    """A sentence about the rows with improper probabilities, None without one."""
    improper_rows = improper(predictions)
    if improper_rows.is_empty():
        return None
    row = improper_rows.sort("session", "ticker").row(0, named=True)
    probabilities = ", ".join(f"{p} {row[p]}" for p in PROBABILITIES)
    place = f"{row['ticker']} at {row['session']}"
    return f"{improper_rows.height} row(s) hold no probabilities that sum to 1, {place}: {probabilities}"


def _too_few(sessions: int, rows: int, rows_of_champion: int, *, smallest: int) -> str | None:
    """Why so few compared sessions or rows allow no promotion, None where there are enough."""
    if sessions < smallest:
        return f"{sessions} session(s) with labels that both predict; at least {smallest} are needed"
    if rows < COVERAGE * rows_of_champion:
        return f"it predicts {rows} of the champion's {rows_of_champion} rows; at least {COVERAGE:.0%} are needed"
    return None


def _require_unique(name: str, rows: pl.DataFrame, keys: Sequence[str]) -> None:
    twice = repeated(rows, sorted(keys, key=("session", "ticker", "bar_end").index))
    if not twice.is_empty():
        row = twice.row(0, named=True)
        raise StockAssetsError(
            f"{row['rows']} rows of {row['ticker']} at {row[keys[-1]]} in {name}; expected one per {' and '.join(keys)}"
        )
