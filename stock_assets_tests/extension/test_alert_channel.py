"""A new way to reach a person costs no file: any apprise address, or a channel object from outside."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stock_assets.errors import AlertError
from stock_assets.lifecycle.alerts import Alert, AppriseChannel, LogChannel, WebhookChannel, channels
from stock_assets.lifecycle.materialize.alerts import channels_of, open_alerts, raise_alarm, send_pending
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ALERT = Alert("job/step/1", "daily_bars failed for 2026-03-03", "too few bars\nrun 1", "1", NOON)
TOKEN = "hush-hush"


@contextmanager
def server(status: int = 200) -> Iterator[tuple[str, list[dict]]]:
    """The apprise address of a local server that answers `status`, and what it is sent."""
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"json://user:{TOKEN}@127.0.0.1:{http.server_address[1]}/{TOKEN}", received
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def test_the_settings_name_the_channels():
    assert channels_of(read_settings()) == (LogChannel(),)
    config = read_settings(
        alert_webhook="https://hooks.example.com/services/T/B/x", alert_urls=f"slack://{TOKEN},json://h"
    )
    log, webhook, slack, server_of_json = channels_of(config)
    assert (log, webhook) == (LogChannel(), WebhookChannel("https://hooks.example.com/services/T/B/x"))
    assert (slack, server_of_json) == (AppriseChannel(f"slack://{TOKEN}"), AppriseChannel("json://h"))
    assert (slack.name, server_of_json.name) == ("slack", "json")
    assert TOKEN not in repr(config)
    assert TOKEN not in repr(slack)


def test_an_address_receives_the_alert():
    with server() as (url, received):
        AppriseChannel(url).send(ALERT, 2)
    (message,) = received
    assert message["title"] == "daily_bars failed for 2026-03-03"
    assert message["message"] == "too few bars\nrun 1 (and 2 time(s) more since it was sent last)"
    assert message["type"] == "failure"


@pytest.mark.parametrize("url", ["nosuch://hush-hush", f"json://user:{TOKEN}@127.0.0.1:9/{TOKEN}"])
def test_an_address_that_cannot_be_sent_to_is_an_error_that_keeps_the_secret(
    url: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG), pytest.raises(AlertError, match=f"{url.partition(':')[0]}://") as caught:
        AppriseChannel(url).send(ALERT, 0)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in "".join(record.getMessage() for record in caplog.records if record.name == "apprise")


def test_a_service_that_refuses_is_tried_again_and_repetitions_stay_quiet(tmp_path: Path):
    store = Warehouse(tmp_path / "store.duckdb")
    with server(status=500) as (url, refused):
        raise_alarm(store, channels(None, [url]), ALERT, now=NOON)
    assert len(refused) == 1
    assert [record.pending for record in open_alerts(store)] == [True]
    with server() as (url, received):
        reached = channels(None, [url])
        assert send_pending(store, reached, now=NOON + timedelta(hours=1)) == 1
        assert raise_alarm(store, reached, ALERT, now=NOON + timedelta(hours=2)).startswith("kept quiet")
    assert len(received) == 1


def test_a_notifier_from_outside_is_an_address_of_its_own(tmp_path: Path):
    import warnings

    spoken: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from apprise.decorators import notify

        @notify(on="toy")
        def speak(body: str, title: str, notify_type: str, *_args: object, **_more: object) -> bool:  # noqa: ARG001
            spoken.append(title)
            return True

    config = read_settings(alert_urls="toy://kitchen", data_dir=tmp_path)
    raise_alarm(Warehouse(config.database), channels_of(config), ALERT, now=NOON)
    assert spoken == [ALERT.title]


def test_a_channel_object_from_outside_needs_a_name_and_a_way_to_send(tmp_path: Path):
    class Toy:
        name = "toy"

        def __init__(self) -> None:
            self.sent: list[tuple[str, int]] = []

        def send(self, alert: Alert, repeated: int) -> None:
            self.sent.append((alert.title, repeated))

    toy = Toy()
    raise_alarm(Warehouse(tmp_path / "store.duckdb"), [toy], ALERT, now=NOON)
    assert toy.sent == [(ALERT.title, 0)]
