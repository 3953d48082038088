"""Which pictures a command reads, and where it writes each of them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from clusir_cli.files import plan


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.JPG", "in/sub/c.tif", "in/notes.txt", "other/a.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def planned(inputs, output):
    return [(str(job.source), str(job.target)) for job in plan(inputs, output)]


@pytest.mark.usefixtures("pictures")
class TestPlan:
    def test_a_file_goes_to_a_file(self):
        assert planned(["in/b.png"], "x/y.tif") == [("in/b.png", "x/y.tif")]

    def test_a_file_goes_into_a_folder(self):
        assert planned(["in/b.png"], "out") == [("in/b.png", "out/b.png")]
        Path("folder.png").mkdir()
        assert planned(["in/b.png"], "folder.png") == [("in/b.png", "folder.png/b.png")]

    def test_a_folder_is_searched_with_all_below_it(self):
        assert planned(["in"], "out") == [
            ("in/a.JPG", "out/a.JPG"),
            ("in/b.png", "out/b.png"),
            ("in/sub/c.tif", "out/sub/c.tif"),
        ]

    def test_a_pattern_keeps_the_folders_below_its_fixed_part(self):
        assert planned(["in/**/*.tif"], "out") == [("in/sub/c.tif", "out/sub/c.tif")]
        assert planned(["*/*.png"], "out") == [("in/b.png", "out/in/b.png"), ("other/a.png", "out/other/a.png")]

    def test_what_the_shell_expanded_is_taken_too(self):
        assert planned(["in/b.png", "other/a.png"], "out") == [("in/b.png", "out/b.png"), ("other/a.png", "out/a.png")]

    def test_results_of_an_earlier_run_are_no_input(self):
        (Path("in") / "out").mkdir()
        (Path("in") / "out" / "b.png").touch()
        assert [source for source, _ in planned(["in"], "in/out")] == ["in/a.JPG", "in/b.png", "in/sub/c.tif"]

    @pytest.mark.parametrize(
        ("inputs", "output", "message"),
        [
            (["missing.png"], "out", "no file, folder or match missing.png"),
            (["in/*.webp"], "out", "no pictures in"),
            (["in/b.png"], "x.gif", "x.gif must be a folder or end in one of .*png"),
            (["in"], "out.png", "out.png is one file"),
            (["in/b.png", "other/a.png"], "out.png", "out.png is one file"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, inputs, output, message):
        with pytest.raises(click.UsageError, match=message):
            plan(inputs, output)
