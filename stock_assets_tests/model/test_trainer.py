"""A training that was cut off goes on as if it never had been, and trainings do not disturb each other."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stock_assets.model.config import NetworkConfig, RnnClassifierConfig
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks import trainer
from stock_assets.model.networks.optimizer import FlatAdamW
from stock_assets.model.networks.rnn_classifier import RnnClassifier
from stock_assets.model.networks.trained import ClassifierEpoch, Epoch
from stock_assets.model.networks.trainer import descend
from stock_assets.model.splits import training_rows
from stock_assets.model.windows import Panel, build_panel
from stock_assets.storage.artifacts import CheckpointFile
from stock_assets_tests.model.synthetic import sessions_of, synthetic_panel
from stock_assets_tests.model.test_rnn import CUTOFF as LAST
from stock_assets_tests.model.test_rnn import FEATURES as VOLATILE
from stock_assets_tests.model.test_rnn import KNOWN, NONE_SUSPECT
from stock_assets_tests.model.tiny import lesson, teach_classifier, teach_rnn, tiny_classifier, tiny_rnn

CUTOFF = sessions_of(300)[239]
CONFIG = tiny_classifier(epochs=5, layers=2, learning_rate=0.01)
FEATURES, LABELS = synthetic_panel(tickers=4, sessions=300)


class CutOff(Exception):
    pass


def train(
    checkpoint: CheckpointFile | None = None, until: int = 99, config: RnnClassifierConfig = CONFIG, seed: int = 1
):
    """The trained network and the epochs that were heard of; CutOff right after epoch `until`."""
    heard: list[ClassifierEpoch] = []

    def hear(report: ClassifierEpoch) -> None:
        heard.append(report)
        if report.epoch == until:
            raise CutOff

    return teach_classifier(FEATURES, training_rows(LABELS, CUTOFF), config, CUTOFF, seed, hear, checkpoint), heard


def same(one: RnnClassifier, other: RnnClassifier) -> bool:
    return one.curve == other.curve and all(np.array_equal(one.weights[n], w) for n, w in other.weights.items())


@pytest.fixture(scope="module")
def in_one_go() -> RnnClassifier:
    return train()[0]


@pytest.mark.parametrize("epoch", [0, 1, 3, 5])
def test_a_training_cut_off_goes_on_as_if_it_never_had_been(epoch: int, in_one_go: RnnClassifier, tmp_path: Path):
    checkpoint = CheckpointFile(tmp_path / "checkpoint")
    with pytest.raises(CutOff):
        train(checkpoint, until=epoch)
    assert checkpoint.path.exists() == (epoch > 0)
    steps = FlatAdamW.step
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatAdamW, "step", lambda self: (taken.append(1), steps(self))[1])
        resumed, heard = train(checkpoint)
    assert same(resumed, in_one_go)
    assert tuple(heard) == in_one_go.curve
    steps_of_an_epoch = len(taken) / max(1, CONFIG.epochs - epoch)
    assert taken == [] if epoch == CONFIG.epochs else steps_of_an_epoch == int(steps_of_an_epoch) > 1


def test_the_volatility_network_goes_on_likewise(tmp_path: Path):
    config = tiny_rnn(epochs=3)
    checkpoint = CheckpointFile(tmp_path / "checkpoint")

    def cut_off(report: object) -> None:
        if getattr(report, "epoch", None) == 2:
            raise CutOff

    inputs = (VOLATILE, KNOWN, NONE_SUSPECT, config, LAST, 1)
    with pytest.raises(CutOff):
        teach_rnn(*inputs, cut_off, checkpoint)
    resumed, whole = teach_rnn(*inputs, checkpoint=checkpoint), teach_rnn(*inputs)
    assert resumed.curve == whole.curve
    assert all(np.array_equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_a_checkpoint_of_another_training_or_one_cut_short_is_not_gone_on_from(
    in_one_go: RnnClassifier, tmp_path: Path
):
    checkpoint = CheckpointFile(tmp_path / "checkpoint")
    with pytest.raises(CutOff):
        train(checkpoint, until=3)
    whole = checkpoint.path.read_bytes()
    others = [{"seed": 2}, {"config": replace(CONFIG, weight_decay=0.5)}]
    for other in others:
        checkpoint.path.write_bytes(whole)
        assert same(train(checkpoint, **other)[0], train(**other)[0])
    for length in (0, 5, 100, len(whole) - 1):
        checkpoint.path.write_bytes(whole[:length])
        assert checkpoint.load() is None
    assert same(train(checkpoint)[0], in_one_go)
    checkpoint.clear()
    checkpoint.clear()
    assert checkpoint.load() is None


def test_a_checkpoint_of_another_optimizer_is_not_gone_on_from(
    in_one_go: RnnClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """That of a version before, or of a GPU, kept its moments in another form."""
    checkpoint = CheckpointFile(tmp_path / "checkpoint")
    with monkeypatch.context() as before:
        before.setattr(trainer, "adamw", lambda module, _, rate: torch.optim.AdamW(module.parameters(), lr=rate))
        with pytest.raises(CutOff):
            train(checkpoint, until=3)
    assert same(train(checkpoint)[0], in_one_go)


def test_trainings_beside_each_other_give_what_they_give_alone(in_one_go: RnnClassifier):
    torch.manual_seed(5)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda seed: train(seed=seed)[0], [1, 2, 1]))
    assert same(found[0], in_one_go)
    assert same(found[2], in_one_go)
    assert not same(found[1], in_one_go)


KILLED = """
import sys
from pathlib import Path
from stock_assets.storage.artifacts import CheckpointFile
from stock_assets_tests.model import test_trainer
report = lambda epoch: print(epoch.epoch, flush=True)
test_trainer.teach_classifier(
    test_trainer.FEATURES, test_trainer.training_rows(test_trainer.LABELS, test_trainer.CUTOFF), test_trainer.LONG,
    test_trainer.CUTOFF, 1, report, CheckpointFile(Path(sys.argv[1])),
)
"""
LONG = replace(CONFIG, epochs=20, patience=20, learning_rate=1e-3)


def test_a_killed_training_is_taken_up_at_its_last_epoch(tmp_path: Path):
    checkpoint = CheckpointFile(tmp_path / "checkpoint")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(checkpoint.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 3:
                break
        os.kill(process.pid, signal.SIGKILL)
    saved = checkpoint.load()
    assert saved is not None
    assert 3 <= len(saved[1]["curve"]) - 1 < LONG.epochs
    resumed, _ = train(checkpoint, config=LONG)
    assert same(resumed, train(config=LONG)[0])


class Straight:
    """A network from outside the package: a line through the labels. It is all that the trainer asks for."""

    report = Epoch

    def __init__(self, config: NetworkConfig, panel: Panel) -> None:
        self.config, self.panel = config, panel
        self.values, self.goals = torch.from_numpy(panel.values), torch.from_numpy(panel.labels).float()

    def build(self, generator: torch.Generator) -> torch.nn.Linear:
        module = torch.nn.Linear(self.panel.values.shape[1], 1)
        torch.nn.init.normal_(module.weight, std=0.1, generator=generator)
        torch.nn.init.zeros_(module.bias)
        return module

    def loss(self, module: torch.nn.Linear, segments: torch.Tensor) -> tuple[torch.Tensor, int]:
        rows = segments[torch.from_numpy(self.panel.has_label())[segments]]
        return (module(self.values[rows])[:, 0] - self.goals[rows]).square().mean(), len(rows)

    def judge(self, module: torch.nn.Linear, epoch: int, train_loss: float | None) -> Epoch:
        with torch.inference_mode():
            loss = self.loss(module, torch.from_numpy(np.flatnonzero(self.panel.has_label())))[0].item()
        return Epoch(epoch, self.config.epochs, loss if train_loss is None else train_loss, loss)


def test_a_network_from_outside_is_trained_by_three_functions(tmp_path: Path):
    inputs, labels = InputFrames(components=FEATURES), training_rows(LABELS, CUTOFF)
    panel = build_panel(FEATURES, ("memory", "shock"), mean=np.zeros(2), std=np.ones(2), clip=6.0).labelled(labels)
    network = Straight(NetworkConfig(epochs=4, learning_rate=0.05, batch=1, bfloat16=False), panel)
    whole = descend(network, lesson(inputs, labels, CUTOFF, seed=3))
    rows = panel.has_label()
    best = np.linalg.lstsq(
        np.column_stack([panel.values[rows], np.ones(rows.sum())]), panel.labels[rows].astype(float), rcond=None
    )[0]
    assert whole.curve[0].validation_loss > whole.curve[whole.best_epoch].validation_loss
    np.testing.assert_allclose(whole.weights["weight"][0], best[:2], atol=0.05)

    def cut_off(report: Epoch) -> None:
        if report.epoch == 2:
            raise CutOff

    checkpoint = CheckpointFile(tmp_path / "checkpoint")
    with pytest.raises(CutOff):
        descend(network, lesson(inputs, labels, CUTOFF, 3, cut_off, checkpoint))
    resumed = descend(network, lesson(inputs, labels, CUTOFF, 3, None, checkpoint))
    assert resumed.curve == whole.curve


def test_the_optimizer_of_one_vector_is_torchs_own():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    flat = FlatAdamW(ours, rate=0.01, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(5):
        inputs = torch.randn(8, 3, generator=generator)
        for module, optimizer in ((ours, flat), (theirs, reference)):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
