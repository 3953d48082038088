"""The demo's photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from basicsr_plugin.demo import photographs


def test_no_photograph_is_in_both_parts(tmp_path):
    photographs.write_photographs(tmp_path)
    train, val = ({path.name.rsplit("_", 1)[0] for path in (tmp_path / part).iterdir()} for part in ("train", "val"))
    assert train == {name.rsplit(".", 1)[0] for name in photographs.TRAIN}
    assert val == {name.rsplit(".", 1)[0] for name in photographs.VAL}
    assert not train & val


def test_the_written_file_has_the_pixels_of_the_installed_one(tmp_path):
    from skimage import data

    photographs.write_photographs(tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "val" / "coffee_0.png")), data.coffee())


def test_training_photographs_are_cut_into_tiles_that_cover_them(tmp_path):
    from skimage import data

    photographs.write_photographs(tmp_path)
    tiles = [np.asarray(Image.open(tmp_path / "train" / f"astronaut_{number}.png")) for number in range(4)]
    rows = [np.concatenate(tiles[start : start + 2], axis=1) for start in (0, 2)]
    np.testing.assert_array_equal(np.concatenate(rows), data.astronaut())


def test_a_photograph_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "VAL", ("no_such.png",))
    with pytest.raises(FileNotFoundError, match=r"no_such\.png"):
        photographs.write_photographs(tmp_path)
