"""The application: what is published in a folder, over HTTP.

    app = make_app(settings, clock=lambda: datetime.now(UTC))

Every router is mounted here, and here alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from stock_assets.serving import health, problems
from stock_assets.serving.current import Current
from stock_assets.serving.days import DamagedFile
from stock_assets.serving.description import described
from stock_assets.serving.edge import mount_edge
from stock_assets.serving.envelope import Envelope
from stock_assets.serving.on_demand.route import mount_on_demand
from stock_assets.serving.pages.alerts import read_alerts
from stock_assets.serving.pages.api import figures_of
from stock_assets.serving.pages.router import make_pages
from stock_assets.serving.routes import batch, history, models, monitoring, predictions, publications, sessions
from stock_assets.settings import Settings

#: What answers of daily publications.
DAILY = (predictions, batch, history, sessions, models, monitoring, publications)
#: Threads that read older sessions and tables, beside the event loop.
THREADS = 4
TITLE = "stock_assets"
ABOUT = (
    "What is published of every session: who said what, when and why. The server answers nothing else than what was "
    "asked: `status` says why a prediction is absent, and every error is a problem of RFC 9457."
)


def make_app(settings: Settings, *, clock: Callable[[], datetime]) -> FastAPI:
    """The API over the folder of what `settings` publish. `clock` is asked for the time, aware.

    What is published is read at once, so that a server which accepts connections can answer; while the application
    runs, it follows the pointer. `app.state.current` holds what is served.
    """
    current = Current(settings.published, clock)
    current.look()

    @asynccontextmanager
    async def follow(_app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "stock_assets"))
        watcher = asyncio.create_task(current.watch())
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    app = FastAPI(
        title=TITLE,
        description=ABOUT,
        version="1",
        lifespan=follow,
        redirect_slashes=False,
        docs_url=None,  # both load their scripts from a server of somebody else
        redoc_url=None,
    )
    app.state.current, app.state.settings = current, settings
    problems.handle_problems(app)
    app.add_exception_handler(DamagedFile, _answer_damaged)
    mount(app)
    mount_edge(app, settings, current)
    mount_on_demand(app)
    app.add_middleware(Envelope)  # outside of all others
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    return app


def mount(app: FastAPI) -> None:
    """Every router of the application, each with its own file or folder; at an interval below a day that of bars
    first."""
    if app.state.settings.interval != "1d":
        from stock_assets.serving.bars import answer_of_days, mount_bars

        mount_bars(app, app.state.current, app.state.settings.interval)
        answer_of_days(app, (part.router for part in DAILY), app.state.settings.interval)
        lives = APIRouter(routes=[route for route in health.router.routes if route.path != "/readyz"])  # pyright: ignore[reportAttributeAccessIssue]
        app.include_router(lives)
    else:
        for part in (*DAILY, health):
            app.include_router(part.router)
    app.add_route(problems.PAGE, _errors_page, include_in_schema=False)
    current: Current = app.state.current
    app.include_router(
        make_pages(
            lambda: current.served and current.served.publication,
            current.clock,
            alerts=lambda: read_alerts(current.folder, trouble=current.trouble),
            figures=lambda: figures_of(app.state.metrics.registry.collect()),
        )
    )


async def _errors_page(_request: Request) -> Response:
    return Response(problems.page(), 200, media_type="text/markdown")


async def _answer_damaged(request: Request, error: Exception) -> Response:
    assert isinstance(error, DamagedFile)
    return problems.Problem("damaged-publication", str(error), file=error.file).response(request.scope["path"])
