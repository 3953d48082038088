"""Half precision on a CPU: near float32 at every shape, and the same bits at every call.

Processors with AMX take other code paths in torch's bfloat16 convolutions than those without. One of them, a grouped
convolution with a kernel of one row and a stride along it, reads memory that was never written. So these tests leave
NaN in the memory that the next call is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from factories import relative_error, smallest_clusir
from torch import Tensor, nn

import clusir_modules as cm

WAVES = ["haar", *(f"db{n}" for n in range(2, 9)), "sym4", "sym7", "bior1.3", "bior2.2", "bior4.4", "bior6.8", "coif1"]
SHAPES = [(2, 8, 33, 47), (1, 4, 17, 64), (1, 16, 31, 1), (1, 3, 5, 129), (3, 32, 40, 7), (1, 2, 5, 2), (1, 4, 9, 16)]
SIZES = [(1, 1), (1, 9), (5, 1), (5, 7), (16, 16), (17, 33), (31, 2), (40, 57)]
MODULES: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: cm.TransposedAttention(16, 2),
    "feed-forward": lambda: cm.GatedFeedForward(16, hidden_dim=24),
    "WTB haar": lambda: cm.WTB(16, 2),
    "WTB db2": lambda: cm.WTB(16, 2, "db2"),
    "WTB bior4.4": lambda: cm.WTB(16, 2, "bior4.4"),
    "ClusterMoE": lambda: cm.ClusterMoE(16, num_experts=3, num_clusters=4, embed_dim=8),
    "DAFMM": lambda: cm.DAFMM(16, layer_scale=0.5),
    "CAB": lambda: cm.CAB(16),
    "ClusIR": lambda: nn.Sequential(nn.Conv2d(16, 3, 1), smallest_clusir(), nn.Conv2d(3, 16, 1)),
}


def leave_nan_in_memory() -> None:
    for size in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18):
        torch.full((size,), float("nan"), dtype=torch.bfloat16)


def repeated(call: Callable[..., Sequence[Tensor]], *arguments: Any) -> Sequence[Tensor]:
    """What ``call`` returns, the same bits three times."""
    results = []
    for _ in range(3):
        leave_nan_in_memory()
        results.append(call(*arguments))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert torch.equal(a, b)
    return results[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wave", WAVES)
def test_wavelet_transforms(wave: str, dtype: torch.dtype) -> None:
    for number, shape in enumerate(SHAPES):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(dtype)
        ll, details = cm.dwt2d(x.float(), wave)
        for got, wanted in zip(repeated(cm.dwt2d, x, wave), (ll, details), strict=True):
            assert got.dtype == dtype
            assert relative_error(got.float(), wanted) < 0.01
        ll, details = ll.to(dtype), details.to(dtype)
        (joined,) = repeated(lambda *bands: [cm.idwt2d(*bands)], ll, details, wave)
        assert relative_error(joined.float(), cm.idwt2d(ll.float(), details.float(), wave)) < 0.01


@pytest.mark.parametrize("wave", ["db2", "bior4.4"])
def test_wavelet_transforms_under_autocast(wave: str) -> None:
    for shape in SHAPES:
        x = torch.randn(shape)
        with torch.autocast("cpu", torch.bfloat16):
            got = repeated(cm.dwt2d, x, wave)
        for a, b in zip(got, cm.dwt2d(x, wave), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16 module"])
@pytest.mark.parametrize("name", MODULES)
def test_outputs_and_gradients_of_modules(name: str, autocast: bool) -> None:
    module = MODULES[name]()
    for height, width in SIZES:
        x = torch.randn(2, 16, height, width)
        expected = module(x).detach()
        twin = module if autocast else MODULES[name]().bfloat16()
        if not autocast:
            twin.load_state_dict(module.state_dict())

        def run(twin: nn.Module, x: Tensor) -> list[Tensor]:
            twin.zero_grad()
            image = (x if autocast else x.bfloat16()).clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = twin(image)
            y.float().square().mean().backward()
            return [y.detach(), image.grad, *(p.grad for p in twin.parameters())]

        got = repeated(run, twin, x)
        assert all(tensor.isfinite().all() for tensor in got)
        assert relative_error(got[0].float(), expected) < 0.1
