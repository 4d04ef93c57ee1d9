import threading
from types import SimpleNamespace

import pytest

from stock_assets.model.progress import Progress, Stopped, side_by_side
from stock_assets_tests.waiting import HANG_SECONDS


def test_results_come_in_the_order_of_the_jobs_and_words_in_the_callers_thread():
    first_may_end = threading.Event()
    heard: list[tuple[str, int]] = []

    def slow(say):
        say("slow began")
        assert first_may_end.wait(HANG_SECONDS)
        return "slow"

    def quick(say):
        say("quick began")
        first_may_end.set()
        return "quick"

    assert side_by_side([slow, quick], lambda text: heard.append((text, threading.get_ident())), 2) == ["slow", "quick"]
    assert {text for text, _ in heard} == {"slow began", "quick began"}
    assert {thread for _, thread in heard} == {threading.get_ident()}


def test_the_first_error_ends_the_others_at_their_next_word_and_starts_no_more():
    failed, ends = threading.Event(), []

    def endless(say):
        try:
            while True:
                failed.wait(0.01)
                say("still here")
        except Stopped:
            ends.append("endless")
            raise

    def failing(_say):
        raise ArithmeticError("no")

    def never(_say):
        ends.append("never")

    with pytest.raises(ArithmeticError, match="no"):
        side_by_side([endless, failing, never, never, never], lambda _: None, 2)
    assert "endless" in ends


def test_a_run_that_is_cancelled_ends_its_trainings():
    ended = threading.Event()

    def endless(say):
        try:
            while True:
                ended.wait(0.01)
                say("still here")
        finally:
            ended.set()

    def cancel(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([endless], cancel, 1)
    assert ended.is_set()


def test_progress_tells_the_epoch_its_losses_and_what_is_left():
    heard: list[str] = []
    times = iter([100.0, 110.0, 125.0, 130.0])
    progress = Progress("2019 rnn", heard.append, lambda: next(times))
    for epoch in range(4):
        progress(SimpleNamespace(epoch=epoch, epochs=3, train_loss=0.5, validation_loss=0.25))
    assert heard == [
        "2019 rnn: epoch 0/3, loss 0.5000 train, 0.2500 validation",
        "2019 rnn: epoch 1/3, loss 0.5000 train, 0.2500 validation, about 20 s to go",
        "2019 rnn: epoch 2/3, loss 0.5000 train, 0.2500 validation, about 15 s to go",
        "2019 rnn: epoch 3/3, loss 0.5000 train, 0.2500 validation",
    ]
