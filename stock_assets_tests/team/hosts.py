"""Hosts of one network on this machine: network namespaces around a bridge, each with an address of its own."""

import ctypes
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from stock_assets_tests.team.postgres import Server, running_server
from stock_assets_tests.team.s3 import S3, Proxy, running_proxy, running_s3

#: The bucket of a team's objects.
BUCKET = "stocks"

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = itertools.count(1)


def refusal() -> str | None:
    """Why this machine makes no network namespaces, in one line; None where it does."""
    name = f"sa{os.getpid()}try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except FileNotFoundError:
        return "`ip` is not installed (Debian: apt-get install iproute2)"
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.decode().strip()}"
    return None


@dataclass
class Host:
    """A namespace; its processes are those that are started inside `within()`."""

    name: str
    address: str
    link: str
    """the end of its link at the bridge, in the namespace `bridge`"""
    bridge: str
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @contextmanager
    def within(self) -> Iterator[None]:
        """This thread is on the host: what it starts and connects, and none of the process's other threads."""
        with Path("/proc/thread-self/ns/net").open() as before, Path("/run/netns", self.name).open() as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """A process on the host, in a session of its own, whose output goes to the end of `log`."""
        with self.within(), log.open("ab") as sink:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def power_off(self) -> None:
        """Every process of the host ends at once, and none can say so."""
        while numbers := _ip("netns", "pids", self.name).split():
            for number in map(int, numbers):
                with suppress(ProcessLookupError):  # it ended with its parent
                    os.kill(number, signal.SIGKILL)
            for process in self.processes:
                process.wait()
        self.processes.clear()

    def cut(self) -> None:
        """What is sent to the host and from it is lost, and no side is told."""
        _ip("-n", self.bridge, "link", "set", self.link, "down")

    def connect(self) -> None:
        """The end of `cut`."""
        _ip("-n", self.bridge, "link", "set", self.link, "up")


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """A host for each name, which reach each other and nothing else; nothing of them is left afterwards.

    The network is the machine's own: it has the same addresses in every test, and no other network sees them.
    """
    prefix = f"sa{os.getpid()}x{next(_NUMBERS)}"
    bridge = f"{prefix}-bridge"
    hosts: list[Host] = []
    try:
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "middle", "type", "bridge")
        _ip("-n", bridge, "link", "set", "middle", "up")
        for place, name in enumerate(names, start=1):
            host = Host(f"{prefix}-{name}", f"10.77.0.{place}", f"to{place}", bridge)
            _ip("netns", "add", host.name)
            hosts.append(host)
            _ip("-n", host.name, "link", "add", "eth0", "type", "veth", "peer", "name", host.link, "netns", bridge)
            _ip("-n", bridge, "link", "set", host.link, "master", "middle", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.name, "link", "set", device, "up")
        yield hosts
    finally:
        for host in hosts:
            host.power_off()
            _ip("netns", "delete", host.name)
        with suppress(subprocess.CalledProcessError):  # it was not made
            _ip("netns", "delete", bridge)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True).stdout.decode()


@contextmanager
def running_services(host: Host) -> Iterator[tuple[Server, S3, Proxy]]:
    """On `host` what a team shares: Postgres with the empty database `dagster`, and S3 with an empty BUCKET behind a
    proxy that other hosts reach."""
    with ExitStack() as stack:
        with host.within():
            postgres = stack.enter_context(running_server())
            s3 = stack.enter_context(running_s3())
            proxy = stack.enter_context(running_proxy(s3, "0.0.0.0"))
            postgres.database("dagster")
            assert s3.request("PUT", f"/{BUCKET}") == 200
        yield postgres, s3, proxy
