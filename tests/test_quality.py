"""The evaluation of trained weights, on pictures of a few pixels and a network that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import clusir_modules as cm
from benchmarks.quality.additions import Shown, evaluate, fall_back, report
from benchmarks.quality.causes import causes_report, uniform
from benchmarks.quality.classics import CLASSICS, dark_channel_prior, kernel_of, wiener_in_linear_light
from benchmarks.quality.clusters import cluster_report, normalized_mutual_information
from benchmarks.quality.confidence import calibration, confidence_report
from benchmarks.quality.known import Evaluation, degraded, known_benchmarks, restore_all
from benchmarks.quality.stability import changed, stability_report
from clusir_modules.data import AllInOneDataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for folder in ("cbsd68", "rain100h_part/input", "rain100h_part/target"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(2):
            smooth = np.kron(draw.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1)))
            Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def test_information_of_labels() -> None:
    assert normalized_mutual_information([1, 1, 2, 3], ["a", "a", "b", "c"]) == pytest.approx(1)
    assert normalized_mutual_information([1, 1, 2, 2], ["a", "b", "a", "b"]) == pytest.approx(0)
    assert normalized_mutual_information([1, 1], ["a", "a"]) == 0
    # H(first) = log 2, H(second) = 1.5 log 2, joint entropy 1.5 log 2
    assert normalized_mutual_information([1, 1, 2, 2], ["a", "a", "b", "c"]) == pytest.approx(2 / 2.5)


def test_tables_hold_what_was_measured(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = cm.clusir_tiny()
    evaluations = known_benchmarks(net, data, tmp_path)
    rows = {row["task"]: row for row in json.loads((tmp_path / "quality_cbsd68.json").read_text())["rows"]}
    assert {row["images"] for row in rows.values()} == {2}
    task = {"name": "n", "dataroot_gt": data / "cbsd68", "degradation": {"type": "GaussianNoise", "sigma": 25}}
    dataset = AllInOneDataset([task], center_crop=16)
    expected = [
        peak_signal_noise_ratio(item["gt"].numpy(), net(item["lq"][None])[0].clamp(0, 1).detach().numpy(), data_range=1)
        for item in (dataset[0], dataset[1])
    ]
    found = [evaluation.after[0] for evaluation in restore_all(net, dataset)]
    assert found == pytest.approx(expected, abs=1e-3)
    assert rows["noise 25"]["restored"][0] == pytest.approx(
        np.mean([e.after[0] for e in evaluations if e.task == "noise 25"])
    )
    assert "Rain100H part" in (tmp_path / "quality_real.md").read_text()
    cluster_report(net, evaluations, tmp_path)
    assert len(json.loads((tmp_path / "quality_clusters.json").read_text())) == 4
    confidence_report(evaluations, tmp_path)
    for row in json.loads((tmp_path / "quality_confidence.json").read_text()):
        assert row["images"] == 8
        assert row["expected calibration error"] >= abs(row["mean confidence"] - row["share right"]) - 1e-6
    for name in ("quality_cbsd68", "quality_real", "quality_clusters", "quality_prompts"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_routing_that_stays_and_routing_that_changes(data: Path, tmp_path: Path) -> None:
    net = cm.clusir_tiny()
    stability_report(net, data, tmp_path, earlier=net)
    assert json.loads((tmp_path / "quality_stability.json").read_text())["earlier checkpoint"] == [0, 0, 0, 0]
    routings = net.route(torch.rand(1, 3, 32, 32))
    second = routings[1]._replace(expert_probs=1 - routings[1].expert_probs)
    assert changed(routings, (routings[0], second, *routings[2:])) == [False, True, False, False]


def test_what_routing_and_deep_levels_cause(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = cm.clusir_tiny(gain=False).eval()
    causes_report(net, data, tmp_path)
    rows = json.loads((tmp_path / "quality_causes.json").read_text())
    assert list(rows) == ["clean", "noise 15", "noise 25", "noise 50", "rain", "haze", "blur", "low light"]
    # by hand: clean comes back with the routing of noise 15, and with that of noise 50
    dataset = degraded(data / "cbsd68", mixtures=False)
    lq, gt = dataset[0]["lq"][None], dataset[0]["gt"].numpy()
    routings = [net.route(dataset[2 * number]["lq"][None]) for number in (0, 1, 3)]

    def quality(chosen: tuple[cm.Routing, ...]) -> float:
        restored = net(lq, routings=chosen)[0].clamp(0, 1).detach().numpy()
        return float(peak_signal_noise_ratio(gt, restored, data_range=1))

    swapped = (quality(routings[1]) + quality(routings[2])) / 2
    assert rows["clean"]["all levels: another's"] == pytest.approx(quality(routings[0]) - swapped, abs=1e-3)
    # a network whose deep levels reach nothing
    for parameter in net.get_submodule("stages.0.decoder.0.up").parameters():
        torch.nn.init.zeros_(parameter)
    causes_report(net, data, tmp_path)
    dead = json.loads((tmp_path / "quality_causes.json").read_text())
    assert {name for name, cost in dead["rain"].items() if cost == 0} >= {
        f"no features of level {level} and below" for level in (2, 3, 4)
    }


def test_a_temperature_takes_back_what_the_clusters_are_too_sure_of(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    evaluations = []
    for number in range(400):  # 0.99 sure of two clusters, one for each degradation, but right three times of four
        kind = number // 200
        seen = kind if draw.random() < 0.75 else 1 - kind
        posterior = torch.full((1, 2), 0.01)
        posterior[0, seen] = 0.99
        routing = cm.choose_experts(torch.ones(1, 1), 1, cluster_probs=posterior)
        task = ("noise 25", "rain")[kind]
        evaluations.append(Evaluation(task, (0, 0), (0, 0), (routing, routing), (torch.zeros(3, 1, 1),) * 3, 0.0))
    confidence_report(evaluations, tmp_path)
    for row in json.loads((tmp_path / "quality_confidence.json").read_text()):
        assert row["expected calibration error"] > 0.2
        assert row["error with the temperature"] < 0.1
    assert f"| {row['temperature']:.2f} |" in (tmp_path / "quality_confidence.md").read_text()


def test_calibration_error_by_hand() -> None:
    # two of three right at 0.9, none of one at 0.3: (3 |0.9 - 2/3| + |0.3 - 0|) / 4
    error, bins = calibration([0.9, 0.9, 0.9, 0.3], [True, True, False, False])
    assert error == pytest.approx((3 * (0.9 - 2 / 3) + 0.3) / 4)
    assert bins == [(0.3, 0.0, 1), (pytest.approx(0.9), pytest.approx(2 / 3), 3)]
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.2, 1, 20000)
    assert calibration(list(sure), list(draw.random(20000) < sure))[0] < 0.02


def test_the_routing_that_knows_nothing() -> None:
    router = cm.PCGRM(8, num_clusters=5)
    found = uniform(router(torch.rand(3, 8, 4, 4)))
    torch.testing.assert_close(found.cluster_probs, torch.full((3, 5), 0.2))
    torch.testing.assert_close(found.topk_weights, torch.full((3, 2), 0.5))
    prototypes = torch.nn.functional.normalize(router.prototypes, dim=1)
    torch.testing.assert_close(found.prompt, (prototypes / 5).expand(3, -1, -1))


def test_the_dark_channel_prior_finds_even_haze() -> None:
    scene = np.random.default_rng(0).random((96, 128, 3)) ** 4  # each 15 pixels something dark, and something bright
    light, passed = np.array([0.9, 0.85, 0.95]), 0.5
    hazy = scene * passed + light * (1 - passed)
    hazy[:24, :24] = light  # the sky
    found = dark_channel_prior(hazy)[40:, 40:]
    assert np.abs(found - scene[40:, 40:]).mean() < 0.2 * np.abs(hazy - scene)[40:, 40:].mean()


def test_the_wiener_filter_is_told_the_kernel_that_the_data_set_drew(tmp_path: Path) -> None:
    y, x = np.mgrid[:96, :128] / 8
    folder = tmp_path / "photographs"
    folder.mkdir()
    pixels = (127 + 120 * np.stack([np.sin(x + y), np.cos(x), np.sin(3 * y)], axis=2)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    dataset = degraded(folder)
    number = [task.name for task in dataset.tasks].index("blur")
    item = dataset[number]
    blurred, clean = (item[key].permute(1, 2, 0).double().numpy() for key in ("lq", "gt"))
    kernel = kernel_of(dataset, number, "blur")
    assert kernel is not None
    assert kernel_of(dataset, number, "rain") is None
    sharp = wiener_in_linear_light(blurred, kernel)
    assert np.square(sharp - clean)[32:-32, 32:-32].mean() < 0.7 * np.square(blurred - clean)[32:-32, 32:-32].mean()


def test_classics_are_measured_beside_ours_on_the_same_images(data: Path, tmp_path: Path) -> None:
    known_benchmarks(cm.clusir_tiny(), data, tmp_path)
    rows = {row["task"]: row for row in json.loads((tmp_path / "quality_cbsd68.json").read_text())["rows"]}
    assert rows["clean"]["input"][0] == np.inf
    assert {task for task, row in rows.items() if "classic" in row} == set(CLASSICS) & set(rows)
    assert rows["haze"]["classic"]["images"] == 1
    assert "dark channel prior: " in (tmp_path / "quality_cbsd68.md").read_text()


def test_additions_are_measured_picture_by_picture_and_compared_seed_by_seed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = cm.clusir_tiny()
    gt = torch.rand(3, 32, 32)
    lq = [(gt + noise * torch.randn(gt.shape)).clamp(0, 1) for noise in (0.1, 0.2)]
    found = evaluate(net, [Shown("n", picture, gt) for picture in lq])["n"]
    with torch.no_grad():
        output, routings = net.eval()(torch.stack(lq), return_routing=True)
    gains = [
        peak_signal_noise_ratio(gt.numpy(), after.clamp(0, 1).numpy(), data_range=1)
        - peak_signal_noise_ratio(gt.numpy(), before.numpy(), data_range=1)
        for before, after in zip(lq, output)
    ]
    assert found["gain"] == pytest.approx(np.mean(gains), abs=1e-3)
    assert found["confidence"] == pytest.approx(float(torch.stack([r.confidence for r in routings]).mean()), abs=1e-4)
    fall_back(net, 1.0)
    assert net.route(lq[0][None])[0].topk_weights.sum() < 0.99

    tasks = ["noise 15", "noise 25", "noise 50", "rain", "blur", "low light", "haze", "JPEG", "snow", "rain + noise"]
    rows = [
        {"network": name, "steps": 5, "seed": seed, "tasks": {t: {"gain": gain, "confidence": 0.5} for t in tasks}}
        for seed, gains in enumerate([(1.0, 2.0), (2.0, 5.0)])
        for name, gain in zip(("L1", "L1 with FFTLoss"), gains)
    ]
    report(rows, tmp_path / "additions")
    table = (tmp_path / "additions.md").read_text()
    assert "| L1 | 2 | 1.50 ± 0.71 | 1.50 ± 0.71 | 1.50 |" in table
    assert "| L1 with FFTLoss | L1 | 2.00 ± 1.41 |" in table
