"""SIGTERM and SIGINT as a process of its own meets them; whole runs are in test_faults.py."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from basicsr_plugin.compat.held_back import held_back
from basicsr_plugin.run import signals as module
from basicsr_plugin.run.signals import Signals


@pytest.fixture
def signals():
    watched = Signals()
    watched.watch()
    yield watched
    watched.forget()


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the handler sees."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_one_is_remembered(signals, number):
    assert not signals.asked
    os.kill(os.getpid(), number)
    assert signals.asked == number


@pytest.mark.parametrize(("elastic", "echo", "later"), [(False, 0.4, 0.6), (True, 4.0, 6.0)])
def test_a_second_one_ends_the_process_at_once_unless_it_is_an_echo(monkeypatch, clock, elastic, echo, later):
    """timeout and torchrun send to the process what its group has got already."""
    if elastic:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        watched = Signals()
        watched.watch()
        for seconds in (0, echo, later):
            clock[0] = 100.0 + seconds
            os.kill(os.getpid(), signal.SIGTERM)
            os.write(writer, b"lives ")
        os._exit(0)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert os.read(reader, 100) == b"lives lives "


def test_where_nothing_is_to_save_it_ends_the_program_there(signals):
    def wait():
        with signals.interrupting():
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it went on")

    for _ in range(2):  # the second time it has come before
        with pytest.raises(SystemExit) as ended:
            wait()
        assert ended.value.code == 130
    with signals.interrupting(False):
        assert signals.asked == signal.SIGINT


def test_handlers_are_as_before_when_it_forgets():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    watched = Signals()
    watched.watch()
    watched.forget()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_outside_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=Signals().watch)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_started_while_signals_are_held_back_never_get_them():
    with held_back():
        child = os.fork()
        if child == 0:
            time.sleep(1)
            os._exit(7)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}
