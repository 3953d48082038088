"""The page "Train your own part in BasicSR", followed to its end: module, option file, training, loading."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from documents import DOCS, ROOT

PAGE = (DOCS / "howto" / "own_part.md").read_text("utf-8")


def fence(head):
    return re.findall(rf"^```{re.escape(head)}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_what_the_page_writes_trains_and_loads(tmp_path):
    (tmp_path / "my_project").mkdir()
    (tmp_path / "my_project" / "parts.py").write_text(fence("python")[0])
    (tmp_path / "x.yml").write_text(fence("yaml")[0])
    (tmp_path / "photographs" / "train").mkdir(parents=True)
    for number in range(3):
        rough = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"photographs/train/{number}.png"), cv2.resize(rough, (48, 48)))

    def run(*arguments):
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, *arguments], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    *_, command = fence("bash")[0].splitlines()
    assert command.startswith("python -m basicsr_plugin.train")
    run(*command.split()[1:], "--force_yml", "train:total_iter=2")
    assert run("-c", fence("{code-block} python")[0]) == (
        "{'type': 'SoftmaxRouter', 'temperature': 0.5} torch.Size([1, 3, 40, 56])\n"
    )
