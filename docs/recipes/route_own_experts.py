"""PCGRM over trained experts of one's own: denoisers and tone curves.

Each picture goes to the two that suit it.
"""

import torch
from skimage.data import astronaut, chelsea
from spandrel.architectures.DnCNN import DnCNN
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.data import Degradation, GaussianNoise, LowLight


class Restorer(nn.Module):
    """The picture decides; each expert runs once, with the pictures that chose it."""

    def __init__(self, experts: list[nn.Module]) -> None:
        super().__init__()
        self.experts = cm.DispatchedExperts(experts)
        # sees noise and darkness
        convolution = nn.Conv2d(3, 16, 3, padding=1)
        self.evidence = nn.Sequential(convolution, cm.WaveletEvidence(16))
        sizes = {"num_experts": len(experts), "top_k": len(experts)}
        self.router = cm.PCGRM(16, num_clusters=4, embed_dim=32, **sizes)

    def forward(self, x: Tensor) -> Tensor:
        routing = self.router(self.evidence(x))
        return self.experts(x, routing.topk_weights, routing.topk_indices)


torch.manual_seed(0)
denoisers = [DnCNN(in_nc=3, out_nc=3, nc=24, nb=4, act_mode="R") for _ in range(2)]
# pixel by pixel
curves = [
    nn.Sequential(nn.Conv2d(3, 24, 1), nn.ReLU(), nn.Conv2d(24, 3, 1)) for _ in range(2)
]
experts: list[nn.Module] = [*denoisers, *curves]
noise, low_light = GaussianNoise(50), LowLight()
generator = torch.Generator().manual_seed(0)
photograph, kept_out = (
    torch.from_numpy(p()).permute(2, 0, 1).float() / 255 for p in (astronaut, chelsea)
)
squares = (
    photograph.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
)


def train(net: nn.Module, *tasks: Degradation, steps: int) -> None:
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)
    for _ in range(steps):
        clean = squares[torch.randint(len(squares), (4,))]
        degraded = [
            tasks[i % len(tasks)](image, generator) for i, image in enumerate(clean)
        ]
        restored = net(torch.stack(degraded))
        optimizer.zero_grad()
        (restored - clean).abs().mean().backward()
        optimizer.step()


for expert, task in zip(experts, (noise, noise, low_light, low_light)):
    train(expert, task, steps=25)
    expert.requires_grad_(False)
net = Restorer(experts)
train(net, noise, low_light, steps=30)  # all four run, so that the router hears of each
net.router.top_k = 2  # two run in use
clean = kept_out[:, 80:208, 160:288]
degraded = torch.stack([noise(clean, generator), low_light(clean, generator)])
with torch.no_grad():
    restored = net.eval()(degraded)
    chosen = net.router(net.evidence(degraded)).topk_indices.sort().values
before, after = (
    -10 * (image - clean).square().mean(dim=(1, 2, 3)).log10()
    for image in (degraded, restored)
)
for name, *pair in zip(("noise", "low light"), before, after):
    print("{}: {:.1f} dB degraded, {:.1f} dB restored".format(name, *pair))
assert chosen.tolist() == [[0, 1], [2, 3]]
assert (after > before + 1).all()
