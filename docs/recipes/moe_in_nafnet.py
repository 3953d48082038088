"""Cluster-MoE in NAFNet: its middle block becomes a mixture of routed experts."""

from __future__ import annotations

import torch
from skimage.data import astronaut, chelsea
from spandrel.architectures.NAFNet import NAFNet

import clusir_modules as cm
from clusir_modules.data import GaussianNoise, LowLight


def patches(
    photograph: torch.Tensor, count: int, size: int, generator: torch.Generator
) -> torch.Tensor:
    """Random squares of a photograph, ``(count, 3, size, size)`` in [0, 1]."""
    corners = torch.rand(count, 2, generator=generator)
    places = [
        [int(c * (s - size)) for c, s in zip(corner, photograph.shape[1:])]
        for corner in corners
    ]
    squares = [photograph[:, y : y + size, x : x + size] for y, x in places]
    return torch.stack(squares)


def degrade(clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise on even pictures, darkness on odd ones; nobody says which is which."""
    tasks = (GaussianNoise(50), LowLight())
    return torch.stack(
        [tasks[i % 2](image, generator) for i, image in enumerate(clean)]
    )


torch.manual_seed(0)
net = NAFNet(width=16, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1])
# 64 = 16 * 2**2 channels at the bottom
moe = cm.ClusterMoE(64, num_experts=4, num_clusters=8, top_k=2)
net.middle_blks = torch.nn.Sequential(net.middle_blks, moe)

# the host passes tensors only, so a hook fetches what the router decided
routings: list[cm.Routing] = []
moe.router.register_forward_hook(
    lambda module, inputs, routing: routings.append(routing)
)

generator = torch.Generator().manual_seed(0)
photograph, kept_out = (
    torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea)
)
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
for _ in range(40):
    clean = patches(photograph, 8, 48, generator)
    routings.clear()
    restored = net(degrade(clean, generator))
    loss = (restored - clean).abs().mean()
    loss = loss + 0.01 * cm.load_balance_loss(routings)
    loss = loss + 0.01 * cm.cluster_information_loss(routings)
    loss = loss + 0.01 * cm.orthogonality_loss(net)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    clean = patches(kept_out, 8, 96, generator)
    degraded = degrade(clean, generator)
    routings.clear()
    restored = net.eval()(degraded)
before, after = (
    (image - clean).square().mean().log10().item() * -10
    for image in (degraded, restored)
)
print(f"kept-out photograph: {before:.1f} dB degraded, {after:.1f} dB restored")
noisy, dark = routings[0].topk_indices[:2].tolist()
print("experts of noisy and of dark pictures:", noisy, dark)
assert after > before + 1
