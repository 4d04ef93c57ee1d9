"""Whatever text comes from outside, it is shown as it is: by a CommonMark parser, a terminal and an HTML parser."""

import doctest
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from markdown_it import MarkdownIt
from rich.console import Console

from stock_assets import escape
from stock_assets.cli.output import frame_table
from stock_assets.defs import checks, tables
from stock_assets.errors import SourceError, StockAssetsError
from stock_assets.evaluation import plots
from stock_assets.evaluation.report import page_template
from stock_assets.frames import markdown_table
from stock_assets.market.sources import Failure
from stock_assets.pages import templates

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
#: What GitHub's Markdown turns into a link in the text of a paragraph after everything else is parsed
#: (mdast-util-gfm-autolink-literal, which Dagster's UI uses).
AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)", re.IGNORECASE),
    re.compile(r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)"),
)

LIVE = [
    "![x](/graphql?query=mutation{launchRun})",
    "[x](javascript:alert(1))",
    "[x]: http://evil.test",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<!-- x -->",
    "<http://evil.test>",
    "http://evil.test/a and www.evil.test or Who@evil.test",
    "HTTPS://EVIL.TEST",
    "`code`",
    "```\nfence",
    "a | b",
    "a \\| b",
    "a \\",
    "\\\\[x](y)",
    "# heading",
    "heading\n===",
    "heading\n---",
    "- list",
    "+ list",
    "1. list",
    "2) list",
    "> quoted",
    "    indented code",
    "***",
    "___",
    "*emphasis* _too_ __strong__ ~~gone~~ intra_word_name",
    "&lt;b&gt; &#33;[x](y) &copy;",
    "line\n\n![x](y)",
    "line\r\n| a | b |\r\n| - | - |",
    "| a |",
    "| --- |",
    "[^1] and [^1]: note",
    "$x$ \\(y\\)",
    "\x1b]0;title\x07\x1b[31mred",
    "nul\0nul",
    "\u202egnp.exe\u2066",
    "half \ud800 a surrogate",
    "line\u2028separator\x85next",
    "x" * 300,
]
#: Text of characters that mean something, and any text.
TEXT = st.lists(st.sampled_from([*"![]()<>`*_~|\\#-+=>&;:/.@\n\t 1)a", "http://", "www.", "<b>", "x"])).map("".join)
ANY = TEXT | st.text()


def examples(test):
    for text in LIVE:
        test = example(text)(test)
    return settings(deadline=None)(test)  # the first parse of a template or a style takes longer


def shown(text: str) -> str:
    """What a reader is to see of `text`."""
    return " ".join(escape.shortened(escape.one_line(text).strip()).split(" "))


def plain(inline, text: str) -> None:
    """Fails unless the parsed `inline` is nothing but `text`."""
    assert {child.type for child in inline.children} <= {"text"}
    seen = "".join(child.content for child in inline.children)
    assert seen.replace("\N{WORD JOINER}", "") == text.replace("\N{WORD JOINER}", "")
    assert not [link for pattern in AUTOLINKS for link in pattern.findall(seen)]


@given(ANY)
@examples
def test_markdown_shows_any_text_as_it_is(text: str):
    source = escape.markdown(text)
    assert "\n" not in source
    tokens = PARSER.parse(source)
    if not source:
        assert not tokens
        return
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    plain(tokens[1], shown(text))


@given(ANY)
@examples
def test_a_cell_of_a_table_stays_one_cell(text: str):
    stored = text.encode(errors="replace").decode()  # a frame holds no half of a surrogate
    frame = pl.DataFrame({f"x{stored}": [stored, "end"], "second": [1.0, 2.0]})
    tokens = PARSER.parse(markdown_table(frame))
    kinds = [token.type for token in tokens if token.type != "inline"]
    assert (kinds.count("th_open"), kinds.count("td_open")) == (2, 4)
    assert all(re.match(r"(table|thead|tbody|tr|th|td)_(open|close)", kind) for kind in kinds)
    cells = [token for token in tokens if token.type == "inline"]
    expected = [f"x{stored}", "second", stored, "1", "end", "2"]
    for cell, text_of_cell in zip(cells, expected, strict=True):
        plain(cell, shown(text_of_cell))


@given(ANY)
@examples
def test_one_line_is_one_line_that_can_be_seen(text: str):
    line = escape.one_line(text)
    assert len(line) == len(text)
    assert line.isprintable()
    assert escape.one_line(line) == line
    assert [char for char in line if char.isalnum()] == [char for char in text if char.isalnum()]
    assert escape.lines(text).count("\n") == text.count("\n")
    assert escape.lines(text).replace("\n", "").isprintable()


