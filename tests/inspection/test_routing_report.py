"""What a routing says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clusir_modules as cm
from clusir_modules.inspection.routing_report import describe_routing, draw_routings, summarize_routing


def routing() -> cm.Routing:
    experts = torch.tensor([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])
    return cm.choose_experts(experts, 2, cluster_probs=torch.tensor([[0.05, 0.15, 0.2, 0.6], [1.0, 0, 0, 0]]))


def test_the_line_names_clusters_and_experts_by_probability() -> None:
    line = describe_routing(3, routing())
    assert line == "level 3: clusters 3 (60%), 2 (20%), 1 (15%) of 4; experts 1 (67%), 2 (33%) of 3"


def test_the_figure_shows_the_probabilities_and_colors_what_runs() -> None:
    pytest.importorskip("matplotlib")
    figure = draw_routings(np.zeros((8, 9, 3), np.uint8), [routing(), routing()])
    picture, *axes = figure.axes
    assert picture.images[0].get_array().shape == (8, 9, 3)
    assert [a.get_title() for a in axes] == [f"level {n}: {kind}" for n in (1, 2) for kind in ("clusters", "experts")]
    assert [bar.get_height() for bar in axes[1].patches] == pytest.approx([0.1, 0.6, 0.3])
    colors = [bar.get_facecolor() for bar in axes[1].patches]
    assert colors[1] == colors[2] != colors[0]


def test_the_summary_is_the_mean_of_each_task() -> None:
    first, second = routing(), routing()
    watched = [
        (["noise", "rain"], [(first.cluster_probs, first.topk_indices)]),
        (["rain", "rain"], [(second.cluster_probs, second.topk_indices)]),
    ]
    summary = summarize_routing(watched, [3])
    # rain: image 2 of the first batch and both of the second; experts {0, 1 or 2}, {1, 2}, {0, 1 or 2}
    assert summary["experts/level1/rain/0"] == pytest.approx(2 / 3)
    assert summary["experts/level1/noise/0"] == 0
    assert summary["experts/level1/noise/1"] == summary["experts/level1/noise/2"] == 1
    assert summary["clusters/level1/noise/3"] == pytest.approx(0.6)
    assert summary["clusters/level1/rain/0"] == pytest.approx((1 + 0.05 + 1) / 3)
    assert {tag.split("/")[2] for tag in summary} == {"noise", "rain"}


def test_the_summary_of_many_batches_is_the_mean_over_the_images_of_each_task() -> None:
    generator = torch.Generator().manual_seed(0)
    watched, rows = [], []
    for tasks in (["a", "b", "a"], ["b"], ["c", "a"]):
        posterior = torch.rand(len(tasks), 4, generator=generator).softmax(dim=1)
        chosen = torch.stack([torch.randperm(5, generator=generator)[:2] for _ in tasks])
        watched.append((tasks, [(posterior, chosen)]))
        rows += [(t, p.tolist(), c.tolist()) for t, p, c in zip(tasks, posterior, chosen, strict=True)]
    summary = summarize_routing(watched, [5])
    assert len(summary) == 3 * (4 + 5)
    for task in "abc":
        own = [(posterior, chosen) for name, posterior, chosen in rows if name == task]
        for cluster in range(4):
            mean = sum(posterior[cluster] for posterior, _ in own) / len(own)
            assert summary[f"clusters/level1/{task}/{cluster}"] == pytest.approx(mean, abs=1e-6)
        for expert in range(5):
            share = sum(expert in chosen for _, chosen in own) / len(own)
            assert summary[f"experts/level1/{task}/{expert}"] == pytest.approx(share, abs=1e-6)
