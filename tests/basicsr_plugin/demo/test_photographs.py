"""The demo's photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from basicsr_plugin.demo import photographs


def test_no_photograph_is_in_both_parts(tmp_path):
    photographs.write_photographs(tmp_path)
    train, val = ({path.name for path in (tmp_path / part).iterdir()} for part in ("train", "val"))
    assert len(train) == len(photographs.TRAIN)
    assert len(val) == len(photographs.VAL)
    assert not train & val


def test_the_written_file_has_the_pixels_of_the_installed_one(tmp_path):
    from skimage import data

    photographs.write_photographs(tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "val" / "coffee.png")), data.coffee())


def test_a_photograph_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "VAL", ("no_such.png",))
    with pytest.raises(FileNotFoundError, match=r"no_such\.png"):
        photographs.write_photographs(tmp_path)
