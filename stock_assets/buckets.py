"""Requests to a bucket of S3 or Google Cloud Storage, by obstore, and what its refusals mean.

Endpoint, region and credentials come from the environment that obstore reads: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their like, or GOOGLE_SERVICE_ACCOUNT. None of them is part of an error.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from stock_assets.addresses import redacted
from stock_assets.errors import BucketError, StockAssetsError

SCHEMES = ("s3", "gs")
#: Seconds of one request, of the connection that it needs, and of all its tries.
REQUEST_SECONDS, CONNECT_SECONDS, ALL_TRIES_SECONDS = 120.0, 5.0, 180.0
#: Tries after the first: of a request that was not answered, and of an answer of 429 or 500 and more. The waits between
#: them grow from the first to the longest, with chance in them: a server that restarts is waited for, 12 s at least and
#: half a minute as a rule.
RETRIES, FIRST_WAIT, LONGEST_WAIT = 12, 1.0, 10.0
#: Variables of the endpoint, the first of which counts.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
}
_RIGHTS = {
    "s3": "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket",
    "gs": "storage.objects.get, create, delete and list",
}
_WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
#: The address at which a machine of a cloud asks who it is: where no key is set, a request begins there.
_OF_THE_MACHINE = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


class Bucket(NamedTuple):
    """A bucket and the service that it is in."""

    scheme: str
    """one of SCHEMES"""
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"


class Version(NamedTuple):
    """What tells the content of an object from an earlier and a later one."""

    e_tag: str | None
    generation: str | None
    """of a bucket that counts its versions, as those of Google Cloud Storage do"""


class Meta(NamedTuple):
    """An object as a listing names it."""

    key: str
    size: int
    changed_at: datetime
    """UTC, by the clock of the server"""


def put(bucket: Bucket, key: str, content: bytes) -> None:
    """Puts `content` in the place of the object: a reader sees the old content or the new. Raises BucketError."""
    with _refusals(bucket, key) as obstore:
        obstore.put(_client(bucket), key, content, use_multipart=False)


def put_if_absent(bucket: Bucket, key: str, content: bytes) -> bool:
    """Whether there was no such object, and now is one of this content. Raises BucketError."""
    with _refusals(bucket, key) as obstore:
        try:
            obstore.put(_client(bucket), key, content, mode="create", use_multipart=False)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            return False
        return True


def replace_if(bucket: Bucket, key: str, content: bytes, *, version: Version) -> bool:
    """Whether the object was of that version, and now has this content. Raises BucketError."""
    mode = {"e_tag": version.e_tag, "version": version.generation}
    with _refusals(bucket, key) as obstore:
        try:
            condition = {name: value for name, value in mode.items() if value is not None}
            obstore.put(_client(bucket), key, content, mode=condition, use_multipart=False)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError, FileNotFoundError):
            return False
        return True


def get(bucket: Bucket, key: str) -> tuple[bytes, Version]:
    """The content and its version. Raises FileNotFoundError where there is no such object, BucketError."""
    with _refusals(bucket, key) as obstore:
        answer = obstore.get(_client(bucket), key)
        return bytes(answer.bytes()), Version(answer.meta["e_tag"], answer.meta["version"])


def version_of(bucket: Bucket, key: str) -> Version | None:
    """The version of the object; None where there is none. Raises BucketError."""
    with _refusals(bucket, key) as obstore:
        try:
            meta = obstore.head(_client(bucket), key)
        except FileNotFoundError:
            return None
        return Version(meta["e_tag"], meta["version"])


def listed(bucket: Bucket, prefix: str) -> Iterator[Meta]:
    """The objects whose key begins with `prefix` and a slash, ascending. Raises BucketError."""
    with _refusals(bucket, prefix) as obstore:
        for chunk in obstore.list(_client(bucket), prefix or None, chunk_size=1000):
            yield from (Meta(meta["path"], meta["size"], meta["last_modified"]) for meta in chunk)


def delete(bucket: Bucket, key: str) -> None:
    """Removes the object, if there is one. Raises BucketError."""
    with _refusals(bucket, key) as obstore:
        try:
            obstore.delete(_client(bucket), key)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise


def require_library() -> None:
    """Raises StockAssetsError where obstore is not installed."""
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        raise StockAssetsError(
            "a bucket is named, and obstore is not installed: pip install 'stock_assets[team]'"
        ) from error


def _client(bucket: Bucket) -> Any:
    # a process that was forked needs connections of its own, and a changed environment other ones
    variables = tuple(
        sorted((name, value) for name, value in os.environ.items() if name.startswith(("AWS_", "GOOGLE_")))
    )
    return _client_of(bucket, os.getpid(), hash(variables), seconds=REQUEST_SECONDS, retries=(RETRIES, FIRST_WAIT))


@lru_cache(maxsize=8)
def _client_of(bucket: Bucket, _process: int, _variables: int, *, seconds: float, retries: tuple[int, float]) -> Any:
    from obstore.store import GCSStore, S3Store

    allow_http = endpoint().startswith("http://") or os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
    make = S3Store if bucket.scheme == "s3" else GCSStore
    return make(
        bucket.name,
        client_options={
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, seconds)),
            "timeout": timedelta(seconds=seconds),
        },
        retry_config={
            "max_retries": retries[0],
            "retry_timeout": timedelta(seconds=ALL_TRIES_SECONDS),
            "backoff": {
                "init_backoff": timedelta(seconds=retries[1]),
                "max_backoff": timedelta(seconds=LONGEST_WAIT),
                "base": 2,
            },
        },
    )


def endpoint() -> str:
    """The server of S3 that the environment names; empty for Amazon's."""
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")


