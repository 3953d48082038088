"""Shipped option files and the reading of values."""

from __future__ import annotations

import pytest
import yaml

from basicsr_plugin import option_files


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    for name in ("train/clusir_tiny", "train/same", "test/same"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yml").write_text(f"name: {name}\n")
    monkeypatch.setattr(option_files, "options_folder", lambda: folder)
    return folder


def test_names_are_listed_in_order(shipped):
    assert option_files.list_options() == ["test/same", "train/clusir_tiny", "train/same"]


@pytest.mark.parametrize("name", ["clusir_tiny", "clusir_tiny.yml", "train/clusir_tiny", "train/clusir_tiny.yml"])
def test_a_file_is_found_by_any_form_of_its_name(shipped, name):
    assert option_files.find_option(name) == shipped / "train/clusir_tiny.yml"


@pytest.mark.parametrize(("name", "matches"), [("same", 2), ("unknown", 0), ("tiny", 0)])
def test_ambiguous_and_unknown_names_are_refused(shipped, name, matches):
    with pytest.raises(FileNotFoundError, match=f"'{name}' is no option file and names {matches} .*train/clusir_tiny"):
        option_files.find_option(name)


def test_a_copy_is_made_once_and_never_overwritten(shipped, tmp_path):
    copy = option_files.copy_option("clusir_tiny", tmp_path / "mine" / "options")
    assert copy.read_text() == "name: train/clusir_tiny\n"
    copy.write_text("edited")
    with pytest.raises(FileExistsError, match=r"clusir_tiny.yml exists"):
        option_files.copy_option("clusir_tiny", tmp_path / "mine" / "options")
    assert copy.read_text() == "edited"


@pytest.mark.parametrize("form", [["-opt", "clusir_tiny"], ["-opt=clusir_tiny"]])
def test_a_name_on_the_command_line_becomes_a_path(shipped, form):
    resolved = option_files.resolve_arguments(["train.py", *form, "--debug"])
    assert str(shipped / "train/clusir_tiny.yml") in resolved[-2]
    assert resolved[-1] == "--debug"


def test_an_existing_file_goes_before_a_shipped_one(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusir_tiny").write_text("name: mine\n")
    assert option_files.resolve_arguments(["x", "-opt", "clusir_tiny"]) == ["x", "-opt", "clusir_tiny"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("!!float 1e-4", 1e-4),
        ("None", None),
        ("~", None),
        ("True", True),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("experiments/run_1", "experiments/run_1"),
        ("1.2.3", "1.2.3"),
        ("", ""),
    ],
)
def test_values_of_the_command_line_get_their_types(text, value):
    found = option_files.parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_lists_of_the_command_line_are_not_run_as_code(tmp_path):
    text = f"[__import__('os').mkdir('{tmp_path / 'evil'}')]"
    option_files.parse_value(text)
    assert not (tmp_path / "evil").exists()


def test_option_files_keep_order_and_merge_anchors():
    text = "base: &base {b: 1, a: 2e3}\nz: {<<: *base, c: 1E-2}\n"
    loaded = yaml.load(text, Loader=option_files.ordered_yaml()[0])
    assert list(loaded["base"]) == ["b", "a"]
    assert dict(loaded["z"]) == {"b": 1, "a": 2000.0, "c": 0.01}
    assert yaml.dump(loaded["base"], Dumper=option_files.ordered_yaml()[1]) == "b: 1\na: 2000.0\n"
