"""Progressive patches."""

from __future__ import annotations

import pytest
import torch

from basicsr_plugin.data.progressive_patches import ProgressivePatches


def make(**changes):
    options = {
        "mini_batch_sizes": [4, 2],
        "iters": [10, 5],
        "gt_sizes": [8, 16],
        "gt_size": 16,
        "batch_size": 4,
        "scale": 2,
    }
    return ProgressivePatches(**{**options, **changes})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("iteration", "samples", "side"), [(1, 4, 8), (10, 4, 8), (11, 2, 16), (15, 2, 16), (99, 2, 16)]
)
def test_stages_change_after_their_iterations_and_the_last_stays(iteration, samples, side):
    lq, gt = make().crop(torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 16, 16), iteration, generator())
    assert gt.shape == (samples, 3, side, side)
    assert lq.shape == (samples, 3, side // 2, side // 2)


def test_input_and_target_show_the_same_window_at_random_places():
    gt = torch.arange(256.0).reshape(1, 1, 16, 16).expand(4, 1, 16, 16)
    lq = gt[..., ::2, ::2]
    corners = set()
    for seed in range(20):
        small, large = make().crop(lq, gt, 1, generator(seed))
        assert torch.equal(small, large[..., ::2, ::2])
        corners.add(large[0, 0, 0, 0].item())
    assert len(corners) > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iters": [1]}, r"of one length, got lengths \(2, 1, 2\)"),
        ({"gt_sizes": [8, 18]}, "must not exceed gt_size, 16"),
        ({"mini_batch_sizes": [5, 1]}, "must not exceed the batch size, 4"),
        ({"gt_sizes": [7, 16]}, "multiples of scale, 2"),
    ],
)
def test_sizes_that_the_loader_cannot_give_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