@contextmanager
def _refusals(bucket: Bucket, key: str) -> Iterator[Any]:
    """obstore; a refusal inside is one line. That an object is absent stays FileNotFoundError, which names it."""
    require_library()
    import obstore
    import obstore.exceptions

    place = f"{bucket}/{key}"
    try:
        yield obstore
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise FileNotFoundError(2, "no such object", place) from None
        raise BucketError(_meaning(bucket, place, str(error))) from None
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        # neither its text nor the error itself: they quote the request, whose address may hold a password
        raise BucketError(_meaning(bucket, place, f"{error} {error!r}")) from None


def _meaning(bucket: Bucket, place: str, text: str) -> str:
    """What an error of obstore about `place` means, in one line without a part of the request."""
    status, code = _first(r"status code: (\d{3})", text), _first(r"<Code>(\w{1,64})</Code>", text)
    answer = " ".join(filter(None, (status, code)))
    server = f"the server {redacted(endpoint())}" if bucket.scheme == "s3" and endpoint() else f"{bucket.scheme}://"
    tries = f"tried {int(_first(r'after ([0-9]+) retries', text) or 0) + 1} times"
    server_time = _first(r"<ServerTime>([0-9:TZ.+-]{10,40})</ServerTime>", text)
    kind = _first(r"kind: (\w{1,32})", text) or "unknown"
    name, keys = bucket.name, _KEYS[bucket.scheme]
    meanings = (
        (
            any(address in text for address in _OF_THE_MACHINE),
            f"no credentials are set, and this machine has none of its own; set {keys}",
        ),
        (
            code == "RequestTimeTooSkewed",
            f"{server} refuses the time of the request: the clock of this machine differs by many minutes from its own"
            f"{server_time and f' ({server_time})'}; set the clock (timedatectl, chronyc tracking)",
        ),
        (
            code in _WRONG_KEY or status == "401",
            f"{server} does not accept the credentials ({answer}); correct {keys}",
        ),
        (
            status == "403",
            f"{server} refuses access ({answer}); give its key the rights {_RIGHTS[bucket.scheme]} on {bucket}",
        ),
        (code == "NoSuchBucket", f"there is no bucket {name} at {server}; make it, or correct the address"),
        (
            code in _WRONG_REGION or "incorrectly configured region" in text,
            f"the bucket {name} lies in another region; set AWS_REGION to it",
        ),
        (
            status.startswith("5") or status == "429",
            f"{server} answered {answer}, {tries}; look at its health and try again",
        ),
        (status, f"{server} answered {answer}; expected a server of S3 or GCS at that address"),
        (
            "Timeout" in text or "timed out" in text,
            f"{server} did not answer within {REQUEST_SECONDS:g} s, {tries}; try again when it does",
        ),
        ("dns error" in text, f"{server} is no host that is known here; correct {_ENDPOINTS[1]}, or look at its name"),
        ("BadScheme" in text, f"{server} would be asked without TLS; expected https://, or AWS_ALLOW_HTTP=true"),
        (True, f"{server} cannot be reached ({kind}), {tries}; look at the network and at {_ENDPOINTS[1]}"),
    )
    return f"{place}: {next(meaning for holds, meaning in meanings if holds)}"


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
