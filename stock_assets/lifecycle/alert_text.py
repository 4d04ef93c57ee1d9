"""What came from outside, harmless in a message: no mention, no hidden link, no control character.

Names, vendor messages and errors go into alerts. The services that show them read markup in plain text.
"""

import re

#: Controls but newline and tab (ESC rings and paints in a terminal), and what turns the direction of a text or hides
#: in it.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c\ufeff\u2028\u2029]")
#: Where markup begins: a mention, a link of Slack or HTML, a link or picture of Markdown.
_MARKUP = re.compile(r"@(?=\w)|<(?=[!@#/\w])|\](?=\()")
#: Stands after it: nobody sees it, and no service reads the markup then.
_BREAK = "\u200b"


def visible(text: str) -> str:
    r"""`text` with every control character as it is written in Python; newlines and tabs stay.

    >>> visible("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def line(text: str) -> str:
    r"""`text` in one line, for a log or a terminal.

    >>> line("two\nlines\x00")
    'two | lines\\x00'
    """
    return visible(" | ".join(text.splitlines()) if "\n" in text else text.replace("\t", " "))


def plain(text: str) -> str:
    """`text` for a service whose markup is unknown: it mentions nobody and holds no link under another text.

    >>> plain("@everyone <!channel> [a](http://b)").replace("\u200b", "·")
    '@·everyone <·!channel> [a]·(http://b)'
    """
    return _MARKUP.sub(lambda match: match[0] + _BREAK, visible(text))


def slack(text: str) -> str:
    """`text` as an incoming webhook of Slack or Mattermost shows it as it is.

    >>> slack("<!channel> a & b").replace("\u200b", "·")
    '&lt;!channel&gt; a &amp; b'
    """
    escaped_text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda match: match[0] + _BREAK, escaped_text)
