"""PGB prompts in a plain U-Net.

PCGRM reads the features, prompts drawn from its tokens go into the skips.
"""

from __future__ import annotations

import torch
from skimage.data import astronaut, chelsea
from spandrel.architectures.DRUNet import DRUNet
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.data import GaussianNoise, LowLight


class PromptedUNet(nn.Module):
    """DRUNet with a prompt map added to each of its three skip connections."""

    def __init__(
        self, unet: nn.Module, dims: tuple[int, int, int, int], *, embed_dim: int = 64
    ) -> None:
        super().__init__()
        self.unet = unet
        self.deep_router = cm.PCGRM(dims[3], num_clusters=4, embed_dim=embed_dim)
        self.routers = nn.ModuleList(
            cm.PCGRM(dim, num_clusters=8, embed_dim=embed_dim) for dim in dims[:3]
        )
        self.fusions = nn.ModuleList(cm.PromptFusion(embed_dim, 4) for _ in dims[:3])
        self.blocks = nn.ModuleList(cm.PGB(embed_dim, dim) for dim in dims[:3])

    def forward(self, image: Tensor) -> Tensor:
        net = self.unet
        skips = [net.m_head(image)]
        for down in (net.m_down1, net.m_down2, net.m_down3):
            skips.append(down(skips[-1]))
        x = net.m_body(skips[3])
        deepest, ups = (
            self.deep_router(x).prompt,
            (net.m_tail, net.m_up1, net.m_up2, net.m_up3),
        )
        x = ups[3](x + skips[3])
        for level in (2, 1, 0):
            tokens = self.fusions[level](
                self.routers[level](skips[level]).prompt, deepest
            )
            x = ups[level](
                x + skips[level] + self.blocks[level](tokens, skips[level].shape[2:])
            )
        return image + x


torch.manual_seed(1)
dims = (16, 24, 32, 48)
net = PromptedUNet(DRUNet(in_nc=3, out_nc=3, nc=list(dims), nb=1), dims)
tasks, generator = (GaussianNoise(50), LowLight()), torch.Generator().manual_seed(0)
photograph, kept_out = (
    torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea)
)
squares = (
    photograph.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
)
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(90):
    clean = squares[torch.randint(len(squares), (6,))]
    degraded = [tasks[i % 2](image, generator) for i, image in enumerate(clean)]
    loss = (net(torch.stack(degraded)) - clean).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

clean = kept_out[None, :, 80:208, 160:288]
degraded = torch.stack([task(clean[0], generator) for task in tasks])
with torch.no_grad():
    restored = net.eval()(degraded)
before, after = (
    (image - clean).square().mean(dim=(1, 2, 3)).log10() * -10
    for image in (degraded, restored)
)
for name, *pair in zip(("noise", "low light"), before, after):
    print("{}: {:.1f} dB degraded, {:.1f} dB restored".format(name, *pair))
assert (after > before + 1).all()
