"""The demo's table and pictures."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import clusir_modules as cm
from basicsr_plugin.demo import report
from clusir_modules.data import AllInOneDataset


class _Identity(torch.nn.Module):
    """Returns the image as it is, routed by a real network."""

    def __init__(self):
        super().__init__()
        self.net = cm.clusir_tiny().eval()

    def forward(self, x, *, return_routing):
        return x, self.net.route(x)


@pytest.fixture
def results(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    tasks = [
        {"name": "noise", "dataroot_gt": str(tmp_path), "degradation": {"type": "GaussianNoise", "sigma": 25}},
        {"name": "dark", "dataroot_gt": str(tmp_path), "degradation": {"type": "LowLight"}},
    ]
    dataset = AllInOneDataset(tasks, seed=3)
    return report.evaluate(_Identity(), dataset), dataset


def test_a_network_that_does_nothing_gains_nothing(results):
    found, _ = results
    assert [result.task for result in found] == ["noise", "dark"]
    for result in found:
        assert result.restored_psnr == result.input_psnr


def test_psnr_is_the_mean_over_the_images_of_the_task(results):
    found, dataset = results
    values = [
        peak_signal_noise_ratio(item["gt"].numpy(), item["lq"].numpy(), data_range=1)
        for item in (dataset[0], dataset[1])
    ]
    assert found[0].input_psnr == pytest.approx(np.mean(values), abs=1e-6)


def two_networks(found):
    """As one that did nothing, and one that gained a decibel."""
    better = [result._replace(restored_psnr=result.input_psnr + 1) for result in found]
    return {"before": found, "after": better}


def test_the_table_has_a_row_for_each_task_and_a_column_for_each_network(results):
    found, _ = results
    head, first, _ = report.format_table(two_networks(found)).splitlines()
    assert head.split() == ["PSNR", "in", "dB", "input", "before", "after"]
    value = found[0].input_psnr
    assert first.split() == ["noise", f"{value:.2f}", f"{value:.2f}", f"{value + 1:.2f}"]


def test_the_csv_holds_the_numbers(results, tmp_path):
    found, _ = results
    report.write_csv(two_networks(found), tmp_path / "psnr.csv")
    head, *rows = csv.reader((tmp_path / "psnr.csv").open())
    assert head == ["task", "input_psnr_db", "before_psnr_db", "after_psnr_db"]
    assert [row[0] for row in rows] == ["noise", "dark"]
    assert [float(value) for value in rows[0][1:]] == [found[0].input_psnr] * 2 + [found[0].input_psnr + 1]


def test_the_contact_sheet_shows_the_images(results, tmp_path):
    found, _ = results
    report.contact_sheet(two_networks(found), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(float)
    quarter = sheet.shape[1] // 4
    bottom = [sheet[sheet.shape[0] // 2 :, quarter * n : quarter * (n + 1)].mean() for n in range(4)]
    assert bottom[0] == pytest.approx(bottom[1], abs=3), "a network that does nothing"
    assert bottom[0] < bottom[3] - 5, "the last row's first picture is the low-light one, its last the clean one"


def test_the_routing_picture_changes_with_the_routing(results, tmp_path):
    found, _ = results
    report.routing_picture(found, tmp_path / "one.png")
    moved = [result._replace(cluster_probs=tuple(p.flip(0) for p in result.cluster_probs)) for result in found]
    moved[0] = moved[0]._replace(expert_probs=tuple(torch.eye(len(p))[0] for p in moved[0].expert_probs))
    report.routing_picture(moved, tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png"))
    assert one.shape != two.shape or (one != two).any()
