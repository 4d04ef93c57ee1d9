"""The tear sheet: every section of it, also of books that never traded, and nothing from outside as markup."""

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from stock_assets.trading.figures import SECTIONS
from stock_assets.trading.findings import TearSheetInputs
from stock_assets.trading.tear_sheet import TearSheet, make_tear_sheet, render_index, render_tear_sheet
from stock_assets.trading.trials import Trials
from stock_assets_tests.trading.sheets import SCRIPT, SMALL_LONG, SMALL_SHORT, inputs_of


class Page(HTMLParser):
    """The headings, ids and tags of a page, and tags that are never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@dataclass(frozen=True)
class Replay:
    """What the page shows of a replay."""

    rows: pl.DataFrame
    changed_bars: int
    changed_versions: int
    by_bars: float = 1.0
    by_models: float = 2.0


@pytest.fixture(scope="module")
def whole() -> TearSheetInputs:
    """A book that earns, with every assumption tried."""
    return inputs_of(SMALL_SHORT, 160, 24, frontier=True)


@pytest.fixture(scope="module")
def sheet(whole: TearSheetInputs) -> TearSheet:
    return make_tear_sheet(whole)


@pytest.fixture(scope="module")
def page(sheet: TearSheet) -> str:
    return render_tear_sheet(sheet, others=["long_only", "long_short"])


def test_the_page_has_every_section_in_order_and_needs_nothing_else(page: str):
    parsed = Page(page)
    assert parsed.open == []
    assert [id for id in parsed.ids if id in SECTIONS] == list(SECTIONS)
    assert set(parsed.addresses) == {*(f"#{id}" for id in SECTIONS), "book_long_only.html", "index.html"}
    assert "script" not in parsed.tags
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import", page)
    assert "SIMULATED" in page


def test_it_opens_with_the_five_figures_of_the_result(sheet: TearSheet, page: str):
    head = ["net Sharpe ratio", "deflated Sharpe ratio", "trials", "break-even cost of a trade", "capacity"]
    assert [figure.name for figure in sheet.figures[:5]] == head
    places = [page.index(f'<span class="name">{name}</span>') for name in head]
    assert places == sorted(places)
    assert places[-1] < page.index('id="result"') < page.index('id="costs"')


def test_every_figure_of_the_table_says_what_it_is(sheet: TearSheet):
    table = sheet.table
    assert table["position"].to_list() == list(range(1, table.height + 1))
    assert table["definition"].str.len_chars().min() > 20  # pyright: ignore[reportOperatorIssue]
    assert table["figure"].n_unique() == table.height
    order = list(SECTIONS.values())
    places = [order.index(section) for section in table["section"]]
    assert places == sorted(places)


def test_figures_are_those_of_the_ledger(whole: TearSheetInputs, sheet: TearSheet):
    value = dict(sheet.table.select("figure", "value").iter_rows())
    net = whole.equity["net_return"].drop_nulls().to_numpy()
    gross, turnover = (
        whole.equity.filter(pl.col("net_return").is_not_null())[name] for name in ("gross_return", "turnover")
    )
    assert value["net Sharpe ratio"] == pytest.approx(net.mean() / net.std(ddof=1) * 252**0.5, rel=1e-9)
    assert value["break-even cost of a trade"] == pytest.approx(gross.mean() / turnover.mean(), rel=1e-9)
    assert value["trials"] == whole.trials.count == whole.backtest["trials"][0]
    assert value["net return"] == pytest.approx(net.mean(), rel=1e-9)
    costs = sum(value[f"cost: {name}"] for name in ("spread", "impact", "commission", "borrow"))
    assert value["gross return"] + costs == pytest.approx(value["net return"], abs=1e-9)
    path = whole.equity["equity"].to_numpy()
    deepest = (path / np.maximum.accumulate(path) - 1).min()
    assert value["deepest drawdown"] == pytest.approx(deepest, rel=1e-9)


def test_the_signal_was_planted_for_the_first_open(sheet: TearSheet):
    by_lag = {figure.name: figure for figure in sheet.figures if figure.name.startswith("rank correlation")}
    assert len(by_lag) == 10
    first, _, *later = by_lag.values()  # the return of a session is that of two pairs of opens
    assert first.low is not None
    assert all(figure.value is not None and figure.value < first.low for figure in later)


def test_what_comes_from_outside_is_text(page: str):
    assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;Energy&lt;/b&gt;" in page


def test_a_model_with_a_name_from_outside_is_text(whole: TearSheetInputs):
    assert SCRIPT not in render_tear_sheet(make_tear_sheet(replace(whole, model=SCRIPT)))


@pytest.mark.parametrize(
    ("book", "sessions", "tickers", "what"),
    [
        (replace(SMALL_LONG, limits=replace(SMALL_LONG.limits, fewest_names=99)), 40, 12, "There was no order."),
        (SMALL_LONG, 1, 12, "No session yet."),
        (SMALL_LONG, 2, 12, "There is no net Sharpe ratio yet"),
        (SMALL_LONG, 40, 1, "No session has ten tickers"),
    ],
    ids=["no trade", "one session", "two sessions", "one ticker"],
)
def test_books_of_which_there_is_little_have_a_page(book, sessions: int, tickers: int, what: str):
    sheet = make_tear_sheet(inputs_of(book, sessions, tickers))
    text = render_tear_sheet(sheet)
    assert what in text
    assert Page(text).open == []
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S))
    assert sheet.table["value"].is_finite().all()


def test_a_losing_book_says_so():
    book = replace(SMALL_LONG, costs=replace(SMALL_LONG.costs, commission=0.01))
    sheet = make_tear_sheet(inputs_of(book, 120, 12, signal=0.0))
    text = render_tear_sheet(sheet)
    assert "Nothing is shown to be left after costs: the interval of the Sharpe ratio lies below 0." in text
    assert Page(text).open == []
    value = dict(sheet.table.select("figure", "value").iter_rows())
    assert value["net return"] < 0
    assert value["record needed"] is None


def test_a_sharpe_ratio_that_luck_explains_is_no_success(whole: TearSheetInputs):
    few, many = Trials(3, 0, 0, 0.001), Trials(3, 10_000, 0, 0.02)
    assert make_tear_sheet(replace(whole, trials=few)).verdict[0] == "usable"
    assert make_tear_sheet(replace(whole, trials=many)).verdict[0] == "late"


def test_the_share_of_the_attainable_is_shown_where_it_is_known(whole: TearSheetInputs):
    sheet = make_tear_sheet(replace(whole, attainable=20.0))
    value = dict(sheet.table.select("figure", "value").iter_rows())
    assert value["share of the attainable"] == pytest.approx(value["net Sharpe ratio"] / 20)


def test_a_replay_shows_both_paths_and_the_price_of_hindsight(whole: TearSheetInputs):
    days = whole.equity["session"].tail(5)
    net = {"as_said": [0.001] * 5, "todays_bars": [0.0011] * 5, "today": [0.0013] * 5}
    replay = Replay(pl.DataFrame({"session": days, **net}), changed_bars=3, changed_versions=40)
    sheet = make_tear_sheet(replace(whole, replay=replay))
    value = dict(sheet.table.select("figure", "value").iter_rows())
    assert value["as predicted each evening"] == pytest.approx(0.001)
    assert value["hindsight of revised bars"] == pytest.approx(0.0001)
    assert value["hindsight of changed models"] == pytest.approx(0.0002)
    assert (value["evenings with revised bars"], value["predictions of other versions"]) == (3, 40)
    assert "as predicted and in hindsight" in render_tear_sheet(sheet)


def test_the_index_links_every_book(sheet: TearSheet):
    text = render_index([sheet], source="simulated")
    assert Page(text).addresses == ["book_long_short.html"]
    assert sheet.verdict[1] in text
