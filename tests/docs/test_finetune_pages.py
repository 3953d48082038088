"""The pages on training from the shipped weights, followed to a checkpoint."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from documents import DOCS, ROOT

import clusir_modules
from basicsr_plugin.__main__ import main
from clusir_modules.serialization.network_files import load_network

SHORT = (
    "train:total_iter=1",
    "train:scheduler:warmup_iter=0",
    "val:val_freq=1",
    "datasets:train:gt_size=32",
    "datasets:train:batch_size_per_gpu=1",
)
SAVES = 'cm.clusir_tiny(pretrained=True).save_pretrained("weights")'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "folders"),
    [("pairs", ("pairs/train/input", "pairs/train/target", "pairs/val/input", "pairs/val/target")), ("finetune", ())],
)
def test_a_page_leads_from_the_shipped_weights_to_a_checkpoint(tmp_path, monkeypatch, page, folders):
    for folder in folders or ("photographs/train", "photographs/val"):
        (tmp_path / folder).mkdir(parents=True)
        rough = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(tmp_path / folder / "0.png"), cv2.resize(rough, (48, 48)))
    text = (DOCS / "howto" / f"{page}.md").read_text("utf-8")
    commands = [line for line in re.findall(r"^python -m .*finetune.*", text, re.MULTILINE) if "--check" not in line]
    assert SAVES in text
    copy, train = (shlex.split(command)[2:] for command in commands)
    monkeypatch.chdir(tmp_path)
    exec(SAVES, {"cm": clusir_modules})
    main(copy[1:])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", *train, "--force_yml", *SHORT]
    done = subprocess.run(run, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (checkpoint,) = tmp_path.glob("experiments/*/models/net_g_latest.pth")
    assert type(load_network(checkpoint)).__name__ == "ClusIR"
