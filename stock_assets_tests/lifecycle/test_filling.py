"""What is missing as runs: few, complete, and never before what they read."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.lifecycle.filling import works_in_turn
from stock_assets.lifecycle.partitions import MOST_RANGES

DAYS = [f"d{number:02d}" for number in range(40)]
SETS: list[Sequence[str] | None] = [None, DAYS, DAYS[:-3], DAYS[10:], ["2025", "2026"]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Sequence[str] | None], dict[str, list[str]], dict]:
    """(keys, upstream, targets) of a graph in flow order: any asset may be there already, or in part."""
    names = [f"a{number}" for number in range(draw(st.integers(1, 12)))]
    keys = {name: draw(st.sampled_from(SETS)) for name in names}
    upstream = {
        name: sorted(draw(st.sets(st.sampled_from(names[:place]), max_size=3))) if place else []
        for place, name in enumerate(names)
    }
    targets: dict[str, Sequence[str] | None] = {}
    for name, of_asset in keys.items():
        kind = draw(st.sampled_from(["all", "none", "some"]))
        if kind == "all" or (kind == "some" and of_asset is None):
            targets[name] = of_asset
        elif kind == "some" and of_asset is not None:
            targets[name] = sorted(draw(st.sets(st.sampled_from(list(of_asset)), min_size=1)))
    return keys, upstream, targets


@given(graphs())
@settings(derandomize=True, deadline=None, max_examples=150)
def test_every_target_is_made_once_and_never_before_what_it_reads(graph):
    keys, upstream, targets = graph
    works = works_in_turn(targets, keys, upstream, reason="why")
    for name, chosen in targets.items():
        places = [place for place, work in enumerate(works) if name in work.assets]
        read = [place for parent in upstream[name] for place, work in enumerate(works) if parent in work.assets]
        if chosen is None:
            assert len(places) == 1
            assert all(place <= places[0] for place in read)
            continue
        runs = [works[place] for place in places]
        made = [key for run in runs for key in keys[name] or () if run.first <= key <= run.last]
        assert made == sorted(set(made)), "no key twice"
        assert set(chosen) <= set(made)
        assert set(chosen) == set(made) or len(runs) == 1, "what is there is made again only where the gaps are many"
        later = [works[other] for place in places for other in read if other > place]
        assert all(name in work.assets for work in later), "of what it reads, a later stretch of the same runs alone"


def test_a_graph_of_one_set_is_one_run():
    keys = {"universe": None, "bars": DAYS, "model": None, "components": DAYS}
    upstream = {"bars": ["universe"], "model": ["bars"], "components": ["bars", "model"]}
    (work,) = works_in_turn(keys, keys, upstream, reason="why")
    assert work.assets == tuple(keys)
    assert (work.first, work.last, work.reason) == (DAYS[0], DAYS[-1], "why")


def test_many_gaps_are_one_stretch():
    gaps = DAYS[::2]
    assert len(gaps) > MOST_RANGES
    (work,) = works_in_turn({"bars": gaps}, {"bars": DAYS}, {}, reason="why")
    assert (work.first, work.last) == (gaps[0], gaps[-1])
