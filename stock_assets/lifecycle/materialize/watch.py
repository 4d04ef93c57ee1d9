"""One look of the sensor `freshness` at the store: what it saw, what it says to whom, and what it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from stock_assets.errors import StockAssetsError, StoreBusyError
from stock_assets.lifecycle.alert_text import line
from stock_assets.lifecycle.alerts import LOG, QUIET, Alert, Channel
from stock_assets.lifecycle.freshness import KEY, Freshness, alert_of
from stock_assets.lifecycle.materialize.alerts import raise_alarm, resolve
from stock_assets.lifecycle.materialize.kept import kept_of
from stock_assets.lifecycle.materialize.operations import freshness_of
from stock_assets.lifecycle.watch import (
    BLIND,
    Look,
    alert_of_blindness,
    file_of,
    next_look,
    read_look,
    send_heartbeat,
    write_look,
)
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


@dataclass(frozen=True)
class Watched:
    """What one look gave."""

    look: Look
    state: Freshness | None
    """None where nothing could be seen"""
    messages: list[str]
    """what was done, in words"""


def watch(
    store: Warehouse, settings: Settings, channels: Sequence[Channel], *, now: datetime, last_seen: date | None = None
) -> Watched:
    """Looks at the predictions at `now`, alerts where they cannot be seen for longer than the grace period, and sends
    the heartbeat. Nothing but the look itself opens the store.

    `last_seen` is what an earlier look saw, for where its file is lost with the store.
    """
    file, messages = file_of(store.path), []
    try:
        earlier = read_look(file)
    except (StockAssetsError, OSError) as error:
        earlier, messages = None, [str(error)]
    state_of_store = look_at(
        store, (earlier.predicted_through if earlier else None) or last_seen, kept_of(settings).predictions
    )
    trouble, look = (
        state_of_store.trouble,
        next_look(earlier, state_of_store.predicted_through, state_of_store.trouble, now=now),
    )
    try:
        write_look(file, look)
    except OSError as error:  # a full disk: nothing is late for that alone, and the alert does not need the file
        messages.append(f"what was seen cannot be kept in {file}: {error.strerror}")
        LOG.error("%s", messages[-1])
    if trouble is not None:
        messages.append(f"the next tick looks again: {trouble}")
        if not look.blind(now):
            return Watched(look, None, messages)
        messages.append(raise_alarm(store, channels, alert_of_blindness(look), now=now))
        return Watched(look, None, [*messages, *_heartbeat(settings, False, trouble)])
    state = state_of(store, settings, look.predicted_through, now=now)
    if resolve(store, BLIND, now=now):
        messages.append("the store can be seen again")
    return Watched(look, state, [*messages, *_heartbeat(settings, state.fresh, state.reason)])


def state_of(store: Warehouse, settings: Settings, predicted_through: date | None, *, now: datetime) -> Freshness:
    """How fresh the predictions are, which go to `predicted_through`; below a day, the newest published bar."""
    if settings.interval == "1d":
        return freshness_of(settings, predicted_through, now)
    from stock_assets.lifecycle.materialize.bars import bar_freshness_of

    return bar_freshness_of(store, settings, now)


@dataclass(frozen=True)
class Seen:
    """What the store showed."""

    predicted_through: date | None = None
    trouble: str | None = None
    """why nothing could be seen"""
    busy: bool = False
    """whether that is because another process holds it"""


def look_at(store: Warehouse, earlier: date | None, table: str = "predictions") -> Seen:
    """The last predicted session. Where `earlier` was predicted, a store without any is no new one: it was lost.

    Whatever the store raises is an answer here: who watches goes on.
    """
    try:
        last_predicted = store.last_session(table)
    except StockAssetsError as error:  # it names the file
        return Seen(None, line(str(error)), isinstance(error, StoreBusyError))
    except Exception as error:
        return Seen(None, f"{store.place} cannot be read: {type(error).__name__}: {line(str(error))}")
    if last_predicted is None and earlier is not None:
        state = "holds no predictions any more" if store.exists() else "is gone"
        way_back = "Bring a backup back, or make everything: make run"
        return Seen(None, f"{store.place} {state}; {earlier} was predicted. {way_back}")
    return Seen(last_predicted)


def tell_lateness(store: Warehouse, channels: Sequence[Channel], state: Freshness, *, now: datetime) -> list[str]:
    """Alerts where predictions are late, and ends that alarm where they are not; what was done, in words."""
    if not state.fresh:
        return [raise_alarm(store, channels, alert_of(state, now), now=now, quiet=QUIET / 2)]
    return ["the alarm is over"] if resolve(store, KEY, now=now) else []


def tell_failed_tick(
    store: Warehouse, channels: Sequence[Channel], sensor: str, *, error: Exception, now: datetime
) -> str | None:
    """Alerts that a tick of `sensor` raised `error`, which stops what it makes; what was done, in words.

    Where the store cannot be looked at, every sensor fails for one reason, which `watch` alerts of.
    """
    if look_at(store, None).trouble is not None:
        return None
    text = f"{type(error).__name__}: {error}\nwhat it makes waits until a tick succeeds; see its page in the UI"
    return raise_alarm(store, channels, Alert(tick_key(sensor), f"the sensor {sensor} fails", text, None, now), now=now)


def end_failed_ticks(store: Warehouse, sensor: str, *, now: datetime) -> None:
    """Ends the alarm of `tell_failed_tick`, once a tick has succeeded."""
    resolve(store, tick_key(sensor), now=now)


def tick_key(sensor: str) -> str:
    return f"sensor/{sensor}"


def _heartbeat(settings: Settings, good: bool, reason: str) -> list[str]:
    if settings.heartbeat_url is None:
        return []
    trouble = send_heartbeat(str(settings.heartbeat_url), good, reason)
    if trouble:
        LOG.warning("%s", trouble)
    return [trouble] if trouble else []
