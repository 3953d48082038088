"""Folders of runs, and names that fit into them."""

from __future__ import annotations

import os

import pytest

from basicsr_plugin.run.folders import fit_name, make_folders, put_aside


@pytest.mark.parametrize(
    ("stem", "ending"), [("a", "_4.png"), ("p" * 249, "_4.png"), ("", ".png"), (os.fsdecode(b"caf\xe9"), "_4.png")]
)
def test_names_that_fit_stay_as_they_are(stem, ending):
    assert fit_name(stem, ending) == stem + ending


@pytest.mark.parametrize("stem", ["p" * 251, "ü" * 127, "p" + "ü" * 127, os.fsdecode(b"\xe9" * 255), "\U0001f600" * 63])
def test_long_names_are_cut_to_what_file_systems_take_and_stay_apart(stem, tmp_path):
    names = {fit_name(stem + end, "_20000.png") for end in ("0", "1")}
    assert len(names) == 2
    for name in names:
        assert name.endswith("_20000.png")
        assert len(os.fsencode(name)) <= 255
        (tmp_path / name).touch()
        os.fsencode(name).decode(errors="surrogateescape")
    if stem.isprintable():
        assert all(name.isprintable() for name in names), "cut in the middle of a character"


def test_a_folder_is_put_aside_as_often_as_needed(tmp_path, capsys):
    folder, targets = tmp_path / "run", set()
    for number in range(3):
        folder.mkdir()
        (folder / "number").write_text(str(number))
        targets.add(put_aside(folder))
        assert not folder.exists()
    assert put_aside(folder) is None
    assert sorted((target / "number").read_text() for target in targets) == ["0", "1", "2"]
    assert all(target.name.startswith("run_archived_2") for target in targets)
    assert "Renamed it to" in capsys.readouterr().out


def test_a_name_as_long_as_possible_can_be_put_aside(tmp_path):
    folder = tmp_path / ("n" * 255)
    folder.mkdir()
    assert put_aside(folder).is_dir()


@pytest.mark.parametrize("inside", [True, False])
def test_weights_in_the_folder_that_is_put_aside_are_found_where_they_are_then(tmp_path, monkeypatch, inside):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "experiments/run"
    weights = root / "models/w.pth" if inside else tmp_path / "experiments/run2/w.pth"
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    (root / "old").mkdir(parents=True, exist_ok=True)
    path = {"experiments_root": str(root), "models": str(root / "models"), "strict_load_g": True, "log": str(root)}
    opt = {"path": {**path, "pretrain_network_g": os.path.relpath(weights)}, "is_train": True, "rank": 0}
    make_folders(opt).release()
    assert open(opt["path"]["pretrain_network_g"]).read() == "weights"
    assert (opt["path"]["pretrain_network_g"] == os.path.relpath(weights)) != inside
    assert sorted(item.name for item in root.iterdir()) == ["models"]
