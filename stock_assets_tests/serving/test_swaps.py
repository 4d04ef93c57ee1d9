"""Swaps under load, publishers that are killed, and a form that cannot be read: the old answer or the new one."""

import http.client
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Event, Thread

import polars as pl
import psutil
import pytest

from stock_assets import objects
from stock_assets.publication import write
from stock_assets.publication.layout import POINTER
from stock_assets.publication.read import read_ledger
from stock_assets_tests.effort import tries
from stock_assets_tests.publication.folders import SESSIONS, published_folder
from stock_assets_tests.serving.apps import asker
from stock_assets_tests.serving.swapping import NEWEST, TICKERS, TURNS, file_of_turn, publish_turn, rows_of_turn, served
from stock_assets_tests.waiting import HANG_SECONDS

SWAPS = tries(150, drill=500)
#: Swaps after which the server has everything at hand that it keeps.
WARM = max(60, SWAPS // 5)
READERS = 2
#: How often the server of this drill looks at the pointer, so that the swaps take seconds.
LOOKS = 0.002
#: Seconds between two requests of a reader, so that a slow machine is left time to swap.
PACE = 0.004


class Reader:
    """Asks for single tickers, one after the other on one connection, until it is told to stop."""

    def __init__(self, port: int, first: int) -> None:
        self.port, self.at = port, first
        self.answers: set[tuple[str, bytes]] = set()
        """(publication by the header, body), each once"""
        self.count, self.wrong = 0, []
        self.stop = Event()
        self.thread = Thread(target=self.run)

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)) as connection:
            while not self.stop.wait(PACE):
                self.ask(connection)

    def ask(self, connection: http.client.HTTPConnection) -> None:
        self.at += 1
        ticker = TICKERS[self.at % len(TICKERS)]
        try:
            connection.request("GET", f"/v1/predictions/{ticker}")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
            return
        self.count += 1
        row = json.loads(body)
        named = {
            answer.headers["x-publication"],
            row["publication"],
            answer.headers["etag"][3 : 3 + len(row["publication"])],
        }
        if answer.status != 200 or row["ticker"] != ticker or len(named) != 1:
            self.wrong.append(f"{answer.status} {named} {body!r}")
        if answer.headers["x-model-version"] != row["model_version"]:
            self.wrong.append(f"version {answer.headers['x-model-version']} {row['model_version']}")
        self.answers.add((row["publication"], body))


@pytest.mark.tries
def test_swaps_under_load_fail_none_mix_none_and_leave_no_memory_behind(tmp_path: Path):
    folder = tmp_path / "published"
    published_folder(folder, sessions=SESSIONS, tickers=TICKERS)
    publish_turn(folder, 0)
    publisher = [sys.executable, "-m", "stock_assets_tests.serving.swapping", "publish", str(tmp_path)]
    with served(tmp_path, seconds=LOOKS) as (port, pid):
        readers = [Reader(port, first) for first in range(READERS)]
        memory = []
        for reader in readers:
            reader.thread.start()
        try:
            for swaps in (WARM, SWAPS - WARM):
                out = subprocess.run([*publisher, str(port), str(swaps)], check=True, capture_output=True, text=True)
                assert len(set(out.stdout.split())) == swaps, "each of them came into service"
                memory.append(psutil.Process(pid).memory_info().rss)
        finally:
            for reader in readers:
                reader.stop.set()
            for reader in readers:
                reader.thread.join()
    assert [reader.wrong for reader in readers] == [[]] * READERS
    assert min(reader.count for reader in readers) > SWAPS / 10, "there was load"
    # who was published with which entry, from the ledger; what it says, from the files' own source
    by_digest = {write.digest_of(file_of_turn(version)): rows_of_turn(version) for version in TURNS}
    expected = {
        entry.id: {
            row["ticker"]: row for row in by_digest[digest].filter(pl.col("model") == "rnn").iter_rows(named=True)
        }
        for entry in read_ledger(folder)
        if (digest := entry.files["predictions"].get(str(NEWEST))) in by_digest
    }
    for publication, body in set.union(*(reader.answers for reader in readers)):
        row = json.loads(body)
        source = expected[publication][row["ticker"]]
        for name in ("model_version", "p_sell", "p_hold", "p_buy", "score", "rank"):
            assert row[name] == source[name], (publication, name)
    assert memory[1] - memory[0] <= 10e6, f"memory grew from {memory[0] / 1e6:.1f} to {memory[1] / 1e6:.1f} MB"


