"""What is measured: each row sets this project beside a peer, or a module beside itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import clusir_modules as cm

__all__ = ["ROWS", "Row", "Setting"]


@dataclass(frozen=True)
class Setting:
    """Where and how everything runs."""

    device: torch.device
    dtype: torch.dtype

    def image(self, *shape: int) -> Tensor:
        """A random image on the device, channels last on a GPU."""
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return x.contiguous(memory_format=torch.channels_last) if self.device.type == "cuda" else x

    def net(self, net: nn.Module) -> nn.Module:
        """The network on the device, channels last on a GPU."""
        net = net.to(self.device)
        return net.to(memory_format=torch.channels_last) if self.device.type == "cuda" else net

    def inference(self, net: nn.Module, x: Tensor) -> Callable[[], Any]:
        """A call without gradients."""
        net = self.net(net).eval()

        def call() -> Any:
            with torch.no_grad(), torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
                return net(x)

        return call

    def forward_with_graph(self, net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        """A forward pass that keeps what the backward pass needs."""
        net = self.net(net).train()

        def call() -> Tensor:
            with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss: Tensor = _final(net(x)).float().square().mean()
            return loss

        return call

    def training(self, net: nn.Module, x: Tensor) -> Callable[[], None]:
        """A forward and a backward pass."""
        forward = self.forward_with_graph(net, x)

        def call() -> None:
            net.zero_grad(set_to_none=True)
            forward().backward()

        return call


@dataclass(frozen=True)
class Row:
    """One line of the table: ``ours`` over ``peer``.

    Attributes:
        work: what is done, for the reader.
        ours, peer: names of the two sides.
        build: both calls by these names.
        time: highest ratio of seconds that is wanted; None if time is not the question.
        memory: the same for memory.
        build_memory: calls whose memory is compared, if they are others than those that are timed.
        autograd: memory is what autograd keeps after the forward pass, else the peak.
        scale: the ratio of seconds is divided by it (more work on our side).
        busy: compare not seconds, but how many times longer a call takes beside two spinning processes a core.
    """

    work: str
    ours: str
    peer: str
    build: Callable[[Setting], dict[str, Callable[[], Any]]]
    time: float | None = None
    memory: float | None = None
    build_memory: Callable[[Setting], dict[str, Callable[[], Any]]] | None = None
    autograd: bool = False
    scale: float = 1.0
    busy: bool = False


def _final(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _restormer() -> nn.Module:
    from spandrel_extra_arches.architectures.Restormer import Restormer

    return Restormer()


def _nafnet() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(width=32, enc_blk_nums=[1, 1, 1, 28], middle_blk_num=1, dec_blk_nums=[1, 1, 1, 1])


def _against(
    peer: str, make: Callable[[], nn.Module], ours: Callable[[], nn.Module] = cm.clusir_base
) -> Callable[[Setting], dict[str, Callable[[], Any]]]:
    def build(at: Setting) -> dict[str, Callable[[], Any]]:
        x = at.image(1, 3, 256, 256)
        return {ours.__name__: at.inference(ours(), x), peer: at.inference(make(), x)}

    return build


def _training(at: Setting) -> dict[str, Callable[[], Any]]:
    x = at.image(1, 3, 128, 128)
    return {"clusir_base": at.training(cm.clusir_base(), x), "Restormer": at.training(_restormer(), x)}


def _training_memory(at: Setting) -> dict[str, Callable[[], Any]]:
    x = at.image(1, 3, 128, 128)
    nets = {"clusir_base": cm.clusir_base(), "Restormer": _restormer()}
    return {name: at.forward_with_graph(net, x) for name, net in nets.items()}


def _haar(at: Setting) -> dict[str, Callable[[], Any]]:
    from pytorch_wavelets import DWTForward, DWTInverse

    x = torch.rand(8, 48, 128, 128, device=at.device, requires_grad=True)
    gradient = torch.rand_like(x)
    analysis = DWTForward(J=1, wave="haar").to(at.device)
    synthesis = DWTInverse(wave="haar").to(at.device)

    def ours() -> Any:
        return torch.autograd.grad(cm.idwt2d(*cm.dwt2d(x)), x, gradient)

    def theirs() -> Any:
        return torch.autograd.grad(synthesis(analysis(x)), x, gradient)

    return {"dwt2d + idwt2d": ours, "pytorch_wavelets": theirs}


def _sparse(at: Setting) -> dict[str, Callable[[], Any]]:
    sparse = cm.ClusterMoE(96, num_experts=8, top_k=2)
    dense = cm.ClusterMoE(96, num_experts=8, top_k=8)
    dense.load_state_dict(sparse.state_dict())
    x = at.image(8, 96, 64, 64).contiguous(memory_format=torch.channels_last)
    return {"top 2 of 8": at.inference(sparse, x), "all 8": at.inference(dense, x)}


def _growth(at: Setting) -> dict[str, Callable[[], Any]]:
    net = cm.clusir_base()
    large, small = at.image(1, 3, 1024, 1024), at.image(1, 3, 256, 256)
    return {"1024x1024": at.inference(net, large), "256x256": at.inference(net, small)}


def _small(at: Setting) -> dict[str, Callable[[], Any]]:
    x = at.image(1, 3, 256, 256)
    return {"clusir_small": at.inference(cm.clusir_small(), x), "clusir_base": at.inference(cm.clusir_base(), x)}


def _tiles(at: Setting) -> dict[str, Callable[[], Any]]:
    net = at.net(cm.clusir_tiny()).eval()

    def call(side: int) -> Callable[[], Any]:
        image = at.image(3, side, side)
        return lambda: cm.restore(net, image, tile=512, overlap=32)

    return {"4096x4096": call(4096), "1024x1024": call(1024)}


def _mprnet(at: Setting) -> dict[str, Callable[[], Any]]:
    from spandrel_extra_arches.architectures.MPRNet import MPRNet

    ours, theirs = cm.mprnet_deraining(), MPRNet(n_feat=40, scale_unetfeats=20, scale_orsnetfeats=16)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()), strict=True)
    x = at.image(1, 3, 256, 256)
    return {"mprnet_deraining": at.inference(ours, x), "spandrel_extra_arches": at.inference(theirs, x)}


ROWS: dict[str, Row] = {
    "restormer": Row(
        "forward, 1x3x256x256", "clusir_base", "Restormer", _against("Restormer", _restormer), time=0.20, memory=0.40
    ),
    "nafnet": Row("forward, 1x3x256x256", "clusir_base", "NAFNet-32", _against("NAFNet-32", _nafnet), time=3.0),
    "training": Row(
        "forward and backward, 1x3x128x128", "clusir_base", "Restormer", _training,
        time=0.25, memory=0.30, build_memory=_training_memory, autograd=True,
    ),
    "haar": Row(
        "haar, forward and backward, 8x48x128x128", "dwt2d + idwt2d", "pytorch_wavelets", _haar, time=0.20
    ),
    "sparse": Row("ClusterMoE, batch 8, 96 channels, 64x64", "top 2 of 8", "all 8", _sparse, time=0.35),
    "growth": Row("clusir_base, seconds a pixel", "1024x1024", "256x256", _growth, time=1.15, scale=16.0),
    "small": Row("forward, 1x3x256x256", "clusir_small", "clusir_base", _small, time=0.40),
    "tiles": Row("restore in tiles of 512, clusir_tiny", "4096x4096", "1024x1024", _tiles, memory=1.3),
    "mprnet": Row(
        "forward, 1x3x256x256, same weights", "mprnet_deraining", "spandrel_extra_arches", _mprnet,
        time=1.0, memory=1.0,
    ),
    "busy": Row(
        "slowdown on a busy machine, 1x3x256x256", "clusir_base", "NAFNet-32", _against("NAFNet-32", _nafnet),
        time=1.0, busy=True,
    ),
    "busy_tiny": Row(
        "slowdown on a busy machine, 1x3x256x256", "clusir_tiny", "NAFNet-32",
        _against("NAFNet-32", _nafnet, cm.clusir_tiny), time=1.0, busy=True,
    ),
}  # fmt: skip
"""By short name, in the order of the table."""
