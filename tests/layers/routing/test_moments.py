from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clusir_modules import PCGRM
from clusir_modules.layers.routing.moments import RunningStandardization

DEVIATION_OF_NORMAL = (2 / torch.pi) ** 0.5


def batches(count: int, mean: Tensor, std: Tensor) -> list[Tensor]:
    """Maps of one pixel ``(8, C, 1, 1)``."""
    return [(mean + std * torch.randn(8, mean.numel(), dtype=torch.float64))[..., None, None] for _ in range(count)]


def test_equals_the_recursion_by_hand() -> None:
    module = RunningStandardization(2, momentum=0.3).double()
    mean, deviation = torch.zeros(2).double(), torch.ones(2).double()
    for number, x in enumerate(batches(6, torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.5])), start=1):
        centered = x[..., 0, 0] - mean
        torch.testing.assert_close(module(x)[..., 0, 0], centered / (deviation + 1e-3))
        weight = max(0.3, 1 / (number + 1))
        deviation += weight * (centered.abs().mean(0) - deviation)
        mean += weight * (x[..., 0, 0].mean(0) - mean)
    torch.testing.assert_close(module.mean, mean)
    torch.testing.assert_close(module.deviation, deviation)


def test_moments_of_what_was_seen_are_found() -> None:
    mean, std = torch.tensor([100.0, -3.0, 0.0]), torch.tensor([20.0, 1.0, 0.1])
    module = RunningStandardization(3).double()
    for x in batches(1500, mean, std):
        module(x)
    torch.testing.assert_close(module.mean, mean.double(), atol=0.1, rtol=0.2)
    torch.testing.assert_close(module.deviation, std.double() * DEVIATION_OF_NORMAL, atol=0, rtol=0.2)


@torch.no_grad()
def test_a_router_tells_images_apart_that_have_nearly_everything_in_common() -> None:
    common = 300 * torch.randn(16)
    images = (common + torch.randn(500, 16))[..., None, None]
    router, module = PCGRM(16, num_clusters=4), RunningStandardization(16)
    for batch in images.split(5):
        module(batch)
    module.eval()

    def spread(x: Tensor) -> float:
        return float(router(x).cluster_probs.std(dim=0).max())

    assert spread(images) < 0.01
    assert spread(module(images)) > 0.05


@pytest.mark.parametrize("damage", [float("nan"), float("inf"), -1e30], ids=str)
def test_a_damaged_image_does_not_spoil_the_moments(damage: float) -> None:
    mean, std = torch.tensor([100.0, -3.0]), torch.tensor([20.0, 1.0])
    module = RunningStandardization(2).double()
    for number, x in enumerate(batches(1500, mean, std)):
        if number in (0, 700, 1400):
            x[3] = damage
        module(x)
    torch.testing.assert_close(module.mean, mean.double(), atol=0.2, rtol=0.2)
    torch.testing.assert_close(module.deviation, std.double() * DEVIATION_OF_NORMAL, atol=0, rtol=0.3)


@pytest.mark.parametrize("backend", ["aot_eager", "aot_eager_decomp_partition"])
def test_a_compiled_gradient_is_that_by_the_moments_before_the_batch(backend: str) -> None:
    # with the moments after it, which a compiled backward pass would read, it is another one
    modules = [RunningStandardization(3, momentum=0.5).double() for _ in range(2)]
    plain, compiled = modules[0], torch.compile(modules[1], backend=backend, fullgraph=True)
    for x in batches(3, torch.tensor([3.0, -1.0, 0.0]), torch.tensor([20.0, 0.5, 5.0])):
        leaves = [x.clone().requires_grad_() for _ in modules]
        for leaf, module in zip(leaves, (plain, compiled), strict=True):
            module(leaf).square().sum().backward()
        torch.testing.assert_close(leaves[1].grad, leaves[0].grad)
    torch.testing.assert_close(modules[1].deviation, plain.deviation)


def test_an_image_does_not_depend_on_its_batch_mates_and_moments_stay_in_eval() -> None:
    module = RunningStandardization(4)
    x = torch.randn(3, 4, 1, 1)
    alone = [RunningStandardization(4)(image[None]) for image in x]
    assert torch.equal(module(x), torch.cat(alone))  # in training too: only what came before counts
    module.eval()
    before = module.mean.clone()
    module(x + 5)
    assert torch.equal(module.mean, before)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        RunningStandardization(0)
    with pytest.raises(ValueError, match=r"momentum must be at most 1, got 1\.5"):
        RunningStandardization(2, momentum=1.5)
    with pytest.raises(ValueError, match="x must have 3 channels, got 2"):
        RunningStandardization(3)(torch.rand(1, 2, 1, 1))
