"""Serves the screens: each is rendered once per publication, and a page that refreshes costs next to nothing."""

from collections.abc import Callable
from datetime import datetime
from json import dumps
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from stock_assets.errors import PublicationError
from stock_assets.publication.read import Publication
from stock_assets.serving.pages import screens
from stock_assets.serving.pages.alerts import OpenAlerts, read_alerts
from stock_assets.serving.pages.announcements import announcements_view
from stock_assets.serving.pages.api import ApiFigures, api_view
from stock_assets.serving.pages.rendering import HEADERS, Moment, Page, Pages, assets, html, names
from stock_assets.serving.pages.signals import signals_view
from stock_assets.serving.pages.ticker import chart_data, ticker_view
from stock_assets.serving.pages.today import today_view

Make = Callable[[Moment, str], Page]
Respond = Callable[[Request, Make], Response]


def make_pages(
    current: Callable[[], Publication | None],
    clock: Callable[[], datetime],
    *,
    alerts: Callable[[], OpenAlerts] | None = None,
    figures: Callable[[], ApiFigures] | None = None,
) -> APIRouter:
    """The router of the dashboard. `current` returns what is published now, None before anything was; a request asks
    it once. `clock` is aware. `alerts` reads the open alerts (of the publication's folder where it is not given);
    `figures` are those of the screen API."""
    router, pages = APIRouter(include_in_schema=False), Pages()

    def moment() -> Moment:
        publication = current()
        rows = alerts() if alerts else read_alerts(publication.folder) if publication else OpenAlerts()
        return Moment(publication, rows, clock(), pages.views)

    def respond(request: Request, make: Callable[[Moment, str], Page], *, is_cached: bool = True) -> Response:
        at = moment()
        address = f"{request.url.path}?{request.url.query}"
        return respond_with(
            request, at, lambda: pages.get(address, at, lambda etag: make(at, etag)) if is_cached else make(at, "")
        )

    def screen(
        title: str, template: str, view: Callable[[Moment], Any], *, is_cached: bool = True
    ) -> Callable[..., Any]:
        def answer(request: Request) -> Response:
            def make(at: Moment, etag: str) -> Page:
                values = {"view": view(at), "card_address": "/models/", "base": str(request.base_url).rstrip("/")}
                return html(template, at, etag, title=title, here=request.url.path, **values)

            return respond(request, make, is_cached=is_cached)

        return answer

    def api_figures(at: Moment) -> Any:
        return api_view(figures, at.now)

    for address, answer in {
        "/": screen("Today", "today", lambda at: today_view(at.publication, at.alerts, at.now)),
        "/signals": screen("Signals", "signals", lambda at: signals_view(at.publication)),
        "/skill": screen("Live skill", "skill", lambda at: screens.skill_screen(at.publication)),
        "/inputs": screen("Inputs and drift", "inputs", lambda at: screens.inputs_screen(at.publication)),
        "/models": screen("Models", "models", lambda at: screens.models_screen(at.publication)),
        "/announcements": screen("Announcements", "announcements", lambda at: announcements_view(at.publication)),
        "/paper": screen("Paper account", "paper", lambda at: screens.paper_screen(at.publication)),
        "/api": screen("API", "api", api_figures, is_cached=False),
        "/models/{version:path}": lambda request: respond(request, _card(request.path_params["version"])),
        "/ticker": lambda request: _search(request, respond),
        "/ticker/{ticker:path}": lambda request: respond(request, _ticker(request.path_params["ticker"])),
        "/chart/{ticker:path}": lambda request: respond(request, _chart(request.path_params["ticker"])),
        "/assets/{digest}/{name}": _asset,
    }.items():
        router.add_route(address, answer, methods=["GET", "HEAD"], include_in_schema=False)
    return router


def respond_with(request: Request, at: Moment, make: Callable[[], Page]) -> Response:
    """The page that `make` makes, or why it cannot be shown."""
    try:
        page = make()
    except PublicationError as error:
        page = _trouble(at, str(error).replace(f"{at.publication.folder}/", "") if at.publication else str(error))
    return _response(request, page)


def _trouble(at: Moment, text: str, *, heading: str = "This page cannot be shown", status: int = 503) -> Page:
    """What is shown instead of a page: the reason. It is not kept."""
    bare = Moment(None, at.alerts, at.now) if status == 503 else at  # a damaged file may be one of the layout's
    return html("trouble", bare, "", title=heading, here="", status=status, heading=heading, text=text)


def _response(request: Request, page: Page) -> Response:
    headers = {**HEADERS, **({"ETag": page.etag} if page.etag and page.status == 200 else {})}
    tags = request.headers.get("if-none-match", "")
    if "ETag" in headers and page.etag in (tag.strip() for tag in tags.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(page.content, page.status, headers, media_type=page.kind)


def _card(version: str) -> Make:
    def make(at: Moment, etag: str) -> Page:
        view = screens.card_screen(at.publication, version)
        if view is None:
            text = f"No card of {version} is published."
            return _trouble(at, text, heading="No such version", status=404)
        return html("card", at, etag, title=view.version, here="/models", view=view)

    return make


def _ticker(ticker: str) -> Make:
    def make(at: Moment, etag: str) -> Page:
        view = at.once(ticker, lambda publication: ticker_view(publication, ticker))
        if view is None:
            text = f"No published session names {ticker}."
            return _trouble(at, text, heading="No such ticker", status=404)
        return html("ticker", at, etag, title=view.ticker, here="/ticker", view=view)

    return make


def _chart(ticker: str) -> Make:
    def make(at: Moment, etag: str) -> Page:
        view = at.once(ticker, lambda publication: ticker_view(publication, ticker))
        if view is None:
            return Page(b'{"sessions":[]}', etag, 404, "application/json")
        return Page(dumps(chart_data(view), separators=(",", ":")).encode(), etag, kind="application/json")

    return make


def _search(request: Request, respond: Respond) -> Response:
    """Every ticker by sector, or those that the query `q` is part of; a query that is one ticker leads to it."""
    query = request.query_params.get("q", "").strip()

    def make(at: Moment, etag: str) -> Page:
        rows = _matches(at.publication, query)
        if query and len(rows) == 1:
            return Page(rows[0][0].encode(), etag, 303)
        groups = screens.by_sector(at.publication, rows)
        heading = f"Tickers like {query}" if query else "Tickers"
        text = f"No ticker or name contains {query}." if query else "No ticker is published yet."
        return html("tickers", at, etag, title=heading, here="/ticker", heading=heading, groups=groups, text=text)

    response = respond(request, make)
    if response.status_code == 303:
        ticker = bytes(response.body).decode()
        return RedirectResponse(f"/ticker/{quote(ticker, safe='')}", 303, HEADERS)
    return response


def _matches(publication: Publication | None, query: str) -> list[tuple[str, str | None]]:
    """(ticker, name) of those that `query` is part of; of the ticker alone where it is one."""
    rows, text = names(publication), query.casefold()
    exact = [row for row in rows if row[0].casefold() == text]
    return exact or [row for row in rows if text in row[0].casefold() or text in (row[1] or "").casefold()]


def _asset(request: Request) -> Response:
    """A file of the dashboard. Its address changes with its content, so a browser may keep it."""
    content, kind = assets()[1].get(request.path_params["name"], (b"", ""))
    if not kind:
        return Response("no such file", 404, HEADERS, media_type="text/plain")
    keep = "public, max-age=31536000, immutable" if request.path_params["digest"] == assets()[0] else "no-cache"
    return Response(content, 200, {**HEADERS, "Cache-Control": keep}, media_type=kind)