# ---------------------------------------------------------------- a publisher that is killed


@pytest.fixture(scope="module")
def forked() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stock_assets_tests.serving.swapping"])
    return context


def killed_publisher(folder: Path, at: int) -> None:
    """Publishes turn 1 in a process that ends without a word at its step of that number, counted from 0.

    A step is before a file is written, when half of it lies aside, and when it is renamed.
    """
    done = 0

    def step() -> None:
        nonlocal done
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    write_file, rename = objects.write_file, Path.replace

    def counted_write(path: Path, content: bytes) -> None:
        step()
        write_file(path, content)
        step()

    def counted_rename(path: Path, target: Path) -> Path:
        if done == at:
            os.truncate(path, path.stat().st_size // 2)  # it is half-written
        step()
        return rename(path, target)

    objects.write_file, Path.replace = counted_write, counted_rename
    publish_turn(folder, 1)


#: One file of predictions, the entry of the ledger, the pointer: three steps each.
KILLS = 9


def test_a_publisher_that_is_killed_at_any_step_leaves_the_old_or_the_new_answer(
    tmp_path: Path, forked: ForkServerContext
):
    path = f"/v1/predictions/{TICKERS[3]}"
    seen = []
    for at in range(KILLS + 1):
        data_dir = tmp_path / str(at)
        folder = data_dir / "published"
        published_folder(folder, sessions=SESSIONS[-2:], tickers=TICKERS)
        publish_turn(folder, 0)
        ask = asker(data_dir)
        old = ask(path).json()
        process = forked.Process(target=killed_publisher, args=(folder, at))
        process.start()
        process.join(HANG_SECONDS)
        assert process.exitcode == (-signal.SIGKILL if at < KILLS else 0), "every step is killed once, and no other"
        ask.app.state.current.look()
        answered = ask(path).json()
        if answered["publication"] == old["publication"]:
            assert answered == old
        else:
            assert answered["model_version"] == TURNS[1]
        seen.append(answered["publication"] != old["publication"])
        fresh = asker(data_dir)  # a server that starts now
        assert fresh(path).json() == answered
        assert fresh("/readyz").json()["status"] == "ready"
        publish_turn(folder, 1)
        ask.app.state.current.look()
        assert ask(path).json()["model_version"] == TURNS[1], "the next attempt completes it"
        assert not list(folder.rglob(".tmp-*"))
        assert [entry.reason for entry in read_ledger(folder)][-1] == "swap 1"
    assert seen == [False] * (KILLS - 1) + [True] * 2, "new from the moment on in which the pointer is renamed"


# ---------------------------------------------------------------- a form that cannot be read


def test_another_major_version_keeps_the_old_publication_and_readyz_says_so(tmp_path: Path):
    folder = tmp_path / "published"
    published_folder(folder, tickers=TICKERS)
    ask = asker(tmp_path)
    old = ask(f"/v1/predictions/{TICKERS[0]}").json()
    kept = (folder / POINTER).read_text()
    publish_turn(folder, 1)
    newer = (folder / POINTER).read_text()
    other = json.loads(newer) | {"schema": [2, 0]}
    (folder / POINTER).write_text(json.dumps(other))
    ask.app.state.current.look()
    assert ask(f"/v1/predictions/{TICKERS[0]}").json() == old
    ready = ask("/readyz")
    assert ready.status_code == 200, "it can still answer"
    assert ready.json()["status"] == "degraded"
    assert "form 2.0" in ready.json()["degraded"]
    assert ready.json()["publication"] == json.loads(kept)["entry"]
    (folder / POINTER).write_text(newer)
    ask.app.state.current.look()
    assert ask(f"/v1/predictions/{TICKERS[0]}").json()["model_version"] == TURNS[1]
    assert ask("/readyz").json()["degraded"] is None
