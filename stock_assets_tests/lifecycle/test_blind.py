"""The watchman without what he watches: a damaged store, one that is held, one that is gone; heartbeat and book."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from stock_assets.errors import AlertError
from stock_assets.files import aside
from stock_assets.lifecycle import alert_book
from stock_assets.lifecycle.alert_book import AlertBook
from stock_assets.lifecycle.alerts import AWAY, QUIET, Alert
from stock_assets.lifecycle.materialize.alerts import (
    copy_to_table,
    open_alerts,
    raise_alarm,
    read_records,
    send_pending,
    write_records,
)
from stock_assets.lifecycle.materialize.watch import Watched, watch
from stock_assets.lifecycle.watch import BLIND, Look, file_of, read_look
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.servers import listening
from stock_assets_tests.tables import rows_of
from stock_assets_tests.waiting import HANG_SECONDS

MONDAY = datetime(2019, 3, 4, 12, tzinfo=UTC)  # Friday is predicted, and nothing is late before Tuesday, 02:00
FRIDAY = date(2019, 3, 1)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ALERT = Alert("job/step/1", "labels failed", "too few bars", "run", MONDAY)


class Inbox:
    def __init__(self, name: str = "inbox", away: bool = False) -> None:
        self.name, self.away = name, away
        self.messages: list[Alert] = []

    def send(self, alert: Alert, repeated: int) -> None:  # noqa: ARG002
        if self.away:
            raise AlertError(f"{self.name} is away")
        self.messages.append(alert)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(source="simulated", start=date(2018, 1, 2), first_model_year=2019, data_dir=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Warehouse:
    """A store that is predicted through Friday."""
    store = Warehouse(settings.database, wait=0.05)
    store.append("predictions", rows_of("predictions", pl.DataFrame({"session": [FRIDAY], "ticker": ["SIM01"]})))
    return store


def damage(store: Warehouse) -> None:
    store.path.write_bytes(b"not a database" * 1000)


def remove(store: Warehouse) -> None:
    store.path.unlink()


def empty(store: Warehouse) -> None:
    """A new store stands in the place of the old one."""
    store.path.unlink()
    with store.connect(read_only=False):
        pass


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(damage, "cannot be read"), (remove, "is gone"), (empty, "holds no predictions any more")],
)
def test_a_store_that_cannot_be_looked_at_is_an_alert_after_the_grace_period(
    harm, reason: str, store: Warehouse, settings: Settings
):
    inbox = Inbox()

    def look(after: timedelta) -> Watched:
        return watch(store, settings, [inbox], now=MONDAY + after)

    assert look(timedelta(0)).state is not None
    before = store.path.read_bytes()
    harm(store)
    for minutes in (1, 60, 121):
        assert look(minutes * MINUTE).state is None
        assert inbox.messages == [], "within the grace period"
    look(122 * MINUTE)
    (alert,) = inbox.messages
    assert alert.key == BLIND
    assert reason in alert.text
    assert "predictions through 2019-03-01 were seen last, at 2019-03-04 12:00 UTC" in alert.text
    look(3 * HOUR)
    assert len(inbox.messages) == 1, "once a day"
    assert store.path.exists() == (harm is not remove), "nobody makes a store in the place of one that was lost"
    look(2 * HOUR + 2 * MINUTE + QUIET)
    assert len(inbox.messages) == 2
    store.path.write_bytes(before)
    seen = look(30 * HOUR)
    assert seen.state is not None
    assert "the store can be seen again" in seen.messages
    assert open_alerts(store) == []


def test_a_program_that_holds_the_store_for_writing_is_an_alert(store: Warehouse, settings: Settings):
    inbox = Inbox()
    watch(store, settings, [inbox], now=MONDAY)
    code = f"import duckdb, sys; c = duckdb.connect({str(store.path)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for after in (1 * MINUTE, 3 * HOUR):
            watch(store, settings, [inbox], now=MONDAY + after)
        holder.kill()
    (alert,) = inbox.messages
    assert "was locked by another process" in alert.text
    assert list(read_records(store)) == [], "its row waits"
    assert copy_to_table(store) == []
    assert [record.alert for record in read_records(store)] == [alert]


def test_a_damaged_file_of_the_look_is_told_and_made_again(store: Warehouse, settings: Settings):
    file_of(store.path).write_text("{")
    watched = watch(store, settings, [], now=MONDAY)
    assert "last_look.json is damaged" in watched.messages[0]
    assert read_look(file_of(store.path)) == Look(MONDAY, MONDAY, FRIDAY)


def test_the_cursor_remembers_what_the_file_has_lost(store: Warehouse, settings: Settings):
    store.path.unlink()
    inbox = Inbox()
    for after in (0 * HOUR, 3 * HOUR):
        watch(store, settings, [inbox], now=MONDAY + after, last_seen=FRIDAY)
    assert "is gone; 2019-03-01 was predicted" in inbox.messages[0].text


def test_a_new_installation_is_not_blind(settings: Settings):
    inbox = Inbox()
    for after in (0 * HOUR, 30 * HOUR):
        assert watch(Warehouse(settings.database), settings, [inbox], now=MONDAY + after).state is not None
    assert inbox.messages == []


# ---------------------------------------------------------------- the heartbeat


def test_a_good_look_is_a_heartbeat_and_a_late_session_a_bad_one(store: Warehouse, settings: Settings):
    with listening() as server:
        config = settings.model_copy(update={"heartbeat_url": f"{server.url}/uuid"})
        watch(store, config, [], now=MONDAY)
        watch(store, config, [], now=MONDAY + 2 * 24 * HOUR)
        damage(store)
        watch(store, config, [], now=MONDAY + 3 * 24 * HOUR)
        watch(store, config, [], now=MONDAY + 4 * 24 * HOUR)
    assert server.asked == ["GET /uuid", "GET /uuid/fail", "GET /uuid/fail"], "none within the grace period"


def test_a_heartbeat_that_is_not_taken_is_told_without_its_secret(store: Warehouse, settings: Settings):
    with listening(status=404) as server:
        config = settings.model_copy(update={"heartbeat_url": f"{server.url}/secret-uuid?key=hush"})
        (message,) = watch(store, config, [], now=MONDAY).messages
    assert message == f"the heartbeat was not taken: {server.url}/(hidden) answered 404; expected 2xx"


# ---------------------------------------------------------------- the book


def test_an_alert_waits_beside_a_busy_store_while_the_webhook_is_away(store: Warehouse):
    away = Inbox(away=True)
    with duckdb.connect(store.path):  # this process writes: nobody reads
        held = Warehouse(store.path, wait=0.05)
        said = raise_alarm(held, [away], ALERT, now=MONDAY)
        assert said.startswith("an alert waits for a channel, and is tried again; its row follows")
    away.away = False
    assert send_pending(store, [away], now=MONDAY + HOUR) == 1
    assert away.messages == [ALERT]
    copy_to_table(store)
    assert [(record.alert, record.sent_at) for record in read_records(store)] == [(ALERT, MONDAY + HOUR)]


def test_a_channel_that_took_it_is_not_asked_again_while_another_is_away(store: Warehouse):
    mail, hook = Inbox("mail"), Inbox("hook", away=True)
    raise_alarm(store, [mail, hook], ALERT, now=MONDAY)
    for minutes in range(1, 60):
        assert send_pending(store, [mail, hook], now=MONDAY + minutes * MINUTE) == 0
    hook.away = False
    assert send_pending(store, [mail, hook], now=MONDAY + HOUR) == 1
    assert (len(mail.messages), len(hook.messages)) == (1, 1)


def test_a_channel_that_is_away_is_asked_once_in_a_tick_and_keeps_no_other_alert_from_the_rest(store: Warehouse):
    asked: list[str] = []

    class Away(Inbox):
        def send(self, alert: Alert, repeated: int) -> None:
            asked.append(alert.key)
            super().send(alert, repeated)

    mail, hook = Inbox("mail"), Away("hook", away=True)
    for i in range(5):
        raise_alarm(store, [mail, hook], Alert(f"key {i}", "failed", "", None, MONDAY), now=MONDAY)
    assert (len(asked), len(mail.messages)) == (1, 5)
    send_pending(store, [mail, hook], now=MONDAY + AWAY)
    assert (len(asked), len(mail.messages)) == (2, 5)


def test_a_full_disk_neither_stops_an_alert_nor_repeats_it(store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    inbox = Inbox()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(alert_book, "write_file", full)
        raise_alarm(store, [inbox], ALERT, now=MONDAY)
        assert "kept quiet" in raise_alarm(store, [inbox], ALERT, now=MONDAY + HOUR)
        assert [record.count for record in open_alerts(store)] == [1]
    assert len(inbox.messages) == 1
    assert "kept quiet" in raise_alarm(store, [inbox], ALERT, now=MONDAY + 2 * HOUR)
    assert [record.count for record in AlertBook.beside(store.path).entries()[0:1] for record in [record.record]] == [2]


def test_a_damaged_file_of_the_book_is_put_aside(store: Warehouse):
    inbox = Inbox()
    raise_alarm(store, [inbox], ALERT, now=MONDAY)
    (file,) = AlertBook.beside(store.path).folder.glob("*.json")
    for content in (b"", b"{", b"[]", json.dumps({"key": 1}).encode()):
        file.write_bytes(content)
        assert open_alerts(store) == []
    raise_alarm(store, [inbox], ALERT, now=MONDAY)
    assert len(inbox.messages) == 2, "sent again rather than lost"


def test_a_file_of_the_book_that_is_being_written_is_neither_read_nor_put_aside(store: Warehouse):
    """Whoever shows the open alerts takes no lock."""
    raise_alarm(store, [Inbox()], ALERT, now=MONDAY)
    (file,) = AlertBook.beside(store.path).folder.glob("*.json")
    for content in (file.read_bytes(), file.read_bytes()[:20]):
        half = aside(file)
        half.write_bytes(content)
        assert [record.alert.key for record in open_alerts(store)] == [ALERT.key]
        assert half.read_bytes() == content


def test_what_an_earlier_version_kept_in_the_table_is_known(store: Warehouse):
    old = alert_book.Record(ALERT, first_at=MONDAY, sent_at=MONDAY, count=0)
    write_records(store, [old])
    inbox = Inbox()
    assert "kept quiet" in raise_alarm(store, [inbox], ALERT, now=MONDAY + HOUR)
    assert inbox.messages == []


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from stock_assets.lifecycle import alert_book
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.materialize.alerts import raise_alarm
from stock_assets.storage.warehouse import Warehouse

class Phone:
    name = "phone"
    def send(self, alert, repeated):
        with open(sys.argv[2], "a") as sent:
            sent.write("sent\\n")
        step()

left = int(sys.argv[3])
def step(*args):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

write = alert_book.write_file
def written(*args):
    step()
    write(*args)
    step()
alert_book.write_file = written
now = datetime(2019, 3, 4, 12, tzinfo=UTC)
raise_alarm(Warehouse(Path(sys.argv[1]), wait=0.1), [Phone()], Alert("key", "title", "text", None, now), now=now)
print("done")
"""


