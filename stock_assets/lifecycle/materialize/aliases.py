"""The aliases of the model registry: they mirror what the table `promotions` decided."""

from collections.abc import Sequence

from stock_assets.errors import ArtifactError, RegistryError
from stock_assets.lifecycle.champions import CHALLENGER_ALIAS, CHAMPION_ALIAS, MIRROR_ALIAS, Promotion
from stock_assets.storage.registry import Registry


def mirror(registry: Registry, promotions: Sequence[Promotion]) -> list[str]:
    """Sets the aliases of `promotions`, which the table holds already, in their order; returns what could not be set.

    A version that was never registered gets no alias and serves all the same. Raises RegistryError when the registry
    does not answer.
    """
    try:
        return [
            message
            for promotion in promotions
            for message in set_aliases(
                registry,
                promotion.model,
                promotion.version,
                aliases=(CHAMPION_ALIAS, MIRROR_ALIAS) if promotion.outcome == "champion" else (CHALLENGER_ALIAS,),
            )
        ]
    except RegistryError as error:
        raise RegistryError(
            f"{error}. The decision is in the table promotions and holds; the aliases follow with the next predictions"
        ) from error


def set_aliases(
    registry: Registry, model: str, version: str, *, aliases: Sequence[str] = (CHAMPION_ALIAS, MIRROR_ALIAS)
) -> list[str]:
    """Sets `aliases`, in this order; returns a sentence where the version was never registered."""
    try:
        for alias in aliases:
            registry.set_alias(model, alias, version)
    except ArtifactError as error:
        return [f"{error}; it has no alias, which does not change what serves"]
    return []