@given(ANY)
@examples
@example("\\[")
@example("\\\\[x")
def test_a_terminal_shows_any_text_as_it_is(text: str):
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=10_000, emoji=False)
    text = text.rstrip("\\")  # rich doubles those before an end, for the markup that may follow
    console.print(escape.terminal(text), highlight=False, soft_wrap=True)
    assert console.file.getvalue() == escape.lines(text) + "\n"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("text", LIVE)
def test_a_row_of_query_stays_one_row(text: str):
    stored = text.encode(errors="replace").decode()
    console = Console(file=io.StringIO(), width=20_000)
    console.print(frame_table(pl.DataFrame({f"name{stored}": [stored, "end"]})))
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(said.splitlines()) == 6
    assert all(char.isprintable() or char == "\n" for char in said)
    assert escape.one_line(stored).strip() in said


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(f"{tag} {attrs}")

    def handle_comment(self, data: str) -> None:
        self.tags.append(f"comment {data}")

    def handle_data(self, data: str) -> None:
        self.text += data


@given(ANY)
@examples
def test_html_shows_any_text_as_it_is(text: str):
    environment: Environment = page_template("report.html.j2").environment
    assert environment.autoescape is True
    for name, package in (
        ("operations.html.j2", "stock_assets.lifecycle"),
        ("layout.html.j2", "stock_assets.serving.pages.templates"),
    ):
        assert templates.page_template(name, package).environment.autoescape is True
    page = environment.from_string('<p title="{{ text }}">{{ text }}</p>').render(text=text)
    parser = _Html()
    parser.feed(page)
    parser.close()
    assert parser.tags == [f"p {[('title', escape.lines(text))]}"]
    assert parser.text == escape.lines(text)


def test_macros_of_a_page_stay_markup():
    environment: Environment = page_template("report.html.j2").environment
    page = environment.from_string("{% macro bold(x) %}<b>{{ x }}</b>{% endmacro %}{{ bold('<i>') }}{{ 1.5 }}{{ 2 }}")
    assert page.render() == "<b>&lt;i&gt;</b>1.52"


def test_our_errors_quote_nothing_that_cannot_be_seen():
    for kind in (StockAssetsError, *StockAssetsError.descendants()):
        assert kind.__str__ is StockAssetsError.__str__
    assert str(SourceError("\x1b[31mred\nsecond")) == f"{SourceError('�[31mred')}\nsecond"


def test_the_reason_of_a_vendor_is_one_line():
    assert Failure("no\x1b[31m\nnews").reason == "no�[31m news"


def test_previews_and_samples_of_checks_are_escaped():
    rows = pl.DataFrame({"ticker": ["AAA"], "sector": [LIVE[0]]})
    preview = tables.preview(rows)
    assert isinstance(preview, dg.MarkdownMetadataValue)
    assert "image" not in str(PARSER.parse(str(preview.value)))
    found = checks.result("universe", "named", rows.rename({"sector": "reason"}), blocking=False)
    sample = found.metadata["sample"]
    assert isinstance(sample, dg.MarkdownMetadataValue)
    assert "image" not in str(PARSER.parse(str(sample.value)))
    picture = tables.picture(b"png", "](x) ![y](z")
    assert isinstance(picture, dg.MarkdownMetadataValue)
    (inline,) = (token for token in PARSER.parse(str(picture.value)) if token.type == "inline")
    assert [child.type for child in inline.children or []] == ["image"]


PACKAGE = Path(escape.__file__).parent


def test_no_template_trusts_a_value_and_no_other_file_makes_markdown_of_one():
    for template in PACKAGE.rglob("*.j2"):
        assert not re.search(r"\|\s*safe|autoescape", template.read_text()), template
    makers = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if ".md(" in path.read_text()}
    # those of tuning are sentences about a configuration of ours, that of bars is a table of names and figures of ours
    assert makers == {"defs/tables.py", "defs/bars.py", "defs/checks.py", "defs/tuning.py"}


def test_a_sector_of_dollars_is_drawn():
    sectors = pl.DataFrame({"sector": [r"$\frac$", "Bio\0tech"], "accuracy": [0.4, 0.5]})
    tickers = sectors.with_columns(ticker=pl.Series(["AAA", "BBB"]))
    assert plots.accuracy_by_sector(tickers, sectors).startswith(b"\x89PNG")


def test_the_examples_hold():
    results = doctest.testmod(escape)
    assert results.attempted
    assert not results.failed
