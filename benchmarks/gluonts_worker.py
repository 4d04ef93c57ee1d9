"""Trains GluonTS's DeepAR on a panel and measures it. Run by an interpreter that has GluonTS, see `training`.

    python -m benchmarks.gluonts_worker PANEL.npz ANSWER.json [--budget-seconds 600] [--batches 50]

DeepAR at the study's configuration, in the protocol in which a forecast of session t knows every input of t but no
label after that of t - 7, which is the newest one complete by then. GluonTS hands the network the labels of `lags_seq`
at every step, so leaving out the lags below 7 makes every step of training and of forecasting honest, without
sampling six unknown days: of the ways to be honest this is the quickest and the most exact for GluonTS. The mean scale
of the window is the only other place where a label enters: in a forecast the last six are marked as unobserved.

In GluonTS's favour: the inputs are standardised beforehand, the calendar features are computed once and from the
sessions themselves, judging and counting are not timed, and the reading with fitted cuts counts as well: a Student t
distribution on three values has its own shape, and two fitted numbers repair its class probabilities.
"""

import argparse
import json
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judging import HALFWAY, best_cuts, log_loss, peak_memory, student_t_probabilities

#: The study's configuration.
STUDY: dict[str, Any] = {
    "freq": "B",
    "prediction_length": 1,
    "num_layers": 1,
    "hidden_size": 177,
    "context_length": 59,
    "batch_size": 244,
    "lr": 1.04e-4,
    "dropout_rate": 0.022,
}
HORIZON = 7
AGE = 0  # the position of GluonTS's own feature among those of a window, log10(2 + rows before)


