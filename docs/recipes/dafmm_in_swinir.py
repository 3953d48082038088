"""DAFMM in SwinIR's deep features: first a trained network is unchanged, then tuned."""

from __future__ import annotations

import torch
from skimage.data import astronaut, chelsea
from spandrel.architectures.SwinIR import SwinIR

import clusir_modules as cm
from clusir_modules.data import MotionBlur

torch.manual_seed(0)
degradation, generator = MotionBlur(), torch.Generator().manual_seed(0)
photograph, kept_out = (
    torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea)
)
squares = (
    photograph.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
)


def train(
    net: torch.nn.Module, parameters: list[torch.nn.Parameter], steps: int
) -> list[float]:
    """L1 losses of ``steps`` optimizer steps on blurred squares of the photograph."""
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    losses = []
    for _ in range(steps):
        clean = squares[torch.randint(len(squares), (2,))]
        blurred = torch.stack([degradation(image, generator) for image in clean])
        loss = (net(blurred) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def error(net: torch.nn.Module) -> float:
    """Mean absolute error on a square of the other photograph, always blurred alike."""
    clean = kept_out[None, :, 112:176, 192:256]
    with torch.no_grad():
        blurred = degradation(clean[0], torch.Generator().manual_seed(1))[None]
        return (net.eval()(blurred) - clean).abs().mean().item()


host = SwinIR(
    embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=8, drop_path_rate=0.0
)
train(host, list(host.parameters()), 15)  # stands for weights that you have
trained = error(host)

module = cm.DAFMM(24, num_heads=4, layer_scale=0.0)  # at scale 0 it changes nothing
host.conv_after_body = torch.nn.Sequential(host.conv_after_body, module)
assert error(host) == trained

torch.nn.init.constant_(module.layer_scale, 0.1)  # let it take part, and train it alone
losses = train(host.train(), list(module.parameters()), 20)
print(f"error {trained:.3f} as trained, {error(host):.3f} with the module")
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
assert all(parameter.grad is not None for parameter in module.parameters())
assert error(host) < trained
