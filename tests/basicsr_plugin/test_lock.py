"""One run, one owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time

import pytest

from basicsr_plugin.run import lock as module
from basicsr_plugin.run.lock import RunLock


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of ``run``, and a loader worker of it that outlives it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        RunLock(tmp_path / "experiments/run")
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(0)
        os.write(writer, str(worker).encode())
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(reader, 20))
    yield child
    for process in (child, worker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


@pytest.fixture(autouse=True)
def released():
    yield
    for path in list(module._HELD):
        os.close(module._HELD.pop(path))


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, other):
    with pytest.raises(
        RuntimeError, match=rf"the run in .*experiments/run is under way \(process {other} on .*, since "
    ):
        RunLock(tmp_path / "experiments/run")
    RunLock(tmp_path / "experiments/run2")


def test_force_takes_it(tmp_path, other):
    with pytest.warns(UserWarning, match=f"taken from its owner .process {other}"):
        RunLock(tmp_path / "experiments/run", force=True)


def test_a_process_that_was_killed_holds_nothing_though_its_worker_lives(tmp_path, other):
    os.kill(other, signal.SIGKILL)
    os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
    RunLock(tmp_path / "experiments/run")


def test_the_same_process_may_take_it_again_and_gives_it_up_once(tmp_path):
    for _ in range(2):
        lock = RunLock(tmp_path / "run")
    lock.release()
    child = os.fork()
    if child == 0:
        RunLock(tmp_path / "run")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_folder_that_is_put_aside_keeps_no_lock_and_a_link_shares_that_of_its_target(tmp_path, other):
    (tmp_path / "experiments/run").mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link").symlink_to(tmp_path / "experiments/run")
    with pytest.raises(RuntimeError, match="is under way"):
        RunLock(tmp_path / "elsewhere/link")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
class TestWithoutLocks:
    """File systems such as NFS without its lock daemon: the file says which process to look for."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch, number):
        def refuse(descriptor, flags):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "lockf", refuse)

    @pytest.mark.filterwarnings("ignore:the file system")
    def test_a_living_owner_on_this_machine_is_noticed_and_a_dead_one_is_not_waited_for(self, tmp_path, other):
        with pytest.raises(RuntimeError, match="is under way"):
            RunLock(tmp_path / "experiments/run")
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        with pytest.warns(UserWarning, match="has no locks: only runs of this machine are noticed"):
            RunLock(tmp_path / "experiments/run")

    @pytest.mark.filterwarnings("ignore:the file system")
    def test_an_owner_from_before_a_reboot_or_of_another_machine_holds_nothing(self, tmp_path, monkeypatch):
        parent = {"host": module.socket.gethostname(), "pid": os.getppid(), "since": "then"}
        for change in ({"boot": "another"}, {"boot": module._boot(), "host": "another"}):
            path = module._lock_path(tmp_path / "run")
            path.write_text(module.json.dumps({**parent, **change}))
            RunLock(tmp_path / "run").release()
        path.write_text(module.json.dumps({**parent, "boot": module._boot()}))
        with pytest.raises(RuntimeError, match="is under way"):
            RunLock(tmp_path / "run")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "\0" * 50])
def test_a_damaged_lock_file_holds_nothing(tmp_path, content):
    module._lock_path(tmp_path / "run").write_text(content)
    RunLock(tmp_path / "run")


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_names_as_long_as_the_file_system_allows_can_be_locked(tmp_path, name):
    RunLock(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 1
