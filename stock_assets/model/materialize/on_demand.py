"""The step that predicts one session by one trained version, whichever serves: nothing is stored."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from stock_assets.errors import MissingTableError, UnknownNameError
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import StoredInputs, inputs_for
from stock_assets.model.materialize.versions import (
    REFERENCES,
    TRAINED,
    VERSION_COLUMNS,
    Version,
    base_versions,
    ensemble,
    usable,
)
from stock_assets.model.registry import ENSEMBLE, MODELS, longest_lookback
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: What is kept while the store does not change: the inputs of the last sessions, and what versions predicted.
KEPT_INPUTS, KEPT_ANSWERS = 2, 64


@dataclass
class OnDemandPredictions:
    """What any trained version predicts for any stored session.

    The store is read briefly, as its writers wait meanwhile: a session's inputs once, until the file changes. A version
    answers for all tickers of the session at a time, since models read the means of the market.
    """

    store: Warehouse
    settings: Settings
    _stamp: object = None
    _inputs: dict[date, StoredInputs] = field(default_factory=dict)
    _answers: dict[tuple[str, date], pl.DataFrame] = field(default_factory=dict)

    def predict(self, ticker: str, session: date, version: str, *, now: datetime) -> dict[str, Any]:
        """The row that `version` predicts for `ticker` at `session`, by column of the table `predictions`; of a ticker
        that it does not predict the keys, the version and the `reason`.

        Raises UnknownNameError for a day that is no session or is not over at `now`, a version that was never trained
        and a ticker without any bar; CutoffError for a version trained through the session or later; ArtifactError for
        one that cannot read these inputs; MissingSessionsError for rows to be made first.
        """
        self._forget_changed()
        self._require_session(session, now)
        key = (version, session)
        if key not in self._answers:
            answers = self._predict(version, session)
            _keep(self._answers, key, answers, limit=KEPT_ANSWERS)
        rows = self._answers[key].filter(pl.col("ticker") == ticker)
        return rows.row(0, named=True) if rows.height else self._left_out(ticker, session, version)

    def _predict(self, version: str, session: date) -> pl.DataFrame:
        """What `version` predicts for the trusted tickers of `session`."""
        row = self._read_version(version)
        if row["model"] == ENSEMBLE:
            answers = self._of_ensemble(row, session)
        else:
            usable(row, session, row["pca_version"])  # a version from too late is refused before anything is read
            inputs = self._inputs_of(session)
            answers = usable(row, session, inputs.pca_version).predict(self.settings, inputs, [session])
        return answers.join(self._inputs_of(session).suspects, on=["ticker", "session"], how="anti")

    def _read_version(self, version: str) -> dict[str, Any]:
        """The row of a table of trained models that `version` is."""
        for table in (*TRAINED, REFERENCES):
            rows = self.store.read_or(pl.DataFrame(schema={"version": pl.String}), table)
            rows = rows.filter(pl.col("version") == version)
            if rows.height and rows["model"][0] in MODELS:
                return rows.select(VERSION_COLUMNS).row(0, named=True)
        weights = self._weights(version)
        if weights.height:
            return {"model": ENSEMBLE, "version": version, "model_year": weights["model_year"][0], "weights": weights}
        raise UnknownNameError(
            f"there is no trained version {version} of a registered model; `stock-assets models` lists versions",
            "version",
        )

    def _weights(self, version: str) -> pl.DataFrame:
        columns = ["model_year", "member", "weight", "version", "trained_through"]
        none = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        return self.store.read_or(none, "trained_ensemble", columns=columns).filter(pl.col("version") == version)

    def _of_ensemble(self, row: dict[str, Any], session: date) -> pl.DataFrame:
        """The mean of the members that predicted the session, or where none did, of the first versions of its year."""
        year, weights = row["model_year"], row["weights"]
        members = weights.filter(pl.col("weight") > 0)["member"].to_list()
        usable(
            {**row, "trained_through": weights["trained_through"][0], "pca_version": "", "artifact": ""}, session, ""
        )
        inputs = self._inputs_of(session)
        stored_rows = self.store.read_or(
            pl.DataFrame(schema={"model": pl.String, "model_version": pl.String}),
            "predictions",
            session,
            last=session,
            columns=["model", "model_version"],
        )
        names = dict(stored_rows.filter(pl.col("model").is_in(members)).unique("model").iter_rows())
        if set(names) == set(members):
            rows = [self._read_version(name) for name in names.values()]
            versions: list[Version] = [usable(row, session, inputs.pca_version) for row in rows]
        else:
            base = base_versions(self.store, year, session, pca_version=inputs.pca_version)
            versions = [version for version in base if version.model in members]
        answers = pl.concat([version.predict(self.settings, inputs, [session]) for version in versions])
        return ensemble(answers, weights)

    def _inputs_of(self, session: date) -> StoredInputs:
        if session not in self._inputs:
            inputs = inputs_for(self.store, self.settings, [session], needed_by="a prediction on demand")
            inputs.read_now()
            _keep(self._inputs, session, inputs, limit=KEPT_INPUTS)
        return self._inputs[session]

    def _require_session(self, session: date, now: datetime) -> None:
        calendar = calendar_of(self.settings)
        if not calendar.is_session(session):
            nearest_sessions = [*calendar.before(session, 1), *calendar.between(session, date.max)[:1]]
            raise UnknownNameError(
                f"{session} is no session of {calendar.name}; the nearest are "
                f"{' and '.join(map(str, nearest_sessions))}",
                "session",
            )
        if (close := calendar.closes.get(session) or calendar.day_over(session)) > now:
            text = f"the session {session} is not over yet: it closes at {close:%Y-%m-%d %H:%M} UTC"
            raise UnknownNameError(text, "later session")

    def _left_out(self, ticker: str, session: date, version: str) -> dict[str, Any]:
        """What there is of a ticker without a prediction. Raises UnknownNameError for one that never had a bar."""
        suspects = self._inputs_of(session).suspects
        suspect_bar = suspects.filter((pl.col("ticker") == ticker) & (pl.col("session") == session))
        if suspect_bar.height:
            reason = suspect_bar["suspect"][0]
        elif self._has_a_bar(ticker):
            reason = f"no bar of the session, or fewer than {longest_lookback()} feature rows"
        else:
            raise UnknownNameError(f"{ticker} is no ticker of this market: it has no bar", "ticker")
        return {"ticker": ticker, "session": session, "model_version": version, "reason": reason}

    def _has_a_bar(self, ticker: str) -> bool:
        try:
            statement = "SELECT ticker FROM daily_bars WHERE ticker = ? LIMIT 1"
            return self.store.read_sql("daily_bars", statement, [ticker]).height > 0
        except MissingTableError:
            return False

    def _forget_changed(self) -> None:
        """Drops what is kept once the store is another."""
        stamp = self.store.stamp()
        if stamp != self._stamp:
            self._inputs.clear()
            self._answers.clear()
            self._stamp = stamp


def _keep(cache: dict[Any, Any], key: Any, value: object, *, limit: int) -> None:
    """Adds to what is kept; the oldest goes."""
    while len(cache) >= limit:
        del cache[next(iter(cache))]
    cache[key] = value
