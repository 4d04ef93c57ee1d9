"""How the cost of training grows with tickers and years.

    python -m benchmarks.training_scale [--sizes 125x2,250x4,498x8] [--networks deepar,rnn_classifier,rnn]

Every network on tickers x years of the same panel, the last years before the cutoff, each in a process of its own. The
exponent is the slope of log seconds over log rows, by least squares: 1 is linear. An epoch of every network has a
largest number of segments, so that a large panel costs less than its rows; the preparation of the panel, the ridges
and the judging of an epoch see all of them. What does not grow with the rows flattens the slope, least so between the
two largest.
"""

import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import Target, fill, preamble, set_workload, table, targets, use
from benchmarks.common import workload_parser as parser_of
from benchmarks.learning import NETWORKS, Learned, Material, in_own_process, known_labels, learn
from stock_assets.market.calendar import calendar_of
from stock_assets.storage.warehouse import Warehouse


class Size(NamedTuple):
    tickers: int
    years: int

    @classmethod
    def of(cls, text: str) -> "Size":
        """From `TICKERSxYEARS`."""
        tickers, years = text.split("x")
        return cls(int(tickers), int(years))


def sizes_of(text: str) -> list[Size]:
    """From `125x2,250x4,498x8`. Raises ValueError for fewer than three, which fit any slope."""
    sizes = [Size.of(part) for part in text.split(",")]
    if len(sizes) < 3:
        raise ValueError(f"{len(sizes)} size(s); expected three or more")
    return sizes


def networks_of(text: str) -> list[str]:
    """From `rnn,deepar`. Raises ValueError for an unknown one."""
    networks = text.split(",")
    if unknown := set(networks) - set(NETWORKS):
        raise ValueError(f"no network {', '.join(sorted(unknown))}; expected some of {', '.join(NETWORKS)}")
    return networks


def exponent(rows: list[int], cost: list[float]) -> float:
    """The slope of log cost over log rows."""
    return float(np.polyfit(np.log(rows), np.log(cost), 1)[0])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", type=sizes_of, default="125x2,250x4,498x8", help="tickers x years, three or more")
    parser.add_argument("--networks", type=networks_of, default=",".join(NETWORKS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_workload(options, folder)
        config = use(folder / "store")
        fill(config, calendar_of(config).sessions)
        cutoff = calendar_of(config).before(date(options.end.year, 1, 1), 1)[0]
        material = Material.of(Warehouse(config.database), cutoff)
        print(scale(material, cutoff, options.sizes, options.networks, folder), flush=True)


def scale(material: Material, cutoff: date, sizes: list[Size], networks: list[str], folder: Path) -> str:
    """The tables and the targets, as Markdown."""
    rows: list[int] = []
    trainings_of: dict[str, list[Learned]] = {network: [] for network in networks}
    for size in sizes:
        part = material.part(size.tickers, cutoff - timedelta(days=round(365.25 * size.years)))
        rows.append(part.labels.height)
        part.write(folder)
        known_labels(part).write_parquet(folder / "known.parquet")
        del part
        for network in networks:
            trainings_of[network].append(in_own_process(learn, network, folder, cutoff))
    text = "Each a whole training; targets with repeats.\n\n"
    header = ("network", "tickers x years", "labels", "seconds", "targets, thousands", "peak memory, MiB")
    text += table(
        header,
        [
            [
                network,
                f"{size.tickers} x {size.years}",
                labels,
                training.seconds,
                round(sum(epoch.targets for epoch in training.epochs) / 1000),
                round(training.memory / 2**20),
            ]
            for network, trainings in trainings_of.items()
            for size, labels, training in zip(sizes, rows, trainings, strict=True)
        ],
    )
    goals = []
    for network, trainings in trainings_of.items():
        seconds = [training.seconds for training in trainings]
        goals += [
            Target(f"{network}: exponent of the seconds", exponent(rows, seconds), 1.1),
            Target(f"{network}: between the two largest", exponent(rows[-2:], seconds[-2:]), 1.1),
        ]
    return text + "\n" + targets(*goals)


if __name__ == "__main__":
    preamble()
    main()
