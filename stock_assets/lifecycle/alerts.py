"""Alerts to a person: what one says, when the same one is sent again, and the channels that carry it.

Everything is pure but `send` of the channels. One alert is one trouble: it has a key that stays the same while the
trouble lasts, and what is remembered of it, a `Record`, decides whether a repetition is sent or only counted.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

from stock_assets.errors import AlertError

LOG = logging.getLogger("stock_assets.alerts")

#: The same trouble is told again after so long.
QUIET = timedelta(hours=24)
#: Seconds that a webhook has to answer: a sensor that waits keeps others waiting.
WEBHOOK_TIMEOUT = 5.0

#: A word with a digit in it: a date, a number, a run id. Then a hash without any, and what is left out of a list.
_VARYING = re.compile(r"[\w.:+-]*\d(?:[\w.:+-]*\w)?|\b[0-9a-f]{8,}\b|…")
#: Several of them in a row, as a list or a range, are as good as one.
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
    """What is remembered of one key: the newest alert and whom it reached."""

    alert: Alert
    first_at: datetime
    """when it came first, since it was last resolved"""
    sent_at: datetime | None = None
    """when a person was told last; None while no channel has been reached"""
    count: int = 1
    """times it came that no message has told of yet"""
    resolved_at: datetime | None = None
    """when the trouble was over, None while it lasts"""

    @property
    def pending(self) -> bool:
        """Whether it is still to be sent: a channel failed, and the trouble is not over."""
        return self.sent_at is None and self.resolved_at is None


class Channel(Protocol):
    """A way to reach a person."""

    @property
    def name(self) -> str: ...

    def send(self, alert: Alert, repeated: int) -> None:
        """Hands over `alert`, which came `repeated` times before without being told. Raises AlertError."""
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
    `title`, `key`, `run_id`, `at` (ISO 8601) and `count`, the repetitions that were not told."""

    url: str
    timeout: float = WEBHOOK_TIMEOUT
    """seconds to connect, and seconds between two bytes of the answer"""
    name: str = "webhook"

    def send(self, alert: Alert, repeated: int) -> None:
        """Raises AlertError where nobody answers in time or the answer is not 2xx. The address is a secret, so the
        error names its host alone."""
        import requests

        said = {
            "text": f"{alert.title}\n{alert.text}{_again(repeated)}",
            "title": alert.title,
            "key": alert.key,
            "run_id": alert.run_id,
            "at": alert.at.isoformat(),
            "count": repeated,
        }
        host = urlsplit(self.url).hostname
        try:
            answer = requests.post(self.url, json=said, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            # not chained: the text of the error holds the address
            raise AlertError(f"the webhook at {host} did not answer ({type(error).__name__})") from None
        if not 200 <= answer.status_code < 300:
            raise AlertError(f"the webhook at {host} answered {answer.status_code}; expected 2xx")


def fingerprint(job: str, step: str, error: str) -> str:
    """The key of a failure, the same for repetitions of one trouble: dates, numbers, run ids and hashes in `error` do
    not count, nor how many of them are listed in a row."""
    shape = _SEVERAL.sub("#", _VARYING.sub("#", error))
    return f"{job}/{step}/{hashlib.sha256(shape.encode()).hexdigest()[:12]}"


def noted(alert: Alert, earlier: Record | None) -> Record:
    """What is to be remembered once `alert` came, before anybody is told. After it was resolved it begins anew."""
    if earlier is None or earlier.resolved_at is not None:
        return Record(alert, first_at=alert.at)
    return replace(earlier, alert=alert, count=earlier.count + 1)


def to_send(alert: Alert, earlier: Record | None, quiet: timedelta = QUIET) -> bool:
    """Whether `alert` is sent: it is new, was resolved in between, was never told, or was told `quiet` ago."""
    told = noted(alert, earlier).sent_at
    return told is None or alert.at - told >= quiet


def delivered(record: Record, channels: Sequence[Channel], now: datetime) -> Record:
    """`record` after it was handed to all `channels`: sent, or still pending where one of them failed, which the log
    says. The channels stand beside each other: one that fails does not keep the next one from being asked."""
    reached = True
    for channel in channels:
        try:
            channel.send(record.alert, record.count - 1)
        except AlertError as error:
            LOG.error("ALERT could not be sent, is tried again: %s; it says: %s", error, record.alert.title)
            reached = False
    return replace(record, sent_at=now, count=0) if reached else replace(record, sent_at=None)


def sent_again(record: Record, channels: Sequence[Channel], now: datetime) -> Record:
    """`delivered`, but for the log, which has been told: a webhook that is away for a day would fill it."""
    return delivered(record, [channel for channel in channels if not isinstance(channel, LogChannel)], now)


def _again(repeated: int) -> str:
    return f" (and {repeated} time(s) more since it was told last)" if repeated else ""
