"""Alerts to a person: what one holds, when the same one is sent again, and the channels that carry it.

Everything is pure but `send` of the channels. One alert is about one trouble. Its key stays the same while the trouble
lasts, and the `Record` of that key decides whether a repetition is sent or only counted.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

from stock_assets.errors import AlertError

LOG = logging.getLogger("stock_assets.alerts")

#: The same trouble is sent again after so long.
QUIET = timedelta(hours=24)
#: Seconds that a webhook has to answer: a sensor that waits keeps others waiting.
WEBHOOK_TIMEOUT = 5.0

#: A word with a digit in it: a date, a number, a run id. Then a hash without any, and what is left out of a list.
_VARYING = re.compile(r"[\w.:+-]*\d(?:[\w.:+-]*\w)?|\b[0-9a-f]{8,}\b|…")
#: Several of them in a row, a list or a range, count as one.
_SEVERAL = re.compile(r"#(?:(?:\W|\bto\b|\band\b)*#)+")


@dataclass(frozen=True)
class Alert:
    """One thing that a person should know."""

    key: str
    """the trouble, the same at every repetition"""
    title: str
    text: str
    run_id: str | None
    """the run it is about, where it is about one"""
    at: datetime
    """aware"""


@dataclass(frozen=True)
class Record:
    """What the table `alerts` holds of one key: the newest alert, and when it was sent."""

    alert: Alert
    first_at: datetime
    """when it came first, since it was last resolved"""
    sent_at: datetime | None = None
    """when it was sent last; None while a channel has not taken it"""
    count: int = 1
    """times it came that no message has reported yet"""
    resolved_at: datetime | None = None
    """when the trouble was over, None while it lasts"""

    @property
    def pending(self) -> bool:
        """Whether it is still to be sent: a channel failed, and the trouble lasts."""
        return self.sent_at is None and self.resolved_at is None


class Channel(Protocol):
    """A way to reach a person."""

    @property
    def name(self) -> str: ...

    def send(self, alert: Alert, repeated: int) -> None:
        """Hands over `alert`, which came `repeated` times more since it was sent last. Raises AlertError."""
        ...


@dataclass(frozen=True)
class LogChannel:
    """One line of level ERROR in the log `stock_assets.alerts`."""

    name: str = "log"

    def send(self, alert: Alert, repeated: int) -> None:
        LOG.error("ALERT %s: %s%s", alert.title, " | ".join(alert.text.splitlines()), _again(repeated))


@dataclass(frozen=True)
class WebhookChannel:
    """Posts JSON that incoming webhooks of Slack, Mattermost and their like accept: they show `text`, others may read
    `title`, `key`, `run_id`, `at` (ISO 8601) and `count`, the repetitions that no message reported."""

    url: str
    timeout: float = WEBHOOK_TIMEOUT
    """seconds to connect, and seconds between two bytes of the answer"""
    name: str = "webhook"

    def send(self, alert: Alert, repeated: int) -> None:
        """Raises AlertError where there is no answer in time or it is not 2xx. The address is a secret, so the error
        names its host alone."""
        import requests

        message = {
            "text": f"{alert.title}\n{alert.text}{_again(repeated)}",
            "title": alert.title,
            "key": alert.key,
            "run_id": alert.run_id,
            "at": alert.at.isoformat(),
            "count": repeated,
        }
        host = urlsplit(self.url).hostname
        try:
            answer = requests.post(self.url, json=message, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            # not chained: the text of the error holds the address
            raise AlertError(f"the webhook at {host} did not answer ({type(error).__name__})") from None
        if not 200 <= answer.status_code < 300:
            raise AlertError(f"the webhook at {host} answered {answer.status_code}; expected 2xx")


@dataclass(frozen=True)
class AppriseChannel:
    """Sends through one apprise URL, such as slack://…, mailto://… or tgram://…."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """The scheme of the URL; the rest of it is a secret."""
        return self.url.partition("://")[0]

    def send(self, alert: Alert, repeated: int) -> None:
        """Raises AlertError where apprise does not know the URL, or its service does not take the message. The URL is a
        secret, so the error names its scheme alone."""
        with _quiet_apprise():
            from apprise import Apprise, NotifyFormat, NotifyType

            service = Apprise()
            if not service.add(self.url):
                raise AlertError(f"{self.name}:// is no address that apprise can send to; see its list of services")
            sent = service.notify(
                title=alert.title,
                body=f"{alert.text}{_again(repeated)}",
                notify_type=NotifyType.FAILURE,
                body_format=NotifyFormat.TEXT,
            )
        if not sent:
            raise AlertError(f"the service behind {self.name}:// did not take the message")


def channels(webhook: str | None, urls: Iterable[str]) -> tuple[Channel, ...]:
    """The log, the JSON webhook where there is one, and one channel per apprise URL."""
    return (LogChannel(), *((WebhookChannel(webhook),) if webhook else ()), *map(AppriseChannel, urls))


def fingerprint(job: str, step: str, error: str) -> str:
    """The key of a failure, the same for repetitions of one trouble.

    Dates, numbers, run ids and hashes in `error` do not count, nor how many of them are listed in a row.

    >>> fingerprint("job", "labels", "no bar on 2026-03-03") == fingerprint("job", "labels", "no bar on 2026-03-04")
    True
    """
    shape = _SEVERAL.sub("#", _VARYING.sub("#", error))
    return f"{job}/{step}/{hashlib.sha256(shape.encode()).hexdigest()[:12]}"


def noted(alert: Alert, earlier: Record | None) -> Record:
    """The record of `alert` before it is sent. After the trouble was resolved, its record begins anew."""
    if earlier is None or earlier.resolved_at is not None:
        return Record(alert, first_at=alert.at)
    return replace(earlier, alert=alert, count=earlier.count + 1)


def to_send(alert: Alert, earlier: Record | None, quiet: timedelta = QUIET) -> bool:
    """Whether `alert` is sent: it is new, was resolved in between, was never sent, or was sent `quiet` ago."""
    sent_at = noted(alert, earlier).sent_at
    return sent_at is None or alert.at - sent_at >= quiet


def delivered(record: Record, channels: Sequence[Channel], now: datetime) -> Record:
    """`record` after all `channels` were asked to send it: sent, or still pending where one of them failed.

    A channel that fails keeps no other from sending. The failure is logged, with the title of the alert.
    """
    reached = True
    for channel in channels:
        try:
            channel.send(record.alert, record.count - 1)
        except AlertError as error:
            LOG.error("ALERT could not be sent and is tried again: %s; its title: %s", error, record.alert.title)
            reached = False
    return replace(record, sent_at=now, count=0) if reached else replace(record, sent_at=None)


def sent_again(record: Record, channels: Sequence[Channel], now: datetime) -> Record:
    """As `delivered`, without the log, which has it already: a webhook that is away for a day would fill the log."""
    return delivered(record, [channel for channel in channels if not isinstance(channel, LogChannel)], now)


def _again(repeated: int) -> str:
    return f" (and {repeated} time(s) more since it was sent last)" if repeated else ""


@contextmanager
def _quiet_apprise() -> Iterator[None]:
    """Without the log of apprise, which holds whole URLs, and without the warnings of what it imports."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        # apprise 2.3 imports imghdr, which Python 3.11 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
