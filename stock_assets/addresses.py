"""Addresses that may hold a secret: what of them may be shown."""

import re
from urllib.parse import urlsplit

#: Stands for what is not shown.
HIDDEN = "(hidden)"
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")


def redacted(address: str) -> str:
    """`address` without its user, path, query and fragment, each of which may be a password or a token.

    Only http(s) has a host that is no secret: of another scheme, and of an address that is malformed, no more than the
    scheme stays. A file is shown whole.

    >>> redacted("https://user:password@hooks.example.com:8443/services/T0/B0/token?key=1")
    'https://hooks.example.com:8443/(hidden)'
    >>> redacted("slack://token_a/token_b"), redacted("hooks.example.com/token"), redacted("http://host:5000")
    ('slack://(hidden)', '(hidden)', 'http://host:5000')
    """
    scheme, separator, remainder = address.strip().partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", scheme):
        return HIDDEN
    if scheme == "sqlite" and "@" not in remainder:
        return address
    host = _host(address.strip()) if scheme.lower() in ("http", "https") else None
    if host is None:
        return f"{scheme}://{HIDDEN}"
    return f"{scheme}://{host}" + (f"/{HIDDEN}" if remainder.rstrip("/").lower() != host else "")


def scrubbed(text: str, address: str) -> str:
    """`text` without `address` and without each part of it that may be a secret, such as of an error that quotes it.

    >>> scrubbed("404 for url: http://host/token?key=1", "http://host/token")
    '404 for url: http://host/(hidden)?key=1'
    """
    text = text.replace(address, redacted(address)).replace(address.rstrip("/"), redacted(address))
    public_address = redacted(address).lower()
    for part in sorted({*re.split(r"[^\w.~%+-]+", address), *re.split(r"[/?#&=@:]+", address)}, key=len, reverse=True):
        if len(part) > 3 and part.lower() not in public_address:
            text = text.replace(part, HIDDEN)
    return text


def _host(address: str) -> str | None:
    """The host with its port, lowercase; None where the address is malformed, as then a secret may stand there."""
    try:
        parts = urlsplit(address)
        host, port = parts.netloc.rpartition("@")[2], parts.port
    except ValueError:
        return None
    name = host.removesuffix(f":{port}") if port is not None else host
    # an unescaped / or ? in a password ends the host too early
    if not _HOST.fullmatch(name) or "@" in parts.path + parts.query + parts.fragment:
        return None
    return host.lower()


def http_address(host: str, port: int) -> str:
    """The address of a server that listens on `host` and `port`.

    >>> http_address("127.0.0.1", 8000), http_address("::1", 8000)
    ('http://127.0.0.1:8000/', 'http://[::1]:8000/')
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
