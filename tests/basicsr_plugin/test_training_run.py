"""What the training script shares with its model."""

from __future__ import annotations

import os
import signal
import threading

from basicsr_plugin.training_run import TrainingRun


def test_the_first_sigterm_is_remembered_and_the_next_acts_as_before():
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    run = TrainingRun()
    run.watch_sigterm()
    assert not run.asked_to_stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert run.asked_to_stop
    assert not received
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_outside_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=TrainingRun().watch_sigterm)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
