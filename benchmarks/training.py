"""Training speed: targets per second, time to an equal log-loss and peak memory, against GluonTS's DeepAR.

    python -m benchmarks.training [--budget-seconds 600] [--gluonts-python PATH] [--cutoff 2018-12-31]

GluonTS wants pandas < 3 and lives in an environment of its own. PATH is the interpreter of one that has it; without
it, one is made of benchmarks/gluonts-requirements.txt, once, in the user's cache folder (XDG_CACHE_HOME or ~/.cache).
GluonTS trains at the study's configuration for the budget, our networks as they train for a model year, each in a
process of its own and one after the other, on the same tickers, sessions, labels, components and cutoff. What GluonTS
may know and how it is judged: see `gluonts_worker`, which it runs as. GluonTS has all cores, our networks one thread.

A target is a (ticker, session) whose label enters the loss. GluonTS trains on random windows, in which it takes the
loss at every step, so its targets are counted in three ways:

- distinct: different targets of an epoch (50 steps of GluonTS), over its seconds. On a panel of less than a million
  rows windows overlap so often that this flatters us;
- with repeats: each time one enters the loss, as often as windows overlap there. This is what the machine does;
- ever: different targets of the whole training, over its seconds. It falls the longer one trains.

Clocks stand still while an epoch is judged. CPU seconds are those of all cores. The level to reach is the best that
GluonTS did within the budget, once as its own distribution has it and once with two cuts fitted to training rows, which
is the harder level. All are judged on the same validation targets.
"""

import hashlib
import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.common import Target, fill, preamble, set_workload, table, targets, use
from benchmarks.common import workload_parser as parser_of
from benchmarks.learning import (
    NETWORKS,
    Epoch,
    Learned,
    Material,
    in_own_process,
    known_labels,
    learn,
    sampled_validation,
)
from stock_assets.frames import CLASSES, KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.model.config import DeepArConfig
from stock_assets.model.scaling import feature_columns, fit_scaler, standardised
from stock_assets.settings import PROJECT_DIR
from stock_assets.storage.warehouse import Warehouse

REQUIREMENTS = Path(__file__).parent / "gluonts-requirements.txt"
SAMPLE = 20_000  # validation targets that judge every epoch


class GluonTS(NamedTuple):
    """The answer of the worker."""

    learned: Learned  # judged by the distribution as it is
    calibrated: list[float]  # log-loss by epoch with fitted cuts
    threads: int
    versions: dict[str, str]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "GluonTS":
        """From the worker's JSON. Raises RuntimeError where no epoch was over."""
        epochs = [Epoch(*(epoch[name] for name in Epoch._fields)) for epoch in answer["epochs"]]
        if len(epochs) < 2:
            raise RuntimeError("GluonTS finished no epoch within the budget")
        best = min(epoch.log_loss or np.inf for epoch in epochs)
        figures = {name: answer[name] for name in ("seconds", "ever", "memory_before", "memory")}
        training = Learned(network="GluonTS", epochs=epochs, log_loss=best, **figures)
        calibrated = [epoch["calibrated_log_loss"] for epoch in answer["epochs"]]
        return cls(training, calibrated, answer["threads"], answer["versions"])


def gluonts_python(python_path: Path | None) -> Path:
    """An interpreter that has GluonTS: the given one, or that of an environment in the cache, made where it is not.

    Raises SystemExit where it has no GluonTS, or the environment cannot be made.
    """
    if python_path is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
        folder = cache / "stock_assets" / f"gluonts-{digest}"
        python_path = folder / "bin" / "python"
        if not (folder / "made").exists():
            venv.create(folder, clear=True, with_pip=True)
            install = [
                python_path,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                REQUIREMENTS,
            ]
            if subprocess.run(install, check=False).returncode:
                raise SystemExit(f"GluonTS could not be installed from {REQUIREMENTS.name} into {folder}")
            (folder / "made").touch()
    if not python_path.exists():
        raise SystemExit(
            f"--gluonts-python {python_path}: no such file; expected the Python of an environment with GluonTS"
        )
    import_check = subprocess.run(
        [python_path, "-c", "import gluonts.torch"], capture_output=True, text=True, check=False
    )
    if import_check.returncode:
        reason = import_check.stderr.strip().splitlines()[-1]
        raise SystemExit(f"--gluonts-python {python_path}: {reason}; expected what {REQUIREMENTS.name} lists")
    return python_path


