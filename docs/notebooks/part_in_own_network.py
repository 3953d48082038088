# %% [markdown]
# # Put a part into your own network and train it
#
# `ClusterMoE` is a layer like any other: a map goes in, a map of the same shape comes
# out. Here it gets a place in a small U-Net that knows nothing of this library, and a
# few steps of training on two degradations. Runs in seconds on a CPU.

# %%
import matplotlib.pyplot as plt
import skimage.data
import torch
from torch import nn

import clusir_modules as cm
from clusir_modules.data import GaussianNoise, LowLight

torch.manual_seed(0)


# %% [markdown]
# ## The network of somebody else


# %%
class UNet(nn.Module):
    """Two levels, the difference to the input is learned."""

    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.begin = nn.Conv2d(3, dim, 3, padding=1)
        self.down = nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1)
        self.up = nn.Sequential(nn.Conv2d(2 * dim, 4 * dim, 1), nn.PixelShuffle(2))
        self.end = nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = nn.functional.gelu(self.begin(image))
        second = nn.functional.gelu(self.down(first))
        second = second + nn.functional.gelu(self.middle(second))
        return image + self.end(first + self.up(second))


net = UNet()
print(f"{sum(p.numel() for p in net.parameters()):,} parameters")

# %% [markdown]
# ## The part goes in
#
# The middle stays, and a mixture of experts comes behind it. Each picture goes through
# the two of four experts that the router chooses for it.


# %%
def make_part() -> cm.ClusterMoE:
    """The part for maps of 24 channels."""
    return cm.ClusterMoE(24, num_experts=4, num_clusters=8, top_k=2)


moe = make_part()
net.middle = nn.Sequential(net.middle, moe)
print(f"{sum(p.numel() for p in net.parameters()):,} parameters")
print(net(torch.rand(2, 3, 48, 40)).shape)

# %% [markdown]
# ## Data
#
# Patches of a photograph, half of them noisy and half of them dark. `degrade_batch`
# draws the settings of each picture anew.

# %%
photograph = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1) / 255
generator = torch.Generator().manual_seed(0)
noise, darkness = GaussianNoise(50), LowLight()


def batch(half: int = 4, side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Degraded and clean patches, the noisy ones first."""
    places = torch.randint(512 - side, (2 * half, 2), generator=generator).tolist()
    clean = torch.stack([photograph[:, y : y + side, x : x + side] for y, x in places])
    dark = darkness.degrade_batch(clean[half:], generator)
    return torch.cat([noise.degrade_batch(clean[:half], generator), dark]), clean


# %% [markdown]
# ## Training
#
# Three losses: the pictures, an even use of the experts, and clusters that are sure for
# one picture and varied over the batch. The last two read what the router said. A hook
# on the router fetches that, because the network around it passes tensors only.

# %%
routings = []
moe.router.register_forward_hook(
    lambda module, inputs, routing: routings.append(routing)
)
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
losses = []
for _ in range(80):
    degraded, clean = batch()
    routings.clear()
    loss = nn.functional.l1_loss(net(degraded), clean)
    losses.append(loss.item())
    total = loss + 0.01 * cm.load_balance_loss(routings)
    total = total + 0.01 * cm.cluster_information_loss(routings)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
print(f"L1 of the first ten steps {first:.3f}, of the last ten {last:.3f}")
assert last < first

# %%
plt.figure(figsize=(6, 2.5))
plt.plot(losses)
plt.xlabel("step")
plt.ylabel("L1")
plt.show()

# %% [markdown]
# ## What the router learned
#
# The mean posterior over clusters of noisy and of dark patches. If the bars differ, the
# router tells the two apart. If they do not: "My router does not separate" among the
# how-to pages has the usual causes.

# %%
degraded, clean = batch(32)
routings.clear()
with torch.no_grad():
    restored = net(degraded)
clusters = routings[0].cluster_probs
figure, axes = plt.subplots(1, 2, figsize=(6, 2.5), sharey=True)
for axis, kind, rows in zip(axes, ("noise", "low light"), clusters.split(32)):
    axis.bar(range(8), rows.mean(0))
    axis.set(title=kind, xlabel="cluster")
plt.show()
apart = (clusters[:32].mean(0) - clusters[32:].mean(0)).abs().sum() / 2
print(f"noisy and dark patches share {1 - apart:.0%} of their posterior")

# %% [markdown]
# ## Save and load
#
# The part is a plain module, so `state_dict` is all that it needs.

# %%
torch.save(net.state_dict(), "unet.pth")
again = UNet()
again.middle = nn.Sequential(again.middle, make_part())
again.load_state_dict(torch.load("unet.pth"))
with torch.no_grad():
    print(torch.equal(again(degraded), restored))
