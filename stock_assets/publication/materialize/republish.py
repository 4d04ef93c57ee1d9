"""Another version for what is served tonight: the newest predicted session, predicted again and published again."""

from dataclasses import dataclass
from datetime import datetime

from stock_assets.files import locked
from stock_assets.lifecycle.materialize.republish import PredictedAgain, predict_newest_again
from stock_assets.publication.materialize.publish import Published, publish_sessions
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.targets import make_target_weights


@dataclass(frozen=True)
class Republished:
    """What `republish` left behind."""

    again: PredictedAgain
    published: Published

    @property
    def text(self) -> str:
        """What serves now, and where that is published, in one sentence."""
        reason = self.again.reason or f"no other version serves {self.again.session}"
        return f"{reason}; published as {self.published.pointer.entry}"


def republish(
    store: Warehouse, settings: Settings, registry: Registry, *, now: datetime, model: str | None = None
) -> Republished:
    """Has the version that the alias or the newest decision names serve the newest predicted session, at once.

    The decisions and the session's rows are one transaction (`predict_newest_again`); then the session is published, as
    a new entry of the ledger beside the one before. A second call changes nothing, and completes what a killed one left
    out. `model` limits it to the decision about one model. The targets of the books follow the new predictions, where
    they are made. Raises as `predict_newest_again` and `publish_sessions`.
    """
    # of two at once, the second reads the rows that the first has written, and publishes after it
    with locked(store.path.parent / ".republish.lock"):
        new_prediction = predict_newest_again(store, settings, registry, now=now, model=model)
        if store.last_session("target_weights") == new_prediction.session:
            make_target_weights(store, settings, [new_prediction.session])
        new_publication = publish_sessions(
            store, settings, [new_prediction.session], registry=registry, now=now, reason=new_prediction.reason
        )
    return Republished(new_prediction, new_publication)