def test_an_alert_survives_a_kill_at_every_step_and_is_not_sent_again_once_that_is_known(tmp_path: Path):
    ends = []
    for step in range(1, 11):
        store, sent = Warehouse(tmp_path / str(step) / "store.duckdb"), tmp_path / f"sent {step}"
        with store.connect(read_only=False):
            pass
        command = [sys.executable, "-c", KILLED, str(store.path), str(sent), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ends.append(done.returncode)
        phone = Inbox("phone")
        before = sent.read_text().count("sent") if sent.exists() else 0
        raise_alarm(store, [phone], Alert("key", "title", "text", None, MONDAY + HOUR), now=MONDAY + HOUR)
        assert before + len(phone.messages) >= 1, f"lost at step {step}"
        assert before + len(phone.messages) <= (2 if step in (3, 4) else 1), f"repeated at step {step}"
    assert ends[0] == -signal.SIGKILL
    assert ends[-1] == 0, "every step was tried"


def test_two_processes_do_not_send_the_same_alert_twice(tmp_path: Path):
    from threading import Barrier, Thread

    store = Warehouse(tmp_path / "store.duckdb", wait=HANG_SECONDS)

    class Slow(Inbox):
        def send(self, alert: Alert, repeated: int) -> None:
            time.sleep(0.1)
            super().send(alert, repeated)

    inbox, barrier = Slow(), Barrier(4)

    def ring() -> None:
        barrier.wait()
        raise_alarm(store, [inbox], ALERT, now=MONDAY)

    threads = [Thread(target=ring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inbox.messages) == 1
    assert [record.count for record in open_alerts(store)] == [3]
