"""Which texts are tickers. They become part of addresses, of names of files, of pages and of commands."""

import re
from collections.abc import Iterable

from stock_assets.errors import SourceError
from stock_assets.escape import shortened

#: What a ticker may be. Letters of other scripts are none: they look like those of A to Z, and no vendor uses them.
EXPECTED = "1 to 32 letters (A to Z), digits and . - ^ = / : _ &, with at least one letter or digit"
_TICKER = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9.^=/:_&-]{1,32}", re.DOTALL)


def is_ticker(text: str) -> bool:
    """Whether `text` is spelt as a ticker is.

    >>> [is_ticker(text) for text in ("AAPL", "BRK.B", "^GSPC", "EURUSD=X", "000001.SZ", "BTC/USD")]
    [True, True, True, True, True, True]
    >>> [is_ticker(text) for text in ("", "..", "A B", "<b>", "ＡＡＰＬ", "A" * 33)]
    [False, False, False, False, False, False]
    """
    return _TICKER.fullmatch(text) is not None


def no_tickers(texts: Iterable[str | None]) -> list[str]:
    """Those of `texts` that are no tickers, sorted; nulls are left out."""
    return sorted({text for text in texts if text is not None and not is_ticker(text)})


def require_tickers(texts: Iterable[str | None], place: str) -> None:
    """Raises SourceError that names the first of `texts` that is no ticker, and `place` it came from."""
    if odd_tickers := no_tickers(texts):
        further_tickers = f" ({len(odd_tickers)} such tickers)" if len(odd_tickers) > 1 else ""
        raise SourceError(
            f"{place}: found the ticker {shortened(repr(odd_tickers[0]), 80)}, expected {EXPECTED}{further_tickers}"
        )
