"""``clusir check``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def test_a_sound_folder(clusir, make_pixels):
    Path("in").mkdir()
    for number in range(2):
        Image.fromarray(make_pixels(seed=number)).save(f"in/{number}.png")
    result = clusir("check", "in")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "nothing is wrong" in result.stderr


def test_all_problems_at_once(clusir, make_pixels):
    for folder in ("lq", "gt"):
        Path(folder).mkdir()
    Image.fromarray(make_pixels(20, 28)).save("lq/a.png")
    Image.fromarray(make_pixels(20, 30)).save("gt/a.png")
    Path("lq/b.png").write_bytes(b"no")
    result = clusir("check", "lq", "gt")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "lq/a.png is 28 x 20 pixels, its partner 'gt/a.png' 30 x 20",
        "lq/b.png cannot be read: no picture, or its header is damaged",
        "lq/b.png has no partner named b in 'gt'",
    ]
    assert "2 pictures have problems" in result.stderr


def test_what_cannot_be_checked_is_refused(clusir):
    Path("in").mkdir()
    assert "no pictures in 'in'" in clusir("check", "in").output
    assert clusir("check", "missing").exit_code == 2
    result = clusir("check", "in", "in", "--pairing", "nonsense")
    assert result.exit_code == 1
    assert "pairing must be" in result.output
