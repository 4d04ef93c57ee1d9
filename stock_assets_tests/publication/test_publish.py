"""What a publication says is what the store holds, and every ticker that is left out is named with its reason."""

import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import MissingSessionsError, PublicationError, StockAssetsError, StoreBusyError
from stock_assets.files import TEMPORARY
from stock_assets.lifecycle.alert_book import OPEN_ALERTS
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.materialize.alerts import raise_alarm, resolve
from stock_assets.lifecycle.materialize.tidy import tidy
from stock_assets.market.calendar import calendar_of, trading_calendar
from stock_assets.pages import paper
from stock_assets.platform import Platform
from stock_assets.publication.layout import ALERTS, FOLDER, LEDGER, POINTER, path_of
from stock_assets.publication.materialize.compare import differing_rows, lost_sessions
from stock_assets.publication.materialize.publish import Published, facts_of, publish_sessions
from stock_assets.publication.materialize.verify import problems_of
from stock_assets.publication.read import Publication, as_of, open_publication, read_ledger
from stock_assets.publication.tables import MONITORING, PREDICTIONS_FILE
from stock_assets.settings import Settings
from stock_assets.storage.backup import make_backup
from stock_assets.storage.manifest import DATA
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.restore import restore
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.publication.markets import (
    LEFT_OUT,
    NOW,
    TICKERS,
    VERSIONS,
    label,
    market,
    predict,
    sessions_of,
    settings_of,
)
from stock_assets_tests.tables import rows_of

HOUR = timedelta(hours=1)


class Made(NamedTuple):
    """A market, its sessions, and what was published of them."""

    settings: Settings
    store: Warehouse
    sessions: tuple[date, ...]

    def publish(self, *sessions: date, hours: int = 0) -> Published:
        chosen = sessions or self.sessions
        return publish_sessions(self.store, self.settings, chosen, registry=NoRegistry(), now=NOW + hours * HOUR)

    @property
    def publication(self) -> Publication:
        publication = open_publication(self.settings.published)
        assert publication is not None
        return publication


