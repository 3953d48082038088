"""The pages about parts and degradations of one's own, followed to their end: module, option file, training."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from documents import DOCS, ROOT


def fence(page, head):
    text = (DOCS / "howto" / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{re.escape(head)}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


class Follower:
    """A reader of a page who writes what it says into ``folder``, with three photographs."""

    def __init__(self, folder):
        self.folder = folder
        for part in ("train", "val"):
            (folder / "photographs" / part).mkdir(parents=True)
        for number in range(3):
            rough = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
            for part in ("train", "val"):
                cv2.imwrite(str(folder / f"photographs/{part}/{number}.png"), cv2.resize(rough, (48, 48)))

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def run(self, *arguments):
        path = os.pathsep.join([str(ROOT), str(self.folder)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, *arguments], check=False, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def train(self, command, *arguments):
        assert command.startswith("python -m basicsr_plugin.train")
        return self.run(*command.split()[1:], *arguments)


@pytest.mark.slow
def test_the_part_that_a_page_writes_trains_and_loads(tmp_path):
    reader = Follower(tmp_path)
    reader.write("my_project/parts.py", fence("own_part", "python")[0])
    reader.write("x.yml", fence("own_part", "yaml")[0])
    reader.train(fence("own_part", "bash")[0].splitlines()[-1], "--force_yml", "train:total_iter=2")
    assert reader.run("-c", fence("own_part", "{code-block} python")[0]) == fence("own_part", "output")[0]
    command = fence("own_part", "bash")[1].replace("\\\n", "").replace("photo.jpg", "photographs/train/0.png").split()
    reader.run("-m", "clusir_cli", *command[1:])
    assert cv2.imread(str(tmp_path / "restored.png")).shape == (48, 48, 3)


def test_a_block_without_a_name_cannot_be_saved_as_the_page_about_parts_says(tmp_path):
    import clusir_modules as cm

    net = cm.clusir_tiny(block=lambda dim, *, num_heads: torch.nn.Conv2d(dim, dim, 3, padding=1))
    with pytest.raises(ValueError, match=r"unknown block .*must be registered before the network is saved"):
        net.save_pretrained(tmp_path / "net")


@pytest.mark.slow
def test_the_degradation_that_a_page_writes_trains(tmp_path):
    reader = Follower(tmp_path)
    reader.write("my_degradations.py", fence("degradation", "{code-block} python")[0])
    reader.write("x.yml", fence("degradation", "yaml")[0])
    reader.train(fence("degradation", "bash")[0].splitlines()[-1], "--force_yml", "train:total_iter=2")
    assert list(tmp_path.glob("experiments/vignette/models/net_g_latest.pth"))