def panel_of(
    components: pl.DataFrame,
    labels: pl.DataFrame,
    train: pl.DataFrame,
    *,
    judged_rows: pl.DataFrame,
    clip: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """The arrays that `gluonts_worker` reads: rows of all tickers, one ticker after the other.

    starts, ends, train_lengths int64 [T]: first row, one past the last, and rows up to the last training label, of
    each ticker; sessions datetime64[D] [N]; values float32 [N, F], standardised as our networks have them; labels
    float32 [N], -1, 0, 1 or NaN; judged int64 [V], the validation rows, and truth int64 [V], their classes from 0;
    calibrating and calibrating_truth: as many training rows at most.
    """
    rows = components.sort(KEYS)
    columns = feature_columns(rows)
    mean, std = fit_scaler(rows.join(train.select(KEYS), on=KEYS, how="semi"), columns)
    label = rows.select(KEYS).join(labels.select(*KEYS, "label"), on=KEYS, how="left", maintain_order="left")["label"]
    classes = label.cast(pl.Int64).fill_null(0).to_numpy() - CLASSES[0]
    numbered_rows = rows.select(KEYS).with_row_index("row")

    def row_numbers(keys: pl.DataFrame) -> np.ndarray:
        return numbered_rows.join(keys.select(KEYS), on=KEYS, how="semi")["row"].sort().cast(pl.Int64).to_numpy()

    counts = rows.group_by("ticker", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy()
    starts = np.cumsum(counts) - counts
    trains, judges = row_numbers(train), row_numbers(judged_rows)
    after = np.zeros(rows.height, np.int64)
    after[trains] = trains + 1
    calibrates = np.sort(np.random.default_rng(seed).choice(trains, min(len(judges), len(trains)), replace=False))
    return {
        "starts": starts,
        "ends": starts + counts,
        "sessions": rows["session"].to_numpy().astype("datetime64[D]"),
        "values": standardised(rows, columns, mean=mean, std=std, clip=clip, dtype=np.float32),
        "labels": label.cast(pl.Float32).fill_null(np.nan).to_numpy(),
        "train_lengths": np.maximum(np.maximum.reduceat(after, starts) - starts, 0),
        "judged": judges,
        "truth": classes[judges],
        "calibrating": calibrates,
        "calibrating_truth": classes[calibrates],
    }


def run_gluonts(
    python: Path, folder: Path, panel: dict[str, np.ndarray], *, budget: float, seed: int, batches: int = 50
) -> GluonTS:
    """GluonTS on `panel`, in a process of its own. Raises RuntimeError where it fails."""
    np.savez(folder / "panel.npz", **panel)  # pyright: ignore[reportArgumentType]
    command = [python, "-m", "benchmarks.gluonts_worker", folder / "panel.npz", folder / "answer.json"]
    options = ["--budget-seconds", str(budget), "--seed", str(seed), "--batches", str(batches)]
    worker = subprocess.run([*command, *options], cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    if worker.returncode:
        raise RuntimeError(f"GluonTS ended with {worker.returncode}:\n{worker.stderr[-2000:]}")
    return GluonTS.of(json.loads((folder / "answer.json").read_text()))


def reached(training: Learned, level: float) -> float:
    """Seconds of training until the log-loss was `level` or below; infinite where it never was.

    Where the epochs have no log-loss it is the whole training that reached it, with its judging.
    """
    if all(epoch.log_loss is None for epoch in training.epochs):
        return training.seconds if training.log_loss <= level else np.inf
    return next((e.clock for e in training.epochs if e.log_loss is not None and e.log_loss <= level), np.inf)


class Speeds(NamedTuple):
    """Targets per second."""

    distinct: float
    repeats: float
    ever: float
    distinct_of_cpu: float

    @classmethod
    def of(cls, training: Learned) -> "Speeds":
        """Medians of the epochs; `ever` over all of their seconds."""
        epochs = training.epochs[1:]
        return cls(
            float(np.median([e.distinct / e.seconds for e in epochs])),
            float(np.median([e.targets / e.seconds for e in epochs])),
            training.ever / sum(e.seconds for e in epochs),
            float(np.median([e.distinct / e.cpu for e in epochs])),
        )


def report(gluonts: GluonTS, own_trainings: Sequence[Learned]) -> str:
    """The tables, the curves and the targets, as Markdown."""
    slow = gluonts.learned
    # the fitted cuts alone make a fair forecast of the untrained network: its input is scaled by how often labels move
    best_epoch = 1 + int(np.argmin(gluonts.calibrated[1:]))
    levels = {
        "its best log-loss": (slow.log_loss, reached(slow, slow.log_loss)),
        "that with fitted cuts": (gluonts.calibrated[best_epoch], slow.epochs[best_epoch].clock),
    }
    version_names = ", ".join(f"{name} {number}" for name, number in gluonts.versions.items())
    text = f"{version_names}; GluonTS on {gluonts.threads} threads, our networks on one.\n\n"
    rows = [
        [training.network, len(training.epochs) - 1, training.epochs[-1].clock, *map(round, Speeds.of(training))]
        for training in (slow, *own_trainings)
    ]
    header = ("", "epochs", "seconds", "distinct targets/s", "with repeats", "ever", "distinct, per CPU second")
    text += table(header, rows) + "\n"
    rows = [
        [
            training.network,
            f"{training.log_loss:.4f}",
            *(shown(seconds if training is slow else reached(training, level)) for level, seconds in levels.values()),
            round(training.memory / 2**20),
            round((training.memory - training.memory_before) / 2**20),
        ]
        for training in (slow, *own_trainings)
    ]
    header = (
        "",
        "best log-loss",
        *(f"seconds to {level:.4f}, {level_name}" for level_name, (level, _) in levels.items()),
    )
    text += table((*header, "peak memory, MiB", "of it above libraries and input"), rows) + "\n"
    text += "Log-loss of the validation targets after so many seconds of training:\n\n"
    curves = {
        training.network: [(e.clock, e.log_loss) for e in training.epochs if e.log_loss]
        for training in (slow, *own_trainings)
    }
    curves["GluonTS, fitted cuts"] = [(e.clock, loss) for e, loss in zip(slow.epochs, gluonts.calibrated, strict=True)]
    text += "".join(
        f"- {name}: {', '.join(f'{loss:.4f} ({clock:.0f} s)' for clock, loss in curve)}\n"
        for name, curve in curves.items()
        if curve
    )
    return text + "\n" + targets(*(goal for training in own_trainings for goal in goals(slow, training, levels)))


def shown(seconds: float) -> str:
    return f"{seconds:.1f}" if np.isfinite(seconds) else "never"


def goals(slow: Learned, training: Learned, levels: dict[str, tuple[float, float]]) -> list[Target]:
    """The issue's, of one of our networks. A level that was never reached is 0 times faster."""
    name, fast, slow_speeds = training.network, Speeds.of(training), Speeds.of(slow)
    return [
        Target(
            f"{name}: times the distinct targets per second", fast.distinct / slow_speeds.distinct, 50, at_least=True
        ),
        Target(f"{name}: the same of the whole training (ever)", fast.ever / slow_speeds.ever, 50, at_least=True),
        Target(f"{name}: the same with repeats", fast.repeats / slow_speeds.repeats, 50, at_least=True),
        *(
            Target(f"{name}: times faster to {level_name}", seconds / reached(training, level), 10, at_least=True)
            for level_name, (level, seconds) in levels.items()
        ),
        Target(f"{name}: peak memory over GluonTS's", training.memory / slow.memory, 1),
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--budget-seconds", type=float, default=600.0, help="of training for GluonTS (default: 600)")
    parser.add_argument("--gluonts-python", type=Path, metavar="PATH", help="default: an environment in the cache")
    parser.add_argument("--cutoff", type=date.fromisoformat, help="default: the last session before the last year")
    options = parser.parse_args()
    python = gluonts_python(options.gluonts_python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_workload(options, folder)
        config = use(folder / "store")
        fill(config, calendar_of(config).sessions)
        cutoff = options.cutoff or calendar_of(config).before(date(options.end.year, 1, 1), 1)[0]
        material = Material.of(Warehouse(config.database), cutoff)
        compare(python, material, folder, cutoff=cutoff, budget=options.budget_seconds, seed=config.seed)


def compare(python: Path, material: Material, folder: Path, *, cutoff: date, budget: float, seed: int) -> None:
    study = DeepArConfig()
    train, judged_labels = sampled_validation(material.labels, cutoff, study.validation_sessions, SAMPLE, seed)
    print(
        f"Cutoff {cutoff}: {train.height:,} training labels, {judged_labels.height:,} of the last "
        f"{study.validation_sessions} sessions judge. Budget of GluonTS: {budget:g} s.\n",
        flush=True,
    )
    known_labels(material).write_parquet(folder / "known.parquet")
    # of the validation labels ours see the judged ones alone, so that their curves are on these
    material._replace(labels=pl.concat([train, judged_labels])).write(folder)
    own_trainings = [in_own_process(learn, network, folder, cutoff, seed) for network in NETWORKS]
    panel = panel_of(
        material.components, material.labels, train, judged_rows=judged_labels, clip=study.input_clip, seed=seed
    )
    print(report(run_gluonts(python, folder, panel, budget=budget, seed=seed), own_trainings), flush=True)


if __name__ == "__main__":
    preamble()
    main()