def series_of(panel: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A GluonTS series per ticker: its rows up to the end of the panel, one after the other as steps.

    A session without a row is no step, as in `model.windows`, so that a lag counts the rows that a label does. The
    index that GluonTS makes of start and frequency is then not the calendar: its time features come as inputs.
    """
    import pandas as pd
    from gluonts.time_feature import time_features_from_frequency_str

    time_features = time_features_from_frequency_str(STUDY["freq"])
    series = []
    for i, (start, end) in enumerate(zip(panel["starts"], panel["ends"], strict=True)):
        index = pd.PeriodIndex(panel["sessions"][start:end], freq=STUDY["freq"])
        calendar = [np.asarray(feature(index), np.float32) for feature in time_features]
        series.append(
            {
                "start": index[0],
                "target": panel["labels"][start:end],
                "feat_static_cat": [i],
                "feat_dynamic_real": np.vstack([*calendar, panel["values"][start:end].T]),
            }
        )
    return series


def estimator_of(series: list[dict[str, Any]], batches: int, folder: str, callbacks: list[Any]) -> Any:
    """A `DeepAREstimator` at the study's configuration, which knows no label younger than the horizon."""
    from gluonts.time_feature import get_lags_for_frequency
    from gluonts.torch.model.deepar import DeepAREstimator

    return DeepAREstimator(
        **STUDY,
        num_feat_dynamic_real=len(series[0]["feat_dynamic_real"]),
        num_feat_static_cat=1,
        cardinality=[len(series)],
        lags_seq=[lag for lag in get_lags_for_frequency(STUDY["freq"]) if lag >= HORIZON],
        time_features=[],
        num_batches_per_epoch=batches,
        trainer_kwargs={
            "accelerator": "cpu",
            "callbacks": callbacks,
            "default_root_dir": folder,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "max_epochs": 1_000_000,
        },
    )


def until(series: list[dict[str, Any]], lengths: np.ndarray) -> list[dict[str, Any]]:
    """The first rows of each series, as many as `lengths` says."""
    return [
        entry | {"target": entry["target"][:n], "feat_dynamic_real": entry["feat_dynamic_real"][:, :n]}
        for entry, n in zip(series, lengths, strict=True)
        if n
    ]


class Judge:
    """One-step-ahead class probabilities of fixed rows, from the network as it stands."""

    def __init__(self, estimator: Any, series: list[dict[str, Any]], panel: dict[str, np.ndarray]) -> None:
        self._transformation = estimator.create_transformation()
        self._series, self._panel = series, panel

    def parameters(self, network: Any, rows: np.ndarray) -> np.ndarray:
        """float64 [3, N]: degrees of freedom, location and scale of the forecasts of `rows` (sorted indices)."""
        import torch

        past = network._past_length
        parameter_rows = []
        network.eval()
        tickers = np.searchsorted(self._panel["starts"], rows, side="right") - 1
        with torch.no_grad():
            for ticker in np.unique(tickers):
                (entry,) = self._transformation.apply([self._series[ticker]], is_train=True)
                steps = rows[tickers == ticker] - self._panel["starts"][ticker]
                window = steps[:, None] + np.arange(past)  # in arrays that begin with `past` zeros

                def before(values: np.ndarray, window: np.ndarray = window) -> torch.Tensor:
                    padded_values = np.concatenate([np.zeros((past, *values.shape[1:]), np.float32), values])
                    return torch.from_numpy(padded_values[window].astype(np.float32))

                inputs, observed_values = entry["time_feat"].T, before(entry["observed_values"])
                observed_values[:, 1 - HORIZON :] = 0.0
                category = torch.full((len(steps), 1), int(ticker))
                parameters, scale, *_ = network.unroll_lagged_rnn(
                    category,
                    torch.zeros(len(steps), 1),
                    before(inputs),
                    before(entry["target"]) * observed_values,
                    observed_values,
                    torch.from_numpy(inputs[steps][:, None].astype(np.float32)),
                )
                freedom, location, spread = (p[:, -1].double() for p in parameters)
                parameter_rows.append(torch.stack([freedom, location * scale[:, 0], spread * scale[:, 0]]).numpy())
        return np.concatenate(parameter_rows, axis=1)


# longer than sixty lines: the callback has to close over what it counts
def train(panel: dict[str, np.ndarray], budget: float, batches: int, seed: int) -> dict[str, Any]:
    import lightning.pytorch as lightning
    import torch

    lightning.seed_everything(seed, verbose=False)
    series = series_of(panel)
    classes = panel["truth"]
    is_seen = np.zeros(len(panel["labels"]), bool)  # of the epoch
    ever = is_seen.copy()
    epochs: list[dict[str, float]] = []
    memory_before, start = peak_memory(), time.perf_counter()

    class Watch(lightning.Callback):
        """Counts what enters the loss, and judges every epoch while the clock stands still."""

        clock = 0.0
        memory = memory_before
        targets = 0
        start, began_cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, _trainer: Any, _module: Any, _outputs: Any, batch: Any, _index: int) -> None:
            pause_start, paused_cpu = time.perf_counter(), time.process_time()
            context = STUDY["context_length"]
            known_targets = torch.cat(
                [batch["past_observed_values"][:, 1 - context :], batch["future_observed_values"]], dim=1
            )
            step = np.round(10.0 ** batch["future_time_feat"][:, 0, AGE].double().numpy() - 2).astype(np.int64)
            last = panel["starts"][batch["feat_static_cat"][:, 0].numpy()] + step
            rows = (last[:, None] - np.arange(context - 1, -1, -1))[known_targets.numpy() > 0]
            is_seen[rows] = True
            self.targets += len(rows)
            self.began += time.perf_counter() - pause_start
            self.began_cpu += time.process_time() - paused_cpu

        def on_train_start(self, _trainer: Any, module: Any) -> None:
            self.judge(module)  # epoch 0: setting up, and the untrained network

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            self.judge(module)
            if self.clock >= budget:
                trainer.should_stop = True

        def judge(self, module: Any) -> None:
            seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.began_cpu
            self.clock, self.memory = self.clock + seconds, max(self.memory, peak_memory())
            parameters = judge.parameters(module.model, panel["judged"])
            cuts = best_cuts(*judge.parameters(module.model, panel["calibrating"]), panel["calibrating_truth"])
            epochs.append(
                {
                    "seconds": seconds,
                    "cpu": cpu,
                    "clock": self.clock,
                    "targets": self.targets,
                    "distinct": int(is_seen.sum()),
                    "log_loss": log_loss(student_t_probabilities(*parameters, cuts=HALFWAY), classes),
                    "calibrated_log_loss": log_loss(student_t_probabilities(*parameters, cuts=cuts), classes),
                }
            )
            ever[is_seen], is_seen[:], self.targets = True, False, 0
            module.train()
            self.began, self.began_cpu = time.perf_counter(), time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        watch = Watch()
        estimator = estimator_of(series, batches, folder, [watch])
        judge = Judge(estimator, series, panel)
        watch.began, watch.began_cpu = time.perf_counter(), time.process_time()
        estimator.train(until(series, panel["train_lengths"]))
    return {
        "epochs": epochs,
        "ever": int(ever.sum()),
        "seconds": time.perf_counter() - start,
        "memory_before": memory_before,
        "memory": watch.memory,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("gluonts", "torch", "lightning")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panel", type=Path)
    parser.add_argument("answer", type=Path)
    parser.add_argument("--budget-seconds", type=float, default=600.0)
    parser.add_argument("--batches", type=int, default=50, help="of an epoch (default: GluonTS's own, 50)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of GluonTS and its libraries
    with np.load(options.panel) as arrays:
        panel = {name: arrays[name] for name in arrays.files}
    answer = train(panel, options.budget_seconds, options.batches, options.seed)
    options.answer.write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
