"""The published networks as one graph and as a program for any size, without a complaint of torch's compiler."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import clusir_modules as cm

NETWORKS = (
    pytest.param(cm.clusir_base, marks=pytest.mark.long),
    pytest.param(cm.clusir_small, marks=pytest.mark.long),
    cm.clusir_tiny,
    cm.mprnet_deraining,
    pytest.param(cm.mprnet_denoising, marks=pytest.mark.long),  # in the shape of the one above
    pytest.param(cm.mprnet_deblurring, marks=pytest.mark.long),
)
KNOWN = (
    "Torchinductor does not support code generation for complex operators",  # the Fourier transforms of DAFMM
    "`torch._prims_common.check` is deprecated",  # torch calls it itself
)


# docs/howto/gpu.md; aot_eager takes no options
OPTIONS = None if torch.__version__ >= (2, 15) else {"layout_optimization": False}


@pytest.fixture(params=NETWORKS, ids=lambda make: make.__name__)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return request.param().eval()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Warnings, and what the compiler logs as such: limits of recompilation, what it cannot trace, slow code."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    loggers = [logging.getLogger(f"torch.{part}") for part in ("_dynamo", "_functorch", "_inductor")]
    torch.compiler.reset()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", lambda message, *_, **__: heard.append(str(message)))
        for logger in loggers:
            logger.addHandler(handler)
        yield heard
        for logger in loggers:
            logger.removeHandler(handler)
    torch.compiler.reset()


def assert_close(actual: Tensor | list[Tensor], expected: Tensor | list[Tensor]) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_is_one_graph(net: nn.Module, complaints: list[str]) -> None:
    x = torch.rand(1, 3, 24, 40)
    assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x), net(x))
    assert complaints == []


@torch.no_grad()
def test_is_a_program_for_any_size(net: nn.Module) -> None:
    axes = {0: Dim.STATIC, 1: Dim.STATIC, 2: Dim.AUTO, 3: Dim.AUTO}
    exported = torch.export.export(net, (torch.rand(1, 3, 40, 56),), dynamic_shapes=(axes,), strict=False).module()
    x = torch.rand(1, 3, 35, 66)
    assert_close(exported(x), net(x))


class Level(nn.Module):
    """Every kind of part once."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.moe, self.frequency = cm.WTB(8, num_heads=2), cm.ClusterMoE(8), cm.DAFMM(8, prompt_dim=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.moe(self.block(x))
        y: Tensor = self.frequency(x, x)
        return y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "channels", "backend"),
    [
        (Level, 8, "aot_eager"),
        pytest.param(Level, 8, "inductor", marks=pytest.mark.long),
        pytest.param(cm.clusir_tiny, 3, "aot_eager", marks=pytest.mark.long),
    ],
)
def test_trains_at_several_sizes(
    make: Callable[[], nn.Module], channels: int, backend: str, complaints: list[str]
) -> None:
    """The whole network, and through the compiler's last stage, which takes minutes for it, one level."""
    net = make()
    options = OPTIONS if backend == "inductor" else None
    compiled = torch.compile(net, fullgraph=True, backend=backend, options=options)
    start = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for side in (32, 48, 64):
        x = torch.rand(2, channels, side, side)
        gradients = []
        for call in (net, compiled):
            net.zero_grad()
            for name, buffer in net.named_buffers():  # running moments
                buffer.copy_(start[name])
            output = call(x)
            output.square().mean().backward()
            gradients.append([output.detach(), *(parameter.grad for parameter in net.parameters())])
        assert_close(*gradients)
    assert [complaint for complaint in complaints if not any(known in complaint for known in KNOWN)] == []
