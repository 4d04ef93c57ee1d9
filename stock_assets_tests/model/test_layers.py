import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from stock_assets.model.config import DeepArConfig, NetworkConfig
from stock_assets.model.networks.deepar import StudentLSTM
from stock_assets.model.networks.inference import INFERENCE_BATCH
from stock_assets.model.networks.layers import SegmentLSTM
from stock_assets_tests.model.tiny import tiny_classifier


def trained_a_little(config: NetworkConfig) -> SegmentLSTM:
    """A network whose heads are no longer zero."""
    torch.manual_seed(0)
    network = SegmentLSTM(4, config, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network.eval()


def test_later_inputs_get_no_gradient_from_earlier_answers():
    network = trained_a_little(NetworkConfig(hidden=16, layers=2))
    inputs = torch.randn(3, 20, 4, requires_grad=True)
    network(inputs)[:, 9].sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad[:, 10:], torch.zeros(3, 10, 4))
    assert (inputs.grad[:, :10].abs().sum(dim=2) > 0).all()


def test_an_untrained_network_is_the_class_prior():
    prior = torch.tensor([0.2, 0.5, 0.3])
    network = SegmentLSTM(4, tiny_classifier(), 3, bias=prior.log()).eval()
    answer = functional.softmax(network(torch.randn(5, 7, 4)), dim=-1)
    torch.testing.assert_close(answer, prior.expand(5, 7, 3))


@pytest.mark.parametrize("stride", [1, 5])
def test_the_end_of_a_window_is_the_last_of_all_its_steps(stride: int):
    network, steps = trained_a_little(tiny_classifier()), 12
    first = (steps - 1) * stride
    rows, ends = torch.randn(INFERENCE_BATCH, 4), torch.randint(first, INFERENCE_BATCH, (INFERENCE_BATCH,))
    windows = rows[ends[:, None] - stride * torch.arange(steps - 1, -1, -1)]
    torch.testing.assert_close(network.at_windows(rows, ends, steps, stride=stride), network(windows)[:, -1])


def test_it_learns_one_small_batch_by_heart():
    torch.manual_seed(0)
    network = SegmentLSTM(4, NetworkConfig(hidden=32, dropout=0.0), 3)
    inputs, targets = torch.randn(4, 16, 4), torch.randint(0, 3, (64,))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    loss = torch.tensor(0.0)
    for _ in range(200):
        loss = functional.cross_entropy(network(inputs).flatten(0, 1), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_a_network_is_built_without_what_compiles_networks():
    """It takes a second to import, and a moved alias waits for it."""
    code = (
        "import sys; from stock_assets.model.config import NetworkConfig; "
        "from stock_assets.model.networks.layers import SegmentLSTM; SegmentLSTM(3, NetworkConfig(), 3); "
        "print('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_building_a_network_draws_nothing_from_torchs_own_random_state():
    before = torch.get_rng_state()
    SegmentLSTM(3, NetworkConfig(), 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("hidden", [16, 17, 177])
def test_a_window_gives_the_same_figures_in_whichever_place_of_a_pass_it_stands(hidden: int):
    """The 177 of the study's network are no multiple of four, which a matrix product of few answers minds."""
    generator = torch.Generator().manual_seed(1)
    classes = SegmentLSTM(5, NetworkConfig(hidden=hidden), 3, projection=6, generator=generator).eval()
    student = StudentLSTM(5, 2, DeepArConfig(hidden=hidden), generator=generator).eval()
    rows, tickers = torch.randn(2 * INFERENCE_BATCH, 7, generator=generator), torch.arange(2 * INFERENCE_BATCH) % 2
    ends = torch.arange(3, 3 + INFERENCE_BATCH)
    with torch.inference_mode():
        classes.head.weight.normal_(generator=generator)
        classes.skip.weight.normal_(generator=generator)
        for answer in (
            lambda r, _, e: classes.at_windows(r[:, :5], e, 4),
            lambda r, of, e: student.at_windows(r, e, 4, tickers=of),
        ):
            together = answer(rows, tickers, ends)
            for shift in (1, 2, 101):
                place = torch.roll(torch.arange(INFERENCE_BATCH), shift)
                assert torch.equal(answer(rows, tickers, ends[place]), together[place])
                moved = answer(rows.roll(shift, 0), tickers.roll(shift, 0), ends + shift)
                assert torch.equal(moved, together)
