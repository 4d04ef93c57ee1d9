"""Two threads that decide about one model as fast as they can: one rolls back, one promotes what was judged.

A process of its own runs it as `python -m stock_assets_tests.lifecycle.deciding STORE URI ARTIFACTS ROUNDS SEED` and
prints what it decided.
"""

import json
import random
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.champions import Promotion, champion_at
from stock_assets.lifecycle.materialize.champions import read_promotions, record_verdicts, rollback, trained_versions
from stock_assets.storage.registry import MlflowRegistry, Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import BASE, CALENDAR, NEWER, NEWEST, NEXT, NOW

VERSIONS = (BASE, NEWER, NEWEST)


def decide(store: Warehouse, registry: Registry, *, rounds: int, seed: int) -> list[str]:
    """Decides `rounds` times in each of two threads; the reasons of the decisions that were accepted, all different.

    A decision that is refused, because its version serves already or another was quicker, is no decision.
    """
    accepted: list[str] = []
    failures: list[BaseException] = []

    def roll_back(number: int, chance: random.Random) -> None:
        reason = f"rollback {seed}.{number}"
        named = {"model": "rnn", "to": chance.choice(VERSIONS), "reason": reason}
        with suppress(StockAssetsError):
            rollback(store, registry, CALENDAR, now=NOW + timedelta(minutes=number), **named)
            accepted.append(reason)

    def promote(number: int, chance: random.Random) -> None:
        trained = trained_versions(store)
        champion = champion_at(read_promotions(store), trained, "rnn", session=NEXT)
        version = chance.choice([other for other in VERSIONS if other != champion])
        reason, now = f"promotion {seed}.{number}", NOW + timedelta(minutes=number)
        verdict = Promotion("rnn", version, 2019, NEXT, now, "champion", "judged", champion, reason)
        kept, _ = record_verdicts(store, registry, [verdict], versions=trained)
        accepted.extend(promotion.reason for promotion in kept)

    def loop(act, name: str) -> None:
        chance = random.Random(f"{seed} {name}")
        try:
            for number in range(rounds):
                act(number, chance)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=loop, args=(act, act.__name__)) for act in (roll_back, promote)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return accepted


if __name__ == "__main__":
    path, uri, artifacts, rounds, seed = sys.argv[1:]
    print(
        json.dumps(
            decide(Warehouse(Path(path)), MlflowRegistry(uri, Path(artifacts)), rounds=int(rounds), seed=int(seed))
        )
    )