@pytest.fixture
def made(tmp_path: Path) -> Made:
    settings, store = market(tmp_path)
    return Made(settings, store, sessions_of(settings, 30))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Published once; nobody changes it."""
    settings, store = market(tmp_path_factory.mktemp("market"))
    whole = Made(settings, store, sessions_of(settings, 30))
    whole.publish()
    return whole


def test_every_prediction_is_published_with_its_rank(whole: Made):
    session = whole.sessions[5]
    rows = whole.publication.predictions(session).filter(pl.col("status") == "predicted")
    stored = whole.store.read("predictions", session, session)
    assert set(rows.select("ticker", "model", "p_buy").iter_rows()) == set(
        stored.select("ticker", "model", "p_buy").iter_rows()
    )
    for model in VERSIONS:
        of_model = rows.filter(pl.col("model") == model)
        order = sorted(of_model.iter_rows(named=True), key=lambda row: (-row["score"], row["ticker"]))
        assert [row["rank"] for row in order] == list(range(1, len(order) + 1))
    assert rows.equals(rows.sort("ticker", "model"))
    assert differing_rows(whole.store, whole.publication, whole.sessions).is_empty()


def test_who_is_left_out_is_named_with_a_plain_reason(whole: Made):
    rows = whole.publication.predictions(whole.sessions[-1]).filter(pl.col("status") == "left_out")
    assert rows["ticker"].to_list() == sorted(LEFT_OUT)
    assert rows.select(PREDICTIONS_FILE.names[1:9]).null_count().row(0) == (len(LEFT_OUT),) * 8
    reasons = dict(rows.select("ticker", "reason").iter_rows())
    assert reasons["HALT"] == "no_bar: halted, no bar since 2018-11-30"
    assert reasons["SUSP"] == "suspect: absurd_return"
    assert reasons["LEFT"].startswith("no_member: ")
    assert reasons["NEWB"].startswith("missing_history: too few bars")
    assert reasons["SHRT"].startswith("missing_history: fewer than ")
    assert set(whole.publication.monitoring("sessions")["left_out"]) == {len(LEFT_OUT)}


def test_bars_name_the_company_and_outcomes_say_what_scores(whole: Made):
    publication = whole.publication
    bar = publication.bars(whole.sessions[0]).filter(pl.col("ticker") == "SUSP").row(0, named=True)
    assert (bar["name"], bar["sector"], bar["suspect"]) == ("SUSP <b>Inc.</b>", "R&D", "absurd_return")
    outcomes = publication.outcomes(whole.sessions[0])
    assert dict(outcomes.select("ticker", "usable").iter_rows()) == dict.fromkeys(TICKERS, True) | {"SUSP": False}
    assert publication.outcomes(whole.sessions[-1]).is_empty(), "its labels are not known yet"


def test_every_monitoring_table_is_there_but_what_dagster_alone_knows_and_an_account_that_there_is_none_of(whole: Made):
    tables = {name: whole.publication.monitoring(name) for name in MONITORING}
    assert {name for name, rows in tables.items() if rows.schema != MONITORING[name].schema} == set()
    named = whole.publication.pointer.files["monitoring"]
    of_side_inputs = {"announcements", "known_lags"}  # this market has none
    assert set(named) == set(MONITORING) - {"failures", "checks", *of_side_inputs, *paper.TABLES}


def test_expected_log_loss_and_rank_ic_are_those_of_the_rows(whole: Made):
    session = whole.sessions[3]
    rows = whole.publication.predictions(session).filter(pl.col("model") == "rnn")
    p = rows.select("p_sell", "p_hold", "p_buy").to_numpy()
    row = whole.publication.monitoring("sessions").filter(pl.col("session") == session).row(0, named=True)
    assert row["expected_log_loss"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean())
    assert row["rank_ic"] is None, "every return of the session is the same"


def test_rolling_skill_has_an_interval_once_there_are_enough_sessions(whole: Made):
    skill = whole.publication.monitoring("rolling_skill").filter(pl.col("model") == "rnn")
    assert skill.height == 30
    assert skill["low"].null_count() == 20
    assert skill["low"].drop_nulls().to_list() == pytest.approx([1.0] * 10)


def test_a_card_says_what_the_version_is_and_what_it_does_not_know(whole: Made):
    card = whole.publication.card(VERSIONS["rnn"])
    assert card is not None
    assert (card["model"], card["trained_through"], card["training"]["first"]) == ("rnn", "2018-12-31", "2018-01-02")
    assert any("volatility" in limit for limit in card["limits"])
    assert "simulated" in card["limits"][0]
    assert card["run"] is None
    ensemble = whole.publication.card(VERSIONS["ensemble"])
    assert ensemble is not None
    assert [member["member"] for member in ensemble["members"]] == ["rnn"]
    assert whole.publication.card("prior-1") is None, "no table of trained models has it"


def test_the_store_records_what_is_published(whole: Made):
    rows = whole.store.read("publication").sort("session")
    entry = whole.publication.pointer.entry
    assert rows["session"].to_list() == list(whole.sessions)
    assert set(rows["entry"]) == {entry}
    assert dict(zip(map(str, rows["session"]), rows["digest"], strict=True)) == dict(
        whole.publication.pointer.files["predictions"]
    )
    assert set(rows["rows"]) == {whole.publication.predictions(whole.sessions[0]).height}
    assert len(read_ledger(whole.settings.published)) == 1, "a range is one entry"


def test_publishing_the_same_again_adds_nothing(made: Made):
    made.publish()
    files = {path: path.read_bytes() for path in made.settings.published.rglob("*") if path.is_file()}
    rows = made.store.read("publication")
    made.publish(hours=1)
    made.publish(made.sessions[-1], hours=2)
    assert {path: path.read_bytes() for path in made.settings.published.rglob("*") if path.is_file()} == files
    assert made.store.read("publication").sort("session").equals(rows.sort("session"))


def test_a_session_that_is_predicted_again_is_published_beside_the_first(made: Made):
    session = made.sessions[-1]
    first = made.publish().pointer
    before = made.publication.predictions(session)
    predict(made.store, [session], seed=1)
    second = made.publish(session, hours=1).pointer
    assert not made.publication.predictions(session).equals(before)
    entry = read_ledger(made.settings.published)[-1]
    assert (entry.reason, entry.previous) == (f"{session} predicted again", first.entry)
    assert set(entry.files["predictions"]) == {str(session)}
    earlier = as_of(made.publication, read_ledger(made.settings.published), NOW)
    assert earlier is not None
    assert earlier.predictions(session).equals(before)
    rows = dict(made.store.read("publication").select("session", "entry").iter_rows())
    assert rows[session] == second.entry
    assert {rows[day] for day in made.sessions[:-1]} == {first.entry}


def test_the_front_door_gives_what_was_said_and_when(made: Made):
    session, p = made.sessions[-1], Platform(made.settings)
    with pytest.raises(StockAssetsError, match="nothing is published"):
        p.published()
    made.publish()
    first = p.published()
    assert first.equals(made.publication.predictions(session))
    predict(made.store, [session], seed=1)
    made.publish(session, hours=2)
    assert not p.published(str(session)).equals(first)
    assert p.published(session, as_of=NOW + HOUR).equals(first)
    with pytest.raises(StockAssetsError, match="nothing was, at 2019-01-01T00:00Z, published"):
        p.published(as_of="2019-01-01T00:00Z")
    with pytest.raises(StockAssetsError, match="2019-05-01 is not published; 30 sessions from 2019-01-02 to"):
        p.published("2019-05-01")


def test_labels_that_appear_later_are_published_with_the_next_session(made: Made):
    made.publish(*made.sessions[:-1])
    late = made.sessions[-made.settings.horizon]
    label(made.store, [late])
    assert made.publication.outcomes(late).is_empty()
    made.publish(made.sessions[-1], hours=1)
    assert made.publication.outcomes(late).height == len(TICKERS) + 1
    assert made.publication.predictions(made.sessions[-1]).height


def test_a_session_without_predictions_is_not_published(made: Made):
    with pytest.raises(MissingSessionsError, match="publication"):
        made.publish(date(2019, 5, 1))
    assert not made.settings.published.exists()


def test_a_probability_that_is_not_finite_stops_the_publication_and_the_old_one_stays(made: Made):
    before = made.publish().pointer
    session = made.sessions[-1]
    rows = made.store.read("predictions", session, session).with_columns(p_buy=pl.lit(float("inf")))
    made.store.replace_sessions("predictions", [session], rows)
    with pytest.raises(PublicationError, match=f"predictions {session} holds .* p_buy that are not finite"):
        made.publish(session, hours=1)
    assert made.publication.pointer == before


def test_a_suspect_bar_with_a_figure_that_is_none_is_published_without_it(made: Made):
    session = made.sessions[-1]
    bars = made.store.read("daily_bars", session, session)
    suspect = pl.col("ticker") == "SUSP"
    made.store.replace_sessions(
        "daily_bars", [session], bars.with_columns(volume=pl.when(suspect).then(float("nan")).otherwise("volume"))
    )
    made.publish()
    volumes = dict(made.publication.bars(session).select("ticker", "volume").iter_rows())
    assert (volumes["SUSP"], volumes["AAA"]) == (None, 10.0)


# ---------------------------------------------------------------- what is lost


def test_files_that_are_gone_are_lost_and_published_again(made: Made):
    pointer = made.publish().pointer
    sessions = {str(session) for session in made.sessions}
    folder, first, newest = made.settings.published, str(made.sessions[0]), str(made.sessions[-1])
    assert lost_sessions(folder, sessions) == frozenset()
    bars = folder / path_of("bars", first, pointer.files["bars"][first])
    content = bars.read_bytes()
    bars.unlink()
    assert lost_sessions(folder, sessions) == {first}
    (folder / path_of("cards", VERSIONS["rnn"], pointer.files["cards"][VERSIONS["rnn"]])).unlink()
    assert lost_sessions(folder, sessions) == {first, newest}
    made.publish(made.sessions[0], made.sessions[-1], hours=1)
    assert lost_sessions(folder, sessions) == frozenset()
    assert bars.read_bytes() == content
    assert made.publication.pointer == pointer, "the same was published"


def test_a_damaged_file_is_written_again(made: Made):
    pointer = made.publish().pointer
    newest = str(made.sessions[-1])
    file = made.settings.published / path_of("predictions", newest, pointer.files["predictions"][newest])
    file.write_bytes(file.read_bytes()[:-5] + b"?????")
    with pytest.raises(PublicationError, match=file.name):
        made.publication.predictions(made.sessions[-1])
    made.publish(made.sessions[-1], hours=1)
    assert differing_rows(made.store, made.publication, made.sessions).is_empty()


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_pointer_that_is_lost_or_damaged_is_made_again_of_the_ledger(made: Made, content: bytes | None):
    first = made.publish(*made.sessions[:-1]).pointer
    pointer = made.settings.published / POINTER
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)
    assert lost_sessions(made.settings.published, ["2019-01-02"]) == {"2019-01-02"}
    made.publish(made.sessions[-1], hours=1)
    publication = made.publication
    assert publication.pointer.sessions == made.sessions
    assert [entry.previous for entry in read_ledger(made.settings.published)] == [None, first.entry]


def test_a_folder_that_is_gone_is_published_again(made: Made):
    made.publish()
    before = {path.name for path in made.settings.published.rglob("*.parquet")}
    made.settings.published.rename(made.settings.published.with_name("gone"))
    assert lost_sessions(made.settings.published, ["2019-01-02"]) == {"2019-01-02"}
    made.publish(hours=1)
    assert {path.name for path in made.settings.published.rglob("*.parquet")} == before


def test_verify_names_what_is_lost_or_damaged_of_all_that_was_ever_said(made: Made):
    made.publish()
    predict(made.store, [made.sessions[-1]], seed=1)
    newest = made.publish(made.sessions[-1], hours=1).pointer
    data, folder = made.settings.data_dir, made.settings.published
    assert list(problems_of(data)) == []
    oldest, *_ = read_ledger(folder)
    session, first = str(made.sessions[-1]), str(made.sessions[0])
    before = folder / path_of("predictions", session, oldest.files["predictions"][session])
    bars = folder / path_of("bars", first, newest.files["bars"][first])
    before.write_bytes(b"?" + before.read_bytes()[1:])
    bars.unlink()
    damaged, gone = sorted(problems_of(data), key=lambda line: "gone" in line or "cannot" in line)
    assert damaged.startswith(f"{before} is damaged")
    assert "restore it from a backup" in damaged
    assert gone == f"{bars} cannot be read: No such file or directory; publish again: materialize publication"
    (folder / LEDGER / f"{oldest.id}.json").unlink()
    assert any("what was said before it is not known" in line for line in problems_of(data))
    (folder / POINTER).unlink()
    lines = list(problems_of(data))
    assert any(line.startswith(f"{folder / POINTER} is gone") for line in lines)
    assert any("names 30 session(s), the first 2019-01-02" in line for line in lines)
    shutil.rmtree(folder)
    assert any("30 session(s)" in line for line in problems_of(data)), "a folder that is gone"


def test_a_backup_holds_what_is_published_once_and_gives_it_back(made: Made, tmp_path: Path):
    made.publish(*made.sessions[:-1])
    data, backups = made.settings.data_dir, tmp_path.with_name(f"{tmp_path.name}-backups")
    first = make_backup(data, backups, keep=2, now=NOW)
    made.publish(made.sessions[-1], hours=1)
    second = make_backup(data, backups, keep=2, now=NOW + HOUR)
    published = [name for name in second.manifest.files if name.startswith("published/")]
    assert "published/current.json" in published
    old = [name for name in published if name in first.manifest.files and "=" in name]
    assert old
    assert all((second.folder / DATA / name).samefile(first.folder / DATA / name) for name in old), "links, no copies"
    assert list(problems_of(second.folder / DATA)) == []
    restore(first.folder, tmp_path / "restored", now=NOW)
    before = as_of(made.publication, read_ledger(made.settings.published), NOW)
    restored = open_publication(tmp_path / "restored" / FOLDER)
    assert before is not None
    assert restored is not None
    assert restored.pointer.files == before.pointer.files
    assert list(problems_of(tmp_path / "restored")) == []
    shutil.rmtree(backups)


def test_tidying_removes_what_killed_writers_left_and_nothing_else(made: Made):
    made.publish()
    predict(made.store, [made.sessions[-1]], seed=1)
    made.publish(made.sessions[-1], hours=1)
    files = {path: path.read_bytes() for path in made.settings.published.rglob("*") if path.is_file()}
    leftover = made.settings.published / "bars" / f"{TEMPORARY}1-a.parquet"
    leftover.write_bytes(b"half")
    for hours, there in ((1, True), (48, False)):
        tidy(made.store, made.settings, NoRegistry(), now=datetime.now(UTC) + hours * HOUR)
        assert leftover.exists() is there
    assert {path: path.read_bytes() for path in made.settings.published.rglob("*") if path.is_file()} == files


# ---------------------------------------------------------------- any tool


PAGE = Path(__file__).parents[2] / "docs" / "publication.md"


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
def test_the_examples_of_the_page_run(
    whole: Made, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in (("SOURCE", "simulated"), ("DATA_DIR", whole.settings.data_dir), ("CONFIG", "off")):
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", str(value))
    for name in ("START", "END", "FIRST_MODEL_YEAR"):
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", str(getattr(whole.settings, name.lower())))
    own = example.replace("data/simulated/published", str(whole.settings.published))
    own = own.replace("2026-11-20", str(whole.sessions[0])).replace("2026-11-21T09:00Z", (NOW + HOUR).isoformat())
    exec(compile(own, str(PAGE), "exec"), {})
    shown = capsys.readouterr().out
    expected = {
        "strongest": str(whole.sessions[-1]),
        "duckdb": "ticker_prior",
        "pandas": "HALT",
        "moment": "30 sessions",
    }
    assert all(text in shown for word, text in expected.items() if word in example)


# ---------------------------------------------------------------- the open alerts


def test_the_open_alerts_follow_the_book_while_the_store_is_busy(made: Made, monkeypatch: pytest.MonkeyPatch):
    assert f"{FOLDER}/{ALERTS}" == OPEN_ALERTS
    file = made.settings.published / ALERTS

    def busy(*_: object) -> None:
        raise StoreBusyError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "write", busy)
        said = raise_alarm(made.store, [], Alert("late", "<late>", "text", "run-1", NOW), now=NOW)
        assert "its row follows" in said
        (alert,) = json.loads(file.read_text())["alerts"]
    assert (alert["key"], alert["title"], alert["run_id"], alert["resolved_at"]) == ("late", "<late>", "run-1", None)
    assert alert["first_at"] == alert["last_at"] == NOW.isoformat()
    resolve(made.store, "late", now=NOW + HOUR)
    (alert,) = json.loads(file.read_text())["alerts"]
    assert alert["resolved_at"] == (NOW + HOUR).isoformat()
    raise_alarm(made.store, [], Alert("other", "title", "text", None, NOW), now=NOW + timedelta(days=8))
    assert [alert["key"] for alert in json.loads(file.read_text())["alerts"]] == ["other"], "a week later"
    file.unlink()
    made.publish(hours=24 * 8)
    assert len(json.loads(file.read_text())["alerts"]) == 1, "a publication makes a lost one again"


def test_the_ledger_is_read_up_to_the_entry_that_was_pointed_to(made: Made):
    made.publish(*made.sessions[:-1])
    orphan = made.settings.published / LEDGER / "99990101T000000.000000Z-00000000.json"
    entry = read_ledger(made.settings.published)[0]
    orphan.write_text(entry.text().replace(entry.id, orphan.stem))
    made.publish(made.sessions[-1], hours=1)
    assert orphan.stem not in made.publication.pointer.entry
    assert rows_of("publication", made.store.read("publication"))["entry"].n_unique() == 2


@pytest.mark.parametrize(
    ("exchange", "hours", "zone"),
    [
        ("XNYS", None, "America/New_York"),
        ("XTKS", None, "Asia/Tokyo"),
        ("XLON", None, "Europe/London"),
        ("24/7", None, "UTC"),
        ("24/7", "17:00-17:00 America/New_York", "America/New_York"),
    ],
)
def test_a_publication_names_the_exchanges_own_time_zone(tmp_path: Path, exchange: str, hours: str | None, zone: str):
    config = settings_of(tmp_path, exchange=exchange, session_hours=hours)
    for _ in range(2):  # computed, and read again from the file beside the store
        trading_calendar.cache_clear()
        calendar = calendar_of(config)
        assert facts_of(config, [calendar.sessions[8]], None).zone == zone
