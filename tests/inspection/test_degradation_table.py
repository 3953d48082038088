"""Which degradation a cluster stands for."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import clusir_modules as cm
from clusir_modules.inspection.degradation_table import (
    ClusterTable,
    DegradationTable,
    measure_table,
    read_table,
    write_table,
)
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS
from clusir_modules.serialization.network_files import load_network, save_network


def routing(*probs: float) -> SimpleNamespace:
    return SimpleNamespace(cluster_probs=torch.tensor([probs]))


class Router(nn.Module):
    """One level that tells dark from bright, one that tells noise from none, one that tells nothing."""

    def route(self, x):
        bright = (x.mean((1, 2, 3)) > 0.4).float()
        noisy = ((x - x.mean((2, 3), keepdim=True)).std((1, 2, 3)) > 0.1).float()
        one = torch.ones_like(bright)
        return tuple(
            SimpleNamespace(cluster_probs=torch.stack(pair, dim=1))
            for pair in ((bright, 1 - bright), (one / 2, one / 2), (noisy, 1 - noisy))
        )


KINDS = {
    "clean": None,
    "dark": lambda image, generator: image * 0.2,
    "noise": lambda image, generator: (image + torch.randn(image.shape, generator=generator) * 0.4).clamp(0, 1),
}


def measured() -> DegradationTable:
    pictures = [torch.full((3, 16, 16), level) for level in (0.5, 0.6, 0.7, 0.8)]
    return measure_table(Router(), pictures, KINDS)


def test_the_guess_is_that_of_bayes():
    table = DegradationTable(
        ("haze", "rain"),
        0.9,
        10,
        (ClusterTable(0, 0.9, ((0.8, 0.1), (0.2, 0.9))), ClusterTable(2, 0.8, ((0.5, 0.25), (0.5, 0.75)))),
    )
    (first, p), (second, q) = table.guess([routing(1.0, 0.0), routing(0.3, 0.7), routing(0.0, 1.0)])
    haze, rain = 0.8 / 0.9 * (0.5 / 1.25), 0.1 / 0.9 * (0.75 / 1.25)
    assert (first, second) == ("haze", "rain")
    assert p == pytest.approx(haze / (haze + rain))
    assert q == pytest.approx(rain / (haze + rain))


def test_a_table_is_measured_and_recognizes_pictures_that_it_has_not_seen():
    table = measured()
    assert table.kinds == ("clean", "dark", "noise")
    assert table.pictures == 4
    assert table.accuracy == 1
    assert {level.level for level in table.levels} == {0, 2}, "the level that tells nothing is the least pure"
    assert [level.purity for level in table.levels] == [pytest.approx(2 / 3, abs=1e-3)] * 2
    picture = torch.full((1, 3, 16, 16), 0.65)
    assert table.guess(Router().route(picture))[0][0] == "clean"
    assert table.guess(Router().route(picture * 0.2))[0][0] == "dark"


def test_too_little_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least 2 each, got 1 and 3"):
        measure_table(Router(), [torch.zeros(3, 8, 8)], KINDS)


def test_a_table_goes_into_the_weights_and_nothing_else_changes(tmp_path):
    path = tmp_path / "net.safetensors"
    net = cm.clusir_tiny()
    save_network(net, path)
    with safe_open(path, "pt") as file:
        before = file.metadata()
    assert read_table(path) is None
    table = measured()
    write_table(path, table)
    assert read_table(path) == table
    write_table(path, table._replace(pictures=5))
    assert read_table(path).pictures == 5
    with safe_open(path, "pt") as file:
        after = file.metadata()
    assert {key: value for key, value in after.items() if key != "degradations"} == before
    stored = load_file(path)
    assert all(torch.equal(value, stored[name]) for name, value in net.state_dict().items())
    assert load_network(path).config == net.config


@pytest.mark.parametrize("stored", ["no JSON", "[]", '{"kinds": ["a"]}', '{"kinds": "ab", "levels": 3}'])
def test_a_damaged_table_is_refused(tmp_path, stored):
    path = tmp_path / "net.safetensors"
    save_network(cm.clusir_tiny(), path)
    write_table(path, measured())
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["degradations"] = stored
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])
    with pytest.raises(ValueError, match=r"the table of degradations in '.*net\.safetensors' is damaged"):
        read_table(path)


def test_a_table_for_other_clusters_is_refused():
    with pytest.raises(ValueError, match="does not fit the clusters"):
        measured().guess([routing(0.2, 0.8)])
    with pytest.raises(ValueError, match="does not fit the clusters"):
        measured().guess([routing(0.2, 0.3, 0.5)] * 3)


def test_the_shipped_weights_say_what_their_clusters_stand_for():
    table = read_table(SHIPPED_WEIGHTS)
    assert table.kinds == ("clean", "noise", "rain", "haze", "motion_blur", "low_light")
    assert table.pictures >= 60
    assert table.accuracy > 0.6
    assert all(level.purity > 0.5 for level in table.levels)


@pytest.mark.parametrize("kind", ["noise", "low_light", "motion_blur"])
def test_the_shipped_weights_recognize_a_photograph(kind):
    skimage_data = pytest.importorskip("skimage.data")
    photograph = torch.from_numpy(skimage_data.astronaut()[:256, 100:356] / 255).float().permute(2, 0, 1)
    from clusir_modules.data import TASK_DEGRADATIONS

    degraded = TASK_DEGRADATIONS[kind](photograph, torch.Generator().manual_seed(0)).clamp(0, 1)
    with torch.no_grad():
        routings = cm.clusir_tiny(pretrained=True).eval().route(degraded.unsqueeze(0))
    assert read_table(SHIPPED_WEIGHTS).guess(routings)[0][0] == kind
