"""Files that are written whole or not at all."""

from __future__ import annotations

import pytest

from clusir_modules.serialization.atomic import written_whole


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
