"""When an alert is sent, kept quiet, sent again; and what a webhook receives, refuses or never answers."""

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.errors import AlertError, MissingSessionsError
from stock_assets.lifecycle.alerts import (
    QUIET,
    Alert,
    LogChannel,
    Record,
    WebhookChannel,
    delivered,
    fingerprint,
    noted,
    sent_again,
    to_send,
)
from stock_assets_tests.waiting import until

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALERT = Alert("job/step/1", "daily_bars failed for 2026-03-03", "too few bars\nrun 1", "1", NOON)


def after(hours: float) -> Alert:
    return replace(ALERT, at=NOON + hours * HOUR)


@contextmanager
def webhook(status: int = 200, wait: float = 0.0) -> Iterator[tuple[str, list[dict]]]:
    """The address of a server that answers `status` after `wait` seconds, and what it is sent."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(wait)
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/secret-token", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Deaf:
    """A channel that nobody is behind."""

    name = "deaf"

    def send(self, alert: Alert, repeated: int) -> None:
        raise AlertError(f"nobody is there for {alert.key}, {repeated}")


class Heard:
    name = "heard"

    def __init__(self) -> None:
        self.messages: list[tuple[Alert, int]] = []

    def send(self, alert: Alert, repeated: int) -> None:
        self.messages.append((alert, repeated))


# ---------------------------------------------------------------- which trouble it is


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("SIM01 has no bar on 2026-03-03", "SIM02 has no bar on 2026-03-04"),
        ("run 6f1c2a7e-22aa-4a0c-9c53-1f0e39b8a0aa was killed", "run 0d9be2d1-77a1-41fe-8b2d-5e6a6bb0c111 was killed"),
        ("artifact deadbeef is gone", "artifact cafecafe is gone"),
        ("locked for more than 60 s", "locked for more than 3.5 s"),
        (
            str(MissingSessionsError("labels", "daily_bars", [NOON.date()])),
            str(MissingSessionsError("labels", "daily_bars", [(NOON + i * 24 * HOUR).date() for i in range(9)])),
        ),
    ],
)
def test_repetitions_of_one_trouble_have_one_key(one: str, same: str):
    assert fingerprint("job", "step", one) == fingerprint("job", "step", same)


def test_other_troubles_have_other_keys():
    keys = [
        fingerprint("job", "daily_bars", "no bar of AAPL"),
        fingerprint("job", "daily_bars", "no bar of MSFT"),
        fingerprint("job", "labels", "no bar of AAPL"),
        fingerprint("other", "daily_bars", "no bar of AAPL"),
        fingerprint("job", "daily_bars", "no bar of AAPL, again"),
    ]
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------- when it is told


def test_a_new_trouble_is_told_and_its_repetitions_only_counted():
    heard = Heard()
    record = delivered(noted(ALERT, None), [heard], NOON)
    assert (record.sent_at, record.count) == (NOON, 0)
    for hours in (1, 2, 3):
        assert not to_send(after(hours), record)
        record = noted(after(hours), record)
    assert record.count == 3
    assert to_send(after(24), record)
    record = delivered(noted(after(24), record), [heard], after(24).at)
    assert [(alert.at, repeated) for alert, repeated in heard.messages] == [(NOON, 0), (after(24).at, 3)]
    assert (record.first_at, record.sent_at, record.count) == (NOON, after(24).at, 0)


def test_what_was_over_is_told_at_once_when_it_returns():
    over = Record(ALERT, first_at=NOON, sent_at=NOON, count=2, resolved_at=NOON + HOUR)
    assert to_send(after(2), over)
    assert noted(after(2), over) == Record(after(2), first_at=after(2).at)


def test_what_no_channel_took_is_pending_until_one_does_or_the_trouble_is_over():
    record = delivered(noted(ALERT, None), [Deaf()], NOON)
    assert record.pending
    assert to_send(after(0.1), record)
    heard = Heard()
    sent = sent_again(record, [heard], NOON + HOUR)
    assert not sent.pending
    assert heard.messages == [(ALERT, 0)], "nothing was suppressed: nobody had been told"
    assert not replace(record, resolved_at=NOON).pending


def test_a_channel_that_fails_keeps_no_other_from_hearing_and_the_log_says_so(caplog: pytest.LogCaptureFixture):
    heard = Heard()
    with caplog.at_level(logging.ERROR, "stock_assets.alerts"):
        record = delivered(noted(ALERT, None), [LogChannel(), Deaf(), heard], NOON)
    assert record.pending
    assert len(heard.messages) == 1
    told, failed = (entry.getMessage() for entry in caplog.records)
    assert told == "ALERT daily_bars failed for 2026-03-03: too few bars | run 1"
    assert "nobody is there" in failed
    assert ALERT.title in failed
    caplog.clear()
    sent_again(record, [LogChannel(), Deaf()], NOON)
    assert len(caplog.records) == 1, "the log was told: only the failure is new"


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=40))
def test_whatever_happens_messages_are_a_day_apart_and_count_every_occurrence(steps: list[tuple[float, bool]]):
    """`steps`: hours until the trouble comes again, and whether the channel is there then."""
    heard, record, at = Heard(), None, NOON
    for came, (hours, there) in enumerate(steps, 1):
        at += hours * HOUR
        alert = replace(ALERT, at=at)
        send = to_send(alert, record)
        record = noted(alert, record)
        if send:
            record = delivered(record, [heard if there else Deaf()], at)
        assert sum(1 + repeated for _, repeated in heard.messages) + record.count == came
    times = [alert.at for alert, _ in heard.messages]
    assert all(later - earlier >= QUIET for earlier, later in pairwise(times))


# ---------------------------------------------------------------- the webhook


def test_a_webhook_receives_what_slack_and_mattermost_show():
    with webhook() as (url, heard):
        WebhookChannel(url).send(ALERT, 2)
    assert heard == [
        {
            "text": "daily_bars failed for 2026-03-03\ntoo few bars\nrun 1 (and 2 time(s) more since it was sent last)",
            "title": "daily_bars failed for 2026-03-03",
            "key": "job/step/1",
            "run_id": "1",
            "at": "2026-03-04T12:00:00+00:00",
            "count": 2,
        }
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_an_error_that_keeps_the_secret(status: int):
    with (
        webhook(status) as (url, heard),
        pytest.raises(AlertError, match=rf"http://127.0.0.1:\d+/\(hidden\) answered {status}") as caught,
    ):
        WebhookChannel(url).send(ALERT, 0)
    assert len(heard) == 1, "a redirect is not followed"
    assert "secret" not in str(caught.value)


def test_a_webhook_that_is_silent_or_gone_is_an_error_that_keeps_the_secret():
    with webhook(wait=0.5) as (url, _), pytest.raises(AlertError, match="did not answer") as caught:
        WebhookChannel(url, seconds=0.1).send(ALERT, 0)
    with pytest.raises(AlertError, match="did not answer \\(ConnectionError") as gone:
        WebhookChannel(url).send(ALERT, 0)
    for error in (caught.value, gone.value):
        assert "secret" not in str(error)
        assert error.__suppress_context__
    assert "secret" not in repr(WebhookChannel(url))


NASTY = "<!channel> @everyone @here <@U123> <http://evil|your bank> [your bank](http://evil) ![x](http://evil) <b>"
HIDDEN_CONTROLS = "\x1b[31m\x00\u202e\u2066\x9b2J\r"


def test_what_came_from_outside_is_no_markup_in_a_webhook():
    with webhook() as (url, heard):
        WebhookChannel(url).send(replace(ALERT, title=f"t {NASTY}", text=f"{HIDDEN_CONTROLS}{NASTY}"), 0)
    (message,) = heard
    assert not re.search(r"<|@\w|\]\(", message["text"]), "Slack, Mattermost, Discord and Teams read none of it"
    assert "&lt;!channel&gt;" in message["text"]
    for name in ("text", "title"):
        assert not re.search(
            r"@\w|<[!@#/\w]|\]\(|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", message[name]
        )
    assert "\\x1b[31m\\x00\\u202e\\u2066\\x9b2J\\r" in message["text"]


def test_a_line_of_the_log_is_one_line_without_a_control(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "stock_assets.alerts"):
        LogChannel().send(replace(ALERT, title="two\nlines", text=f"a\nALERT forged{HIDDEN_CONTROLS}"), 0)
    (entry,) = caplog.records
    assert entry.getMessage() == "ALERT two | lines: a | ALERT forged\\x1b[31m\\x00\\u202e\\u2066\\x9b2J"


def test_a_channel_that_never_comes_back_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stock_assets.lifecycle.alerts.CHANNEL_SECONDS", 0.2)
    gone, heard = Event(), Heard()

    class Stuck:
        name = "stuck"

        def send(self, alert: Alert, repeated: int) -> None:  # noqa: ARG002
            gone.wait()

    try:
        record = delivered(noted(ALERT, None), [Stuck(), heard], NOON)
        until(lambda: heard.messages)
    finally:
        gone.set()
    assert record.pending
    assert len(heard.messages) == 1
