"""A rendered page, what it depends on, and the files beside it."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar, cast

from stock_assets.pages.templates import SHARED, render
from stock_assets.publication.layout import digest_of
from stock_assets.publication.read import Publication
from stock_assets.serving.pages.alerts import OpenAlerts

PACKAGE = "stock_assets.serving.pages"
#: Rendered pages that are kept, and views that two of them share.
KEPT, KEPT_VIEWS = 64, 8
T = TypeVar("T")
#: The files of the dashboard: where each lies, and its type.
ASSETS = {
    "style.css": (SHARED, "style.css", "text/css"),
    "pages.js": (PACKAGE, "static/pages.js", "text/javascript"),
    "ticker.js": (PACKAGE, "static/ticker.js", "text/javascript"),
    "uPlot.iife.min.js": (PACKAGE, "static/uPlot.iife.min.js", "text/javascript"),
    "uPlot.min.css": (PACKAGE, "static/uPlot.min.css", "text/css"),
    "icon.svg": (PACKAGE, "static/icon.svg", "image/svg+xml"),
}
SCREENS = (
    ("/", "Today"),
    ("/signals", "Signals"),
    ("/skill", "Live skill"),
    ("/inputs", "Inputs"),
    ("/models", "Models"),
    ("/ticker", "Tickers"),
    ("/api", "API"),
)
#: Those of a market of bars.
BAR_SCREENS = (("/", "Running session"),)
#: Screens that are named where their table is published, before the last of SCREENS.
OPTIONAL = {"announcements": ("/announcements", "Announcements"), "paper_equity": ("/paper", "Paper account")}
#: No inline script, nothing from another origin; a page cannot be framed.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, max-age=0, must-revalidate",
}


@dataclass(frozen=True)
class Page:
    """A rendered page."""

    content: bytes
    etag: str
    status: int = 200
    kind: str = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Moment:
    """What one request is answered from."""

    publication: Publication | None
    alerts: OpenAlerts
    now: datetime
    views: "OrderedDict[tuple[object, ...], object]" = field(default_factory=OrderedDict, compare=False, repr=False)
    """the last views that two addresses share"""

    def once(self, name: str, make: Callable[[Publication], T]) -> T | None:
        """The view that `make` makes of the publication, made once for several addresses; None without a session."""
        if self.publication is None or not self.publication.pointer.sessions:
            return None
        key = (name, self.publication.folder, self.publication.pointer.entry)
        if key not in self.views:
            self.views[key] = make(self.publication)
            while len(self.views) > KEPT_VIEWS:
                self.views.popitem(last=False)
        return cast("T", self.views[key])

    @property
    def key(self) -> tuple[object, ...]:
        """What a page depends on besides its address: the publication, the alerts and how far the calendar is."""
        if self.publication is None:
            return (None, self.alerts.digest)
        facts = self.publication.pointer.facts
        grace = timedelta(seconds=facts.grace_seconds)
        passed_moments = sum(
            moment <= self.now for up in facts.upcoming for moment in (up.closes_at, up.due_at, up.due_at + grace)
        )
        return (self.publication.pointer.entry, self.alerts.digest, passed_moments)


@dataclass(frozen=True)
class Pages:
    """Renders pages and keeps the last ones."""

    made: "OrderedDict[tuple[object, ...], Page]" = field(default_factory=OrderedDict)
    views: "OrderedDict[tuple[object, ...], object]" = field(default_factory=OrderedDict)

    def get(self, address: str, moment: Moment, make: Callable[[str], Page]) -> Page:
        """The page of `address`; `make` renders it with its tag where it is not kept."""
        key = (address, *moment.key)
        page = self.made.get(key)
        if page is None:
            page = self.made[key] = make(f'W/"{digest_of(repr((assets()[0], *key)).encode())}"')
            while len(self.made) > KEPT:
                self.made.popitem(last=False)
        return page


@cache
def assets() -> tuple[str, dict[str, tuple[bytes, str]]]:
    """(digest of them all, by name the content and the type) of the dashboard's files and templates."""
    contents = {
        name: (files(package).joinpath(path).read_bytes(), kind) for name, (package, path, kind) in ASSETS.items()
    }
    templates = (files(package).joinpath(folder) for package, folder in ((PACKAGE, "templates"), (SHARED, ".")))
    texts = [path.read_bytes() for folder in templates for path in folder.iterdir() if path.name.endswith(".j2")]
    return digest_of(b"".join([content for content, _ in contents.values()] + sorted(texts))), contents


def html(
    template: str,
    at: Moment,
    etag: str,
    *,
    title: str,
    here: str,
    status: int = 200,
    bars: Any = None,
    **values: Any,
) -> Page:
    """The page that `template` makes of `values` within the layout; `here` is the screen that the navigation marks.
    `bars` is what the layout says of a market of bars (`pages.bars.Market`), which has a screen of its own."""
    pointer = at.publication.pointer if at.publication else None
    content = render(
        f"{template}.html.j2",
        f"{PACKAGE}.templates",
        title=title,
        here=here,
        etag=etag,
        assets=f"/assets/{assets()[0]}",
        screens=screens_of(at.publication) if bars is None else BAR_SCREENS,
        bars=bars,
        facts=pointer and pointer.facts,
        entry=pointer and pointer.entry,
        tickers=names(at.publication),
        **values,
    )
    return Page(content.encode(), etag, status)


def screens_of(publication: Publication | None) -> tuple[tuple[str, str], ...]:
    """The screens that the navigation leads to: the paper account once one is published."""
    monitoring_files = publication.pointer.files["monitoring"] if publication else {}
    return (*SCREENS[:-1], *(screen for name, screen in OPTIONAL.items() if name in monitoring_files), *SCREENS[-1:])


def names(publication: Publication | None) -> list[tuple[str, str | None]]:
    """(ticker, name) of the newest session, sorted: those with a bar or with a row of a prediction."""
    if publication is None or not publication.pointer.sessions:
        return []
    session = publication.pointer.sessions[-1]
    bars = publication.bars(session).select("ticker", "name")
    rows = {**dict.fromkeys(publication.predictions(session)["ticker"]), **dict(bars.iter_rows())}
    return sorted(rows.items())
