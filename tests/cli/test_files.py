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


def tree():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


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
        assert [str(job.source) for job in plan(["in"], "in/out", existing="skip")] == [
            "in/a.JPG",
            "in/b.png",
            "in/sub/c.tif",
        ]
        assert [str(job.source) for job in plan(["in/**/*.png"], "in/out", existing="skip")] == ["in/b.png"]

    @pytest.mark.parametrize(
        ("inputs", "output", "message"),
        [
            (["missing.png"], "out", "no file, folder or match missing.png"),
            (["in/*.webp"], "out", "no pictures in"),
            (["in/b.png"], "x.gif", "x.gif must end in one of .*png.*, or in a slash"),
            (["in"], "out.png", "out.png is one file"),
            (["in/b.png", "other/a.png"], "out.png", "out.png is one file"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, inputs, output, message):
        with pytest.raises(click.UsageError, match=message):
            plan(inputs, output)

    def test_results_may_go_into_the_current_and_the_parent_folder(self, monkeypatch):
        assert planned(["in"], ".") == [("in/a.JPG", "a.JPG"), ("in/b.png", "b.png"), ("in/sub/c.tif", "sub/c.tif")]
        monkeypatch.chdir("in")
        assert planned(["sub"], "..") == [("sub/c.tif", "../c.tif")]

    def test_hidden_files_and_folders_are_no_pictures_unless_named(self):
        for name in ("in/.a.png", "in/._b.png", "in/.cache/d.png", "in/.0123.tmp.png"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).touch()
        assert [source for source, _ in planned(["in"], "out")] == ["in/a.JPG", "in/b.png", "in/sub/c.tif"]
        assert planned(["in/*.png"], "out") == [("in/b.png", "out/b.png")]
        assert planned(["in/.a.png"], "x.png") == [("in/.a.png", "x.png")]

    @pytest.mark.parametrize("name", ["2024 [raw]", "[a]", "what?", "x*y"])
    def test_characters_of_patterns_in_names(self, name):
        Path(name).mkdir()
        Path(name, "p.png").touch()
        for given in (name, f"{name}/p.png", f"{name}/*.png"):
            assert planned([given], "out") == [(f"{name}/p.png", "out/p.png")]

    def test_a_slash_or_a_folder_that_is_there_makes_a_folder(self):
        Path("there.v1").mkdir()
        for output in ("results.v2/", "there.v1"):
            assert planned(["in/b.png"], output) == [("in/b.png", f"{output.rstrip('/')}/b.png")]

    def test_the_same_picture_given_twice_is_one(self):
        assert planned(["in/b.png", "in/b.png"], "out") == [("in/b.png", "out/b.png")]

    def test_links_to_files_are_followed_and_links_to_folders_are_not(self):
        Path("in/link.png").symlink_to(Path("other/a.png").absolute())
        Path("in/loop").symlink_to(Path("in").absolute())
        assert [source for source, _ in planned(["in"], "out")] == [
            "in/a.JPG",
            "in/b.png",
            "in/link.png",
            "in/sub/c.tif",
        ]

    @pytest.mark.parametrize("existing", [None, "skip", "overwrite"])
    @pytest.mark.parametrize(
        ("inputs", "output", "name"),
        [
            (["in"], "in", "in/b.png is an input"),
            (["in/b.png"], "in/../in/b.png", "in/../in/b.png is an input"),
            (["in/b.png", "other/a.png"], "in/sub/..", "in/sub/../b.png is an input"),
            (["in/b.png"], "link.png", "link.png is an input"),
            (["in/b.png"], "hard.png", "hard.png is an input"),
            (["in/b.png"], "linked/b.png", "linked/b.png is an input"),
            (
                ["other/a.png", "third/a.png"],
                "out",
                "out/a.png would be written twice, for other/a.png and for third/a.png",
            ),
            (["in/b.png"], "in/notes.txt/", "in/notes.txt is no folder"),
            (["in/b.png"], "folder", "folder/b.png is a folder"),
        ],
    )
    def test_nothing_is_lost(self, inputs, output, name, existing):
        Path("third").mkdir()
        Path("third/a.png").touch()
        Path("folder/b.png").mkdir(parents=True)
        Path("link.png").symlink_to("in/b.png")
        Path("hard.png").hardlink_to("in/b.png")
        Path("linked").symlink_to("in")
        before = tree()
        with pytest.raises(click.ClickException) as caught:
            plan(inputs, output, existing=existing)
        assert name in str(caught.value)
        assert tree() == before

    def test_files_that_are_there_are_replaced_only_when_asked(self):
        Path("out").mkdir()
        Path("out/b.png").write_bytes(b"mine")
        Path("dangling.png").symlink_to("nowhere")
        for inputs, output in ((["in"], "out"), (["in/b.png"], "dangling.png")):
            with pytest.raises(click.ClickException, match=r"\.png is there already; give --overwrite"):
                plan(inputs, output)
            assert plan(inputs, output, existing="overwrite") == plan(inputs, output, existing="skip")

    def test_comparisons_and_weights_count_too(self):
        Path("in/a_compare.png").touch()
        Path("in/sub/a.png").touch()
        with pytest.raises(click.ClickException, match=r"out/a_compare\.png would be written twice"):
            plan(["in/a.JPG", "in/a_compare.png"], "out", compare=True)
        with pytest.raises(click.ClickException, match=r"in/a_compare\.png is an input"):
            plan(["in/a_compare.png", "in/sub/a.png"], "in", compare=True, existing="overwrite")
        Path("net").mkdir()
        Path("net/b.png").touch()
        for weights, output in (("net", "net"), ("net/b.png", "net/b.png")):
            with pytest.raises(click.ClickException, match=r"net/b\.png holds the weights"):
                plan(["in/b.png"], output, weights=weights, existing="overwrite")

    def test_names_that_differ_in_case_alone_are_one_where_the_file_system_says_so(self, monkeypatch):
        from clusir_modules.imaging import outputs

        Path("upper").mkdir()
        Path("upper/B.PNG").touch()
        assert len(plan(["in/b.png", "upper/B.PNG"], "out")) == 2
        monkeypatch.setattr(outputs, "_ignores_case", lambda folder: True)
        with pytest.raises(click.ClickException, match=r"out/B\.PNG would be written twice"):
            plan(["in/b.png", "upper/B.PNG"], "out")
