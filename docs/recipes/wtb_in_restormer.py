"""WTB in place of Restormer's transformer block: the same network, less computation."""

from __future__ import annotations

import torch
from skimage.data import astronaut, chelsea
from spandrel_extra_arches.architectures.Restormer import Restormer
from torch.utils.flop_counter import FlopCounterMode

import clusir_modules as cm
from clusir_modules.data import GaussianNoise


def exchange_blocks(module: torch.nn.Module) -> None:
    """Put a WTB of the same width and heads where Restormer has its block."""
    for name, child in module.named_children():
        if type(child).__name__ == "TransformerBlock":
            heads = child.attn.num_heads
            setattr(module, name, cm.WTB(child.norm1.body.weight.numel(), heads))
        else:
            exchange_blocks(child)


def flops(net: torch.nn.Module) -> int:
    """Floating-point operations for a picture of 64x64 pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    return counter.get_total_flops()


torch.manual_seed(0)
net = Restormer(
    dim=16, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 4, 8]
)
cost = flops(net)
exchange_blocks(net)
print(f"{flops(net) / cost:.0%} of the host's operations")
assert flops(net) < cost

degradation, generator = GaussianNoise(50), torch.Generator().manual_seed(0)
photograph, kept_out = (
    torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea)
)
squares = (
    photograph.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(40):
    clean = squares[torch.randint(len(squares), (2,))]
    noisy = torch.stack([degradation(image, generator) for image in clean])
    loss = (net(noisy) - clean).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

clean = kept_out[None, :, 80:208, 160:288]
noisy = degradation(clean[0], generator)[None]
with torch.no_grad():
    restored = net.eval()(noisy)
before, after = (
    (image - clean).square().mean().log10().item() * -10 for image in (noisy, restored)
)
print(f"kept-out photograph: {before:.1f} dB noisy, {after:.1f} dB restored")
assert after > before + 1
