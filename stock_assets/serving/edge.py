"""What stands around the routes: the guard, the limits, the metrics, and the protocols of other servers' clients."""

from fastapi import FastAPI

from stock_assets.serving import metrics
from stock_assets.serving.current import Current
from stock_assets.serving.guard import OPEN, ApiGuard
from stock_assets.serving.limits import Limited, RateLimits
from stock_assets.serving.metrics import Measured, Metrics
from stock_assets.serving.protocols import routes
from stock_assets.serving.tokens import TokenFile
from stock_assets.settings import Settings

#: Requests a minute that a token may make where the setting is unset.
PER_MINUTE = 6000


def mount_edge(app: FastAPI, settings: Settings, current: Current) -> None:
    """Adds the routes of this side to `app`, and stands in front of all of them.

    Raises SettingsError for a file of tokens that cannot be used.
    """
    tokens = None if settings.api_tokens is None else TokenFile(settings.api_tokens)
    if tokens is not None:
        tokens.tokens()
    app.state.metrics = Metrics(current)
    app.include_router(metrics.router)
    app.include_router(routes.router)
    per_minute = settings.api_rate_limit
    if per_minute is None:
        per_minute = 0 if tokens is None else PER_MINUTE
    # the last that is added is asked first
    if per_minute:
        app.add_middleware(Limited, limits=RateLimits(per_minute), free=OPEN)
    app.add_middleware(ApiGuard, tokens=tokens, names=settings.ui_names)
    app.add_middleware(Measured, metrics=app.state.metrics)
