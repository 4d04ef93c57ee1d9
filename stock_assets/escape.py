"""Text from outside, made harmless for the place where it is shown: one function per place.

A vendor, a file, a web page or a model registry may put anything into a name or a message. What is stored stays as it
came; it is escaped where it goes out. Messages of our own errors pass `lines` (`StockAssetsError.__str__`).

| place | function |
|---|---|
| a log, plain text in the UI, a picture | `one_line` |
| a message of several lines, on a terminal or in an alert | `lines` |
| Markdown, which Dagster's UI renders | `markdown` |
| rich's markup on a terminal | `terminal` |
| an HTML page of jinja2, which escapes the markup itself | `html_value` |
"""

import re

#: What stands for a character that cannot be seen: ESC, NUL, marks that turn the direction of text, half a surrogate.
UNSEEN = "\N{REPLACEMENT CHARACTER}"
#: Longer text is cut in a cell of a table.
LONGEST_CELL = 200

#: Begins or ends something in Markdown wherever it stands; an underscore between two letters does not.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~!$#{}]|(?<![^\W_])_|_(?![^\W_])")
#: Begins a list, a quotation, a heading or a rule where a line begins.
_BLOCK = re.compile(r"^(?:[-+=]|\d+(?=[.)]))")
#: GitHub's Markdown makes links of these, also where their characters are escaped: a word joiner, unseen, divides them.
_AUTOLINK = re.compile(r":(?=//)|(?<=www)(?=\.)|@", re.IGNORECASE)
_WORD_JOINER = "\N{WORD JOINER}"


def one_line(text: object) -> str:
    """`text` on one line of characters that can be seen.

    >>> one_line("Red\\x1b[31m\\nHat")
    'Red�[31m Hat'
    """
    line = str(text)
    if line.isprintable():  # the pages of one graph have a million characters
        return line
    return "".join(char if char.isprintable() else " " if char.isspace() else UNSEEN for char in line)


def lines(text: object) -> str:
    """As `one_line`, with its line breaks.

    >>> lines("first\\nsecond\\0")
    'first\\nsecond�'
    """
    return "\n".join(map(one_line, str(text).split("\n")))


def shortened(text: str, longest: int = LONGEST_CELL) -> str:
    """The first `longest` characters of `text`, and an ellipsis where there were more."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def markdown(text: object) -> str:
    """`text` as Markdown that shows it as it is: no image, link, HTML, code, heading or end of a cell comes of it.

    >>> print(markdown("![x](/graphql?query=mutation)|_a_ trained_rnn"))
    \\!\\[x\\](/graphql?query=mutation)\\|\\_a\\_ trained_rnn
    """
    escaped_text = _MARKUP.sub(r"\\\g<0>", shortened(one_line(text).strip()))
    escaped_text = _BLOCK.sub(
        lambda start: f"\\{start[0]}" if not start[0].isdigit() else f"{start[0]}\\", escaped_text
    )
    return _AUTOLINK.sub(lambda match: f"{match[0]}{_WORD_JOINER}", escaped_text)


#: Backslashes before a bracket that opens no tag of rich's markup.
_BACKSLASH_BEFORE_NO_TAG = re.compile(r"(\\+)\[(?![a-z#/@][^\[]*?\])")


def terminal(text: object) -> str:
    """`text` for a console of rich that reads markup: its brackets and control characters are shown.

    >>> terminal("[bold]\\x1b]0;title")
    '\\\\[bold]�]0;title'
    """
    from rich.markup import escape

    # rich leaves these as they are, and reads them as a bracket without the backslash
    return escape(_BACKSLASH_BEFORE_NO_TAG.sub(r"\1\\[", lines(text)))


def html_value(value: object) -> object:
    """A value of a jinja2 template, which escapes it afterwards; markup of the template's own stays as it is."""
    return lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
