"""What is wrong with the pictures of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusir_modules.data.problems import check_folder, check_pairs


def save(path: Path, seed: int, size: tuple[int, int] = (16, 24), mode: str = "RGB", **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


def test_a_sound_folder_has_no_problems(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", number, size=(10 + number, 20))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    assert check_folder(tmp_path, progress=False) == []


def test_every_problem_of_a_folder_is_named_at_once(tmp_path):
    save(tmp_path / "a.png", 0)
    save(tmp_path / "b.png", 1)
    save(tmp_path / "gray.png", 2, mode="L")
    save(tmp_path / "sub" / "same.webp", 0, lossless=True)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    found = {str(path.relative_to(tmp_path)): what for path, what in check_folder(tmp_path, progress=False)}
    assert set(found) == {"gray.png", "sub/same.webp", "broken.jpg"}
    assert found["gray.png"] == "is gray, most are color"
    assert found["sub/same.webp"] == f"has the same pixels as '{tmp_path / 'a.png'}'"
    assert found["broken.jpg"].startswith("cannot be read: ")


def test_every_problem_of_pairs_is_named_at_once(tmp_path):
    lq, gt = tmp_path / "lq", tmp_path / "gt"
    for number, name in enumerate(("good", "size", "gray", "turned", "bad", "sub/deep")):
        save(lq / f"{name}.png", number)
        save(gt / f"{name}.png", 100 + number)
    save(lq / "lonely.png", 50)
    save(gt / "extra.png", 51)
    save(lq / "twice.png", 0)
    save(gt / "twice.png", 52)
    save(gt / "size.png", 53, size=(16, 26))
    save(gt / "gray.png", 54, mode="L")
    exif = Image.Exif()
    exif[0x0112] = 3
    save(gt / "turned.png", 55, exif=exif)
    (gt / "bad.png").write_bytes(b"no")
    found = [(str(path.relative_to(tmp_path)), what) for path, what in check_pairs(lq, gt, progress=False)]
    assert [name for name, _ in found] == [
        "gt/bad.png",
        "gt/extra.png",
        "lq/gray.png",
        "lq/lonely.png",
        "lq/size.png",
        "lq/turned.png",
        "lq/twice.png",
    ]
    what = dict(found)
    assert what["gt/bad.png"] == "cannot be read: no picture, or its header is damaged"
    assert what["gt/extra.png"] == f"is the partner of no picture in '{lq}'"
    assert what["lq/gray.png"] == f"is color, its partner '{gt / 'gray.png'}' gray"
    assert what["lq/lonely.png"].startswith("has no partner named lonely")
    assert what["lq/size.png"] == f"is 24 x 16 pixels, its partner '{gt / 'size.png'}' 26 x 16"
    assert "EXIF orientation 1 and 3" in what["lq/turned.png"]
    assert what["lq/twice.png"] == f"has the same pixels as '{lq / 'good.png'}'"


def test_pairs_follow_the_rules_of_training(tmp_path):
    save(tmp_path / "lq" / "0005_0.8_0.04.png", 0)
    save(tmp_path / "lq" / "0005_1_0.2.png", 1)
    save(tmp_path / "gt" / "0005.png", 2)
    assert check_pairs(tmp_path / "lq", tmp_path / "gt", pairing="dehaze", progress=False) == []
    assert len(check_pairs(tmp_path / "lq", tmp_path / "gt", progress=False)) == 3
    with pytest.raises(ValueError, match="pairing must be"):
        check_pairs(tmp_path / "lq", tmp_path / "gt", pairing="nonsense", progress=False)


def test_an_empty_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        check_folder(tmp_path / "none", progress=False)
    with pytest.raises(ValueError, match="no pictures in"):
        check_folder(tmp_path, progress=False)
