"""Calls to servers of others end in time, take little memory, and show no secret, whatever the other side does."""

import resource
from contextlib import suppress

import pytest

from stock_assets import outgoing
from stock_assets.addresses import redacted, scrubbed
from stock_assets.errors import OutgoingError
from stock_assets.outgoing import call, notify
from stock_assets_tests.servers import drip_body, drip_header, flood, listening, silence, talking
from stock_assets_tests.waiting import HANG_SECONDS

SECRET = "hush-token"


@pytest.fixture(autouse=True)
def _a_busy_machine_may_take_long_to_start_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "START_SECONDS", HANG_SECONDS)


@pytest.mark.parametrize("talk", [silence, drip_header, drip_body])
def test_a_server_that_takes_its_time_is_left_in_time(talk):
    scheme = "https" if talk is silence else "http"
    with talking(talk) as port, pytest.raises(OutgoingError, match="did not answer") as caught:
        call("GET", f"{scheme}://127.0.0.1:{port}/{SECRET}", seconds=0.3, most_bytes=10**6)
    assert SECRET not in str(caught.value)
    assert "TimeoutExpired" not in str(caught.value), "it was ended from within"


@pytest.mark.parametrize("talk", [drip_header, drip_body, silence])
def test_a_service_behind_apprise_is_left_in_time(talk):
    with talking(talk) as port, pytest.raises(OutgoingError, match=r"json:// did not answer in 0\.3 s"):
        notify(f"json://127.0.0.1:{port}/{SECRET}", "title", "text", seconds=0.3)


def test_a_flood_is_not_read():
    with talking(flood) as port:
        assert call("POST", f"http://127.0.0.1:{port}", message={}).status == 200
        with pytest.raises(OutgoingError, match="TooLong"):
            call("GET", f"http://127.0.0.1:{port}", most_bytes=10**6)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        with suppress(OutgoingError):  # ended by its limit of memory
            notify(f"json://127.0.0.1:{port}/", "title", "text", seconds=10)
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 600_000), "kB: it had its limit"


def test_an_answer_is_read_up_to_its_bound_and_a_redirect_only_for_a_body():
    with listening(body=b"x" * 1000) as server:
        assert call("GET", server.url, most_bytes=1000).body == b"x" * 1000
        with pytest.raises(OutgoingError, match="TooLong"):
            call("GET", server.url, most_bytes=999)
        assert call("GET", server.url).body == b""
        with listening(status=302, headers={"Location": server.url}) as moved:
            assert call("POST", moved.url, message={}).status == 302
            assert call("GET", moved.url, most_bytes=1000).status == 200
    with listening(status=302, headers={"Location": "/again"}) as circle:
        with pytest.raises(OutgoingError, match="TooManyRedirects"):
            call("GET", circle.url, most_bytes=1000)
        assert len(circle.asked) < 40


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{SECRET}@host:8443/path",
        f"https://host/services/{SECRET}",
        f"https://host?token={SECRET}",
        f"https://host#{SECRET}",
        f"https://user:pa/{SECRET}@host/",
        f"https://user:pa?{SECRET}@host/",
        f"https://user:{SECRET}:8@host:port/",
        f"https//user:{SECRET}@host",
        f"https:/user:{SECRET}@host",
        f"htp://user:{SECRET}@host",
        f"user:{SECRET}@host",
        f"slack://{SECRET}/b/c",
        f"https://{SECRET}!@/",
        f"http://[{SECRET}",
        f"://{SECRET}",
        f"sqlite://user:{SECRET}@/file",
        SECRET,
    ],
)
def test_no_address_shows_its_secret(address: str):
    assert SECRET not in redacted(address)
    assert SECRET not in scrubbed(f"Max retries exceeded with url: {address} (Caused by {SECRET})", address)


def test_a_call_to_a_malformed_address_keeps_the_secret():
    with pytest.raises(OutgoingError, match=r"\(hidden\) did not answer \(InvalidSchema\)") as caught:
        call("GET", f"user:{SECRET}@host/{SECRET}")
    assert SECRET not in f"{caught.value}{caught.value.__context__}"
