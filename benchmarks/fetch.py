"""Fetching from Yahoo: our client against a plain loop over yfinance, from a vendor on this machine.

    python -m benchmarks.fetch [--tickers 100] [--latency 0.05 0.2] [--threads 4]

The vendor speaks Yahoo's chart protocol in a process of its own and answers each request after the latency. The loop is
`yf.Ticker(ticker).history(start, end, auto_adjust=False, actions=True)` for one ticker after the other. Ours asks
without its pace of 2 requests a second, which would be all there is to measure.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import warnings
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.common import preamble, table

DECADE = date(2016, 1, 4), date(2025, 12, 31)


class Measured(NamedTuple):
    seconds: float
    requests: int
    memory: float
    """peak of the process, MiB"""
    rows: int


def vendor(tickers: list[str], first: date, latency: float, pipe: Connection) -> None:
    """Serves until the pipe says something; then tells how many requests there were."""
    from stock_assets.market.calendar import trading_calendar
    from stock_assets_tests.market.vendor import Reply, Vendor, chart, plain_history, serving

    sessions = trading_calendar("XNYS", *DECADE).between(first, DECADE[1])
    bars = plain_history(sessions)
    reply = Reply(200, chart("T", bars, {"period1": ["0"], "period2": ["9999999999"]}))
    with serving(Vendor(dict.fromkeys(tickers, reply), latency=latency)) as yahoo:
        pipe.send(yahoo.url)
        pipe.recv()
        pipe.send(len(yahoo.requests))


def ours(url: str, tickers: list[str], first: date, threads: int) -> int:
    from stock_assets.market.calendar import trading_calendar
    from stock_assets.market.sources.budget import Budget, Politeness
    from stock_assets.market.sources.yahoo import YahooSource

    budget = Budget(Politeness(per_second=1e6, threads=threads))
    source = YahooSource(trading_calendar("XNYS", *DECADE), None, url, budget=budget)
    answer = source.fetch(tickers, first, DECADE[1], fetched_at=datetime.combine(DECADE[1], datetime.min.time(), UTC))
    assert not answer.failures, answer.failures
    return answer.bars.height


def loop(url: str, tickers: list[str], first: date, threads: int) -> int:
    from urllib.parse import urlsplit

    import yfinance as yf
    from curl_cffi.requests import Session

    warnings.simplefilter("ignore")  # yfinance's import switches its own on
    base = urlsplit(url)

    class Redirected(Session):
        cookie: Any = None

        def request(self, method: Any, url: str, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            parts = urlsplit(url)
            if parts.path in ("", "/") and self.cookie is not None:
                return self.cookie  # yfinance keeps Yahoo's cookie on disk, and that of another host not
            here = parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()
            answer = super().request(method, here, **options)
            if parts.path in ("", "/"):
                self.cookie = answer
            return answer

    assert threads == 1
    session = Redirected()
    frames = [
        yf.Ticker(ticker, session=session).history(
            start=first, end=DECADE[1] + timedelta(days=1), auto_adjust=False, actions=True
        )
        for ticker in tickers
    ]
    return sum(map(len, frames))


def measured(who: str, tickers: int, first: date, latency: float, threads: int) -> Measured:
    """One side, in a process of its own."""
    names = [f"T{i:03d}" for i in range(tickers)]
    here, worker_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=vendor, args=(names, first, latency, worker_end), daemon=True
    )
    server.start()
    request = json.dumps({"who": who, "url": here.recv(), "tickers": names, "first": str(first), "threads": threads})
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.fetch", "--worker", request],
            env={**os.environ, "NO_PROXY": "127.0.0.1", "XDG_CACHE_HOME": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    here.send("enough")
    requests = here.recv()
    server.join()
    figures = json.loads(answer.stdout)
    return Measured(figures["seconds"], requests, figures["memory"], figures["rows"])


def work(request: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    side = {"ours": ours, "loop": loop}[request["who"]]
    side(
        request["url"], request["tickers"][:1], date.fromisoformat(request["first"]), request["threads"]
    )  # imports, the cookie
    start = time.perf_counter()
    rows = side(request["url"], request["tickers"], date.fromisoformat(request["first"]), request["threads"])
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "rows": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=100)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.2], help="seconds")
    parser.add_argument("--threads", type=int, default=4, help="ours alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return

    preamble()
    rows = []
    for stretch, first in (("ten years", DECADE[0]), ("an evening", DECADE[1] - timedelta(days=40))):
        for latency in options.latency:
            plain = measured("loop", options.tickers, first, latency, 1)
            mine = measured("ours", options.tickers, first, latency, options.threads)
            assert mine.rows == plain.rows
            for name, side in (("plain loop", plain), (f"ours, {options.threads} threads", mine)):
                rows.append(
                    (
                        f"{stretch}, {1000 * latency:g} ms, {name}",
                        options.tickers / side.seconds,
                        plain.seconds / side.seconds,
                        side.requests / (options.tickers + 1),  # one more to warm up
                        side.memory,
                    )
                )
    print(f"{options.tickers} tickers.\n")
    print(table(("", "tickers per second", "times the loop", "requests per ticker", "peak memory, MiB"), rows))


if __name__ == "__main__":
    main()
