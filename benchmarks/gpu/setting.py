"""Where and how large everything is run, and a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import clusir_modules as cm
from basicsr_plugin.averaging import move_average
from basicsr_plugin.captured_step import CapturedStep

__all__ = ["Setting", "training_step"]


@dataclass(frozen=True)
class Setting:
    """The device and the sizes of the measurements.

    Attributes:
        cpu: Whether this is a rehearsal on the CPU: small networks and pictures, no graphs, no compiler.
    """

    cpu: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.cpu else "cuda")

    @property
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        """Networks to measure by name, the smallest first."""
        if self.cpu:
            return {"small ClusIR": _small_clusir}
        return {"clusir_tiny": cm.clusir_tiny, "clusir_base": cm.clusir_base}

    @property
    def rounds(self) -> int:
        """Timed calls."""
        return 2 if self.cpu else 8

    def build(self) -> nn.Module:
        """The smallest of the networks, the same each time."""
        torch.manual_seed(0)
        return next(iter(self.networks.values()))().to(self.device)

    @property
    def batch(self) -> tuple[int, int, int, int]:
        """Shape of a training batch."""
        return (2, 3, 32, 32) if self.cpu else (16, 3, 128, 128)

    @property
    def side(self) -> int:
        """Side of the pictures for inference."""
        return 32 if self.cpu else 256

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.cpu:
            torch.cuda.synchronize()

    def draw_batch(self, seed: int = 0) -> dict[str, Tensor]:
        """Random pictures and the same with noise."""
        generator = torch.Generator().manual_seed(seed)
        gt = torch.rand(self.batch, generator=generator)
        lq = gt + 0.1 * torch.randn(self.batch, generator=generator)
        return {"lq": lq.to(self.device), "gt": gt.to(self.device)}


def _small_clusir() -> cm.ClusIR:
    """Every branch, as few channels as the heads allow."""
    return cm.ClusIR(
        4,
        num_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        num_refinement_blocks=1,
        num_heads=(1, 1, 1, 1),
        num_prompt_heads=2,
        embed_dim=8,
    )


def training_step(
    net: nn.Module,
    *,
    capture: bool,
    amp: torch.dtype | None = torch.bfloat16,
    average: nn.Module | None = None,
    accum_iter: int = 1,
) -> CapturedStep:
    """What the option files train with: L1 and MS-SSIM, routing losses, clipping, AdamW and an average."""
    criterion = cm.L1MSSSIMLoss(knee=0.02)
    device = next(net.parameters()).device

    def evaluate(lq: Tensor, gt: Tensor) -> tuple[Tensor, dict[str, Tensor], None]:
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            output, routings = net(lq, return_routing=True)
        terms = {
            "pixel": criterion(output.float(), gt),
            "balance": 0.01 * cm.load_balance_loss(routings),
            "orthogonality": 0.01 * cm.orthogonality_loss(net),
            "information": 0.05 * cm.cluster_information_loss(routings),
        }
        return torch.stack(list(terms.values())).sum(), terms, None

    return CapturedStep(
        evaluate,
        net,
        torch.optim.AdamW(net.parameters(), lr=2e-4),
        max_grad_norm=1.0,
        accum_iter=accum_iter,
        average=None if average is None else lambda taken: move_average(average, net, 0.01 * taken),
        capture=capture,
    )
