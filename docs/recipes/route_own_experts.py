"""PCGRM over experts of one's own: whole denoisers and tone curves, each picture to the two that suit it."""

from __future__ import annotations

import torch
from skimage.data import astronaut, chelsea
from spandrel.architectures.DnCNN import DnCNN
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.data import GaussianNoise, LowLight


def tone_curve() -> nn.Module:
    """A learned map from color to color: no pixel sees its neighbors."""
    return nn.Sequential(nn.Conv2d(3, 24, 1), nn.ReLU(), nn.Conv2d(24, 3, 1))


def denoiser() -> nn.Module:
    """A small DnCNN."""
    return DnCNN(in_nc=3, out_nc=3, nc=24, nb=4, act_mode="R")


class Restorer(nn.Module):
    """Features decide, experts restore: each is called once with the pictures that chose it."""

    def __init__(self, experts: list[nn.Module], dim: int = 16) -> None:
        super().__init__()
        self.experts = cm.DispatchedExperts(experts)
        self.features = nn.Sequential(nn.Conv2d(3, dim, 3), nn.ReLU(), nn.Conv2d(dim, dim, 3), nn.ReLU())
        self.router = cm.PCGRM(dim, num_clusters=4, num_experts=len(experts), top_k=2, embed_dim=32)

    def forward(self, x: Tensor) -> tuple[Tensor, cm.Routing]:
        routing = self.router(self.features(x))
        return self.experts(x, routing.topk_weights, routing.topk_indices), routing


torch.manual_seed(0)
net = Restorer([denoiser(), denoiser(), tone_curve(), tone_curve()])
tasks, generator = (GaussianNoise(50), LowLight()), torch.Generator().manual_seed(0)
photograph, kept_out = (torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea))
squares = photograph.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(70):
    clean = squares[torch.randint(len(squares), (6,))]
    restored, routing = net(torch.stack([tasks[i % 2](image, generator) for i, image in enumerate(clean)]))
    loss = (restored - clean).abs().mean() + 0.01 * cm.cluster_information_loss(routing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

clean = kept_out[None, :, 80:208, 160:288]
degraded = torch.stack([task(clean[0], generator) for task in tasks])
with torch.no_grad():
    restored, routing = net.eval()(degraded)
before, after = ((image - clean).square().mean(dim=(1, 2, 3)).log10() * -10 for image in (degraded, restored))
print("noise and low light, dB:", before.tolist(), "to", after.tolist(), "experts:", routing.topk_indices.tolist())
assert (after > before + 1).all()
