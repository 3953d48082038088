"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

import pytest

from clusir_modules.serialization import atomic
from clusir_modules.serialization.atomic import write_whole, written_whole


def test_the_file_appears_when_the_block_ends(tmp_path):
    with written_whole(tmp_path / "a.txt") as file:
        file.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert file.suffix == ".txt"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail():
        with written_whole(tmp_path / "a.txt") as file:
            file.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_forced_to_disk_is_open_for_writing_whatever_the_old_file_allows(tmp_path, monkeypatch):
    """Windows refuses to force a file to disk that is open for reading only."""
    access = []
    fsync = os.fsync

    def record(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            access.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        fsync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", record)
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(0o444)
    with written_whole(tmp_path / "a.txt") as file:
        file.write_text("new")
    assert access == [os.O_RDWR]
    assert (tmp_path / "a.txt").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o444


class TestAttempts:
    @pytest.fixture(autouse=True)
    def _no_waiting(self, monkeypatch):
        monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)

    def failing(self, *errors):
        """A writer that fails with these errors, one after the other, then writes."""
        left = list(errors)

        def write(file):
            file.write(b"new")
            if left:
                raise left.pop(0)

        return write

    def test_a_passing_error_is_overcome(self, tmp_path):
        with pytest.warns(UserWarning, match="trying again"):
            write_whole(self.failing(OSError(errno.EIO, "busy"), RuntimeError("odd")), tmp_path / "a.state")
        assert (tmp_path / "a.state").read_bytes() == b"new"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.filterwarnings("ignore:cannot write")
    @pytest.mark.parametrize("attempts", [1, 3])
    def test_the_last_attempt_names_the_file_and_keeps_the_old_one(self, tmp_path, attempts):
        (tmp_path / "a.state").write_bytes(b"old")
        with pytest.raises(
            OSError, match=r"cannot write .*a\.state: \[Errno 5\] busy; what was saved before is as it was"
        ):
            write_whole(self.failing(*[OSError(errno.EIO, "busy")] * attempts), tmp_path / "a.state", attempts=attempts)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]

    def test_a_full_disk_ends_the_attempts_and_says_how_full_it_is(self, tmp_path):
        write = self.failing(OSError(errno.ENOSPC, "full"))
        with pytest.raises(
            OSError, match=r"a\.state: No space left on device \(0\.000 GB needed, \d+\.\d{3} GB free\)"
        ) as caught:
            write_whole(write, tmp_path / "a.state")
        assert caught.value.errno == errno.ENOSPC
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_forced_to_disk_is_no_error(self, tmp_path, monkeypatch):
        fsync = os.fsync

        def refused(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "a network share")
            fsync(descriptor)

        monkeypatch.setattr(atomic.os, "fsync", refused)
        write_whole(self.failing(), tmp_path / "a.state")
        assert (tmp_path / "a.state").read_bytes() == b"new"
