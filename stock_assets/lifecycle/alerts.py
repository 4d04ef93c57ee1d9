"""Alerts to a person: what one holds, when the same one is sent again, and the channels that carry it.

Everything is pure but `send` of the channels. One alert is about one trouble. Its key stays the same while the trouble
lasts, and the `Record` of that key decides whether a repetition is sent or only counted.
"""

import hashlib
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Thread
from typing import Protocol

from stock_assets.addresses import redacted
from stock_assets.errors import AlertError, OutgoingError
from stock_assets.lifecycle.alert_text import line, plain, slack
from stock_assets.outgoing import START_SECONDS, call, notify

LOG = logging.getLogger("stock_assets.alerts")

#: The same trouble is sent again after so long.
QUIET = timedelta(hours=24)
#: Seconds that a webhook has to answer, from the name of the host to the last byte, and a service of apprise, which may
#: need several requests: a sensor that waits keeps others waiting.
WEBHOOK_SECONDS, SERVICE_SECONDS = 5.0, 10.0
#: No channel has longer than this, one from outside included; they all send at the same time.
CHANNEL_SECONDS = SERVICE_SECONDS + START_SECONDS
#: A channel that failed is not asked again for so long: one tick reports several failed runs.
AWAY = timedelta(seconds=50)

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
    taken: Mapping[str, datetime] = field(default_factory=dict)
    """when each channel took it last, by its label"""
    refused: Mapping[str, datetime] = field(default_factory=dict)
    """when each channel failed last, of those that still owe it"""

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
        LOG.error("ALERT %s: %s%s", line(alert.title), line(alert.text), _repetitions(repeated))


@dataclass(frozen=True)
class WebhookChannel:
    """Posts JSON that incoming webhooks of Slack, Mattermost and their like accept: they show `text`, others may read
    `title`, `key`, `run_id`, `at` (ISO 8601) and `count`, the repetitions that no message reported."""

    url: str = field(repr=False)
    seconds: float = WEBHOOK_SECONDS
    name: str = "webhook"

    def send(self, alert: Alert, repeated: int) -> None:
        """Raises AlertError where there is no answer in time or it is not 2xx. The address is a secret, so the error
        names its host alone."""
        message = {
            "text": slack(f"{alert.title}\n{alert.text}") + _repetitions(repeated),
            "title": plain(alert.title),
            "key": alert.key,
            "run_id": alert.run_id,
            "at": alert.at.isoformat(),
            "count": repeated,
        }
        try:
            answer = call("POST", self.url, message=message, seconds=self.seconds)
        except OutgoingError as error:
            raise AlertError(f"the webhook at {error}") from None
        if not 200 <= answer.status < 300:
            raise AlertError(f"the webhook at {redacted(self.url)} answered {answer.status}; expected 2xx")


@dataclass(frozen=True)
class AppriseChannel:
    """Sends through one apprise URL, such as slack://…, mailto://… or tgram://…."""

    url: str = field(repr=False)
    seconds: float = SERVICE_SECONDS

    @property
    def name(self) -> str:
        """The scheme of the URL; the rest of it is a secret."""
        return self.url.partition("://")[0]

    def send(self, alert: Alert, repeated: int) -> None:
        """Raises AlertError where apprise does not know the URL, or its service does not take the message. The URL is a
        secret, so the error names its scheme alone."""
        title, text = plain(alert.title), plain(alert.text) + _repetitions(repeated)
        try:
            is_delivered = notify(self.url, title, text, seconds=self.seconds)
        except OutgoingError as error:
            raise AlertError(f"the service behind {error}") from None
        if is_delivered is None:  # perhaps a notifier that an extension has registered in this process
            is_delivered = _notify_here(self.url, title, text)
        if is_delivered is None:
            raise AlertError(f"{self.name}:// is no address that apprise can send to; see its list of services")
        if not is_delivered:
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


def labels(channels: Sequence[Channel]) -> list[str]:
    """What each channel is known by over restarts, without its secret; one of its own for each.

    >>> [label.partition("-")[0] for label in labels([LogChannel(), LogChannel(), AppriseChannel("slack://token")])]
    ['log', 'log 2', 'slack']
    """
    counts: Counter[str] = Counter()
    names = []
    for channel in channels:
        url = getattr(channel, "url", None)
        name = f"{channel.name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}" if url else channel.name
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name} {counts[name]}")
    return names


def delivered(
    record: Record,
    channels: Sequence[Channel],
    now: datetime,
    *,
    quiet: timedelta = QUIET,
    away: Collection[str] = (),
) -> Record:
    """`record` after all `channels` were asked to send it: sent, or still pending where one of them failed.

    They are asked at the same time. One that fails keeps no other from sending, and one that took it is not asked again
    before `quiet` is over, though another is asked every minute. Those in `away`, by label, are not asked and owe it
    still. A failure is logged, with the title of the alert.
    """
    owing = {
        label: channel
        for label, channel in zip(labels(channels), channels, strict=True)
        if label not in record.taken or now - record.taken[label] >= quiet
    }
    channels_by_label = {label: channel for label, channel in owing.items() if label not in away}
    failures = _failures_of_sending(channels_by_label, record.alert, max(record.count - 1, 0))
    for failure in failures.values():
        LOG.error("ALERT could not be sent and is tried again: %s; its title: %s", failure, line(record.alert.title))
    delivery_times = {**record.taken, **{label: now for label in channels_by_label if label not in failures}}
    if not failures and len(channels_by_label) == len(owing):
        return replace(record, sent_at=now, count=0, taken=delivery_times, refused={})
    return replace(
        record, sent_at=None, taken=delivery_times, refused={**record.refused, **dict.fromkeys(failures, now)}
    )


def _failures_of_sending(channels: Mapping[str, Channel], alert: Alert, repeated: int) -> dict[str, str]:
    """Why those of `channels`, by label, that failed did so; each has CHANNEL_SECONDS."""
    failures = {
        label: f"{channel.name} did not come back within {CHANNEL_SECONDS:g} s"
        for label, channel in channels.items()
        if not isinstance(channel, LogChannel)
    }

    def send(label: str, channel: Channel) -> None:
        try:
            channel.send(alert, repeated)
        except AlertError as error:
            failures[label] = str(error)
        except Exception as error:
            failures[label] = f"{channel.name} raised {type(error).__name__}"
        else:
            failures.pop(label, None)

    threads = []
    for label, channel in channels.items():
        if isinstance(channel, LogChannel):
            channel.send(alert, repeated)
            continue
        threads.append(Thread(target=send, args=(label, channel), daemon=True))
        threads[-1].start()
    deadline = time.monotonic() + CHANNEL_SECONDS
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return dict(failures)


def sent_again(record: Record, channels: Sequence[Channel], now: datetime, *, away: Collection[str] = ()) -> Record:
    """As `delivered`, without the log, which has it already: a webhook that is away for a day would fill the log."""
    return delivered(record, [channel for channel in channels if not isinstance(channel, LogChannel)], now, away=away)


def _repetitions(repeated: int) -> str:
    return f" (and {repeated} time(s) more since it was sent last)" if repeated else ""


def _notify_here(url: str, title: str, text: str) -> bool | None:
    """As `outgoing.notify`, in this process."""
    import warnings

    # its log holds whole addresses
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        # apprise 2.3 imports imghdr, which Python 3.11 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        from apprise import Apprise, NotifyFormat, NotifyType

        service = Apprise()
        if not service.add(url):
            return None
        return bool(
            service.notify(title=title, body=text, notify_type=NotifyType.FAILURE, body_format=NotifyFormat.TEXT)
        )
