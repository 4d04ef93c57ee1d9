"""Objects in a folder and in a bucket keep one contract, and a bucket that refuses is one clear line."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from stock_assets import buckets
from stock_assets.errors import BucketError, SettingsError, StockAssetsError
from stock_assets.objects import (
    ObjectPath,
    Place,
    delete,
    found_below,
    held,
    name_below,
    place_of,
    put,
    put_if_absent,
    replace_if,
)
from stock_assets_tests.team.s3 import S3, SECRET, Answer, Proxy

NAMES = st.sampled_from(["a", "b.json", "deep/a", "deep/er/ü x", "session=2026-11-20/9.parquet", ".checkpoint-rnn"])
RUNS = count(1)
CONTENTS = st.binary(max_size=40)


def content_of(place: Place) -> bytes | None:
    found = held(place)
    return found and found.content


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "absent", "replace", "stale", "delete"]), NAMES, CONTENTS), max_size=12
    )
)
def test_a_place_behaves_as_a_dictionary(place: Place, steps: list[tuple[str, str, bytes]]):
    root, expected = place / f"run-{next(RUNS)}", dict[str, bytes]()
    old = {}
    for step, name, content in steps:
        at, before = root / name, expected.get(name)
        if step == "put":
            put(at, content)
            expected[name] = content
        elif step == "absent":
            assert put_if_absent(at, content) is (before is None)
            expected.setdefault(name, content)
        elif step == "replace":
            version = (there := held(at)) and there.version
            assert replace_if(at, content, version)
            expected[name] = content
        elif step == "stale" and name in old:  # true only where the content is the same
            version, content_then = old[name]
            if replace_if(at, content, version):
                assert before in (content_then, content)
                expected[name] = content
            else:
                assert before not in (content_then, content)
        else:
            delete(at)
            expected.pop(name, None)
        if there := held(at):
            old[name] = there.version, there.content
    assert {name_below(found.place, root): found.place.read_bytes() for found in found_below(root)} == expected
    assert {name_below(found.place, root): found.size for found in found_below(root)} == {
        name: len(content) for name, content in expected.items()
    }
    assert all((root / name).is_file() for name in expected)
    assert root.is_dir() is bool(expected) or isinstance(root, Path)


def test_what_is_absent_is_no_error_of_the_place(place: Place):
    with pytest.raises(FileNotFoundError):
        (place / "nothing").read_bytes()
    assert held(place / "nothing") is None
    assert not (place / "nothing").exists()
    assert list(found_below(place)) == []
    delete(place / "nothing")
    assert not replace_if(place / "nothing", b"new", held_of_another(place))


def held_of_another(place: Place):
    put(place / "other", b"content")
    found = held(place / "other")
    assert found
    return found.version


@pytest.mark.parametrize("writer", ["put_if_absent", "replace_if"])
def test_of_many_at_once_one_wins(place: Place, writer: str):
    target, start = place / "current.json", threading.Barrier(8)
    before = None
    if writer == "replace_if":
        put(target, b"before")
        before = (there := held(target)) and there.version

    def write(number: int) -> bool:
        content = b"%d" % number
        start.wait()
        return put_if_absent(target, content) if writer == "put_if_absent" else replace_if(target, content, before)

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, done in enumerate(pool.map(write, range(8))) if done]
    assert len(won) == 1
    assert target.read_bytes() == b"%d" % won[0]
    assert [found.place.name for found in found_below(place)] == ["current.json"]


def test_no_count_is_lost_between_processes(place: Place):
    """Each adds one, again and again, by `replace_if`: no addition overwrites another."""
    put(place / "count", b"0 by nobody")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add, args=(place / "count", 15, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (place / "count").read_bytes().startswith(b"45 by")


def add(place: Place, times: int, name: str) -> None:
    while times:
        there = held(place)
        assert there
        times -= replace_if(place, b"%d by %s" % (int(there.content.split()[0]) + 1, name.encode()), there.version)


def test_a_reader_never_sees_a_half(place: Place):
    """While a writer replaces 300 kB again and again, every read is one whole content."""
    target, over = place / "page.html", threading.Event()
    put(target, b"a" * 300_000)

    def write() -> None:
        for letter in b"bcdefghijklmnop" * 2:
            put(target, bytes([letter]) * 300_000)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        content = target.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
        seen.add(content[:1])
    writer.join()
    assert seen


# ---------------------------------------------------------------- a bucket that refuses


FAULTS: dict[str, tuple[Answer | str, str]] = {
    "no rights": (Answer(403), r"refuses access \(403 AccessDenied\); give its key the rights s3:GetObject"),
    "a wrong secret": (Answer(403, "SignatureDoesNotMatch"), "does not accept the credentials .*AWS_SECRET_ACCESS_KEY"),
    "a key that ran out": (Answer(400, "ExpiredToken"), "does not accept the credentials"),
    "a clock set wrong": (
        Answer(403, "RequestTimeTooSkewed", "<ServerTime>2026-11-28T04:00:00Z</ServerTime>"),
        r"the clock of this machine differs by many minutes from its own \(2026-11-28T04:00:00Z\); set the clock",
    ),
    "another region": (Answer(301, "PermanentRedirect"), "lies in another region; set AWS_REGION"),
    "an error of the server": (Answer(500, "InternalError"), "answered 500 InternalError, tried 2 times; look at its"),
    "too many requests": (Answer(503, "SlowDown"), "answered 503 SlowDown, tried 2 times"),
    "no S3": (Answer(405, "MethodNotAllowed"), "answered 405 MethodNotAllowed; expected a server of S3"),
    "no answer": ("hang", "did not answer within 1 s, tried 2 times"),
    "a lost connection": ("drop", "cannot be reached .*tried 2 times; look at the network and at AWS_ENDPOINT_URL"),
}
ACTIONS = {
    "put": lambda place: put(place, b"x"),
    "put_if_absent": lambda place: put_if_absent(place, b"x"),
    "read": lambda place: place.read_bytes(),
    "list": lambda place: list(found_below(place)),
    "delete": delete,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refusal_is_one_line(s3: S3, proxy: Proxy, fault: str):
    answer, expected = FAULTS[fault]
    place = s3.bucket() / "team" / "model.json"
    proxy.fault = lambda _method, _path: answer
    for action in ACTIONS.values():
        with pytest.raises(BucketError, match=expected) as caught:
            action(place)
        text = str(caught.value)
        assert text.startswith(str(place))
        assert "\n" not in text
        assert SECRET not in text
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        if fault in ("no answer", "no rights"):
            break  # each costs seconds, or is the same


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_bucket_that_is_not_there_is_named(action: str):
    place = place_of("s3://no-such-bucket/team") / "model.json"
    with pytest.raises(BucketError, match="there is no bucket no-such-bucket at the server http:"):
        ACTIONS[action](place)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:1", r"the server http://127.0.0.1:1 cannot be reached \(Connect\), tried 2 times"),
        ("http://key:a-password@127.0.0.1:1", r"the server http://127.0.0.1:1/\(hidden\) cannot be reached"),
        ("http://no-such-host.invalid", "is no host that is known here; correct AWS_ENDPOINT_URL"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_a_wrong_endpoint_is_named(monkeypatch: pytest.MonkeyPatch, endpoint: str, expected: str):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(BucketError, match=expected) as caught:
        put(place_of("s3://some-bucket/team/x"), b"x")
    assert "a-password" not in str(caught.value)


def test_an_answer_that_is_lost_is_tried_again(s3: S3, proxy: Proxy):
    """The server did it, and nobody heard: a second try of a conditional request finds its own work."""
    place, lost = s3.bucket() / "current.json", []

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and not lost:
            lost.append(path)
            return "lose"
        return None

    proxy.fault = fault
    assert replace_if(place, b"first", None)
    version = (there := held(place)) and there.version
    lost.clear()
    assert replace_if(place, b"second", version)
    assert place.read_bytes() == b"second"
    assert len(lost) == 1


def test_an_error_of_the_server_that_passes_is_no_error(s3: S3, proxy: Proxy):
    place, spoilt = s3.bucket() / "x", []

    def fault(method: str, path: str) -> Answer | None:
        if method == "PUT" and not spoilt:
            spoilt.append(path)
            return Answer(503, "SlowDown")
        return None

    proxy.fault = fault
    put(place, b"content")
    assert place.read_bytes() == b"content"


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "s3://UPPER/x", "s3://b/x?secret=1", "s3://bkt/../x"])
def test_a_wrong_address_is_refused(address: str):
    with pytest.raises(SettingsError, match="expected"):
        place_of(address)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(StockAssetsError, match=r"pip install 'stock_assets\[team\]'"):
        (place_of("s3://some-bucket") / "x").read_bytes()


def test_a_changed_environment_counts_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch):
    place = s3.bucket() / "x"
    put(place, b"content")
    monkeypatch.setattr(buckets, "RETRIES", 0)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(BucketError, match="cannot be reached"):
            place.read_bytes()
    assert place.read_bytes() == b"content"


def test_a_bucket_without_a_prefix_is_a_place(s3: S3):
    root = s3.bucket()
    assert isinstance(root, ObjectPath)
    put(root / "a" / "b", b"1")
    assert [name_below(found.place, root) for found in found_below(root)] == ["a/b"]
