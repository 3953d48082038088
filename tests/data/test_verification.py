from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusir_modules.data.tasks import Sample
from clusir_modules.data.verification import verify_samples


def save(path: Path, height: int = 8, width: int = 8) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


class TestVerifySamples:
    def test_good_files_pass_and_each_is_decoded_once(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gt = save(tmp_path / "gt.png")
        samples = [Sample(save(tmp_path / f"{n}.png"), gt) for n in range(3)] + [Sample(None, gt)]
        verify_samples(samples)
        assert "4/4" in capsys.readouterr().err

    def test_all_damaged_files_and_unequal_pairs_are_named_at_once(self, tmp_path: Path) -> None:
        good, small = save(tmp_path / "good.png"), save(tmp_path / "small.png", 8, 7)
        cut = save(tmp_path / "cut.png", 64, 64)
        cut.write_bytes(cut.read_bytes()[:500])
        (tmp_path / "text.jpg").write_text("text")
        samples = [Sample(cut, good), Sample(tmp_path / "text.jpg", None), Sample(small, good), Sample(good, good)]
        with pytest.raises(RuntimeError) as raised:
            verify_samples(samples, progress=False)
        message = str(raised.value)
        assert message.startswith("3 of 4 images cannot be used")
        for part in ("cut.png", "text.jpg", "small.png' has (8, 7)"):
            assert part in message

    def test_a_long_list_of_problems_is_cut(self, tmp_path: Path) -> None:
        samples = [Sample(tmp_path / f"{number}.png", None) for number in range(30)]
        with pytest.raises(RuntimeError, match=r"30 of 30 (.|\n)*\.\.\. and 10 more"):
            verify_samples(samples, progress=False)
