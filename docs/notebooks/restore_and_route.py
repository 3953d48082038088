# %% [markdown]
# # Restore pictures and look at the routing
#
# One small network restores several degradations. Nobody tells it which one it sees: it
# decides by itself, and here you look at that decision. Runs in seconds on a CPU.

# %%
import matplotlib.pyplot as plt
import skimage.data
import torch

import clusir_modules as cm
from clusir_modules.data import build_degradation

# %% [markdown]
# ## Three degraded pictures
#
# A picture is a tensor `(3, H, W)` in [0, 1]. A degradation takes a picture and a
# generator, from which all its randomness comes. Replace `clean` by a photograph of
# your own: `clusir_modules.data.read_image("photo.jpg")` reads one.

# %%
clean = torch.from_numpy(skimage.data.chelsea()[20:276, 100:356]).permute(2, 0, 1) / 255
tasks = ["noise", "haze", "rain"]
generator = torch.Generator().manual_seed(0)
degraded = torch.stack([build_degradation(task)(clean, generator) for task in tasks])
print(degraded.shape)

# %% [markdown]
# ## Restored
#
# `restore` takes tensors and arrays and gives the same kind back. Pictures of any size
# are fine. Large ones go through in tiles: `tile=512`. Not every picture gets better:
# "The shipped weights" among the pages shows what fails.

# %%
net = cm.clusir_tiny(pretrained=True).eval()
restored = cm.restore(net, degraded, progress=False).clamp(0, 1)


def psnr(image: torch.Tensor) -> float:
    """Peak signal-to-noise ratio to the clean picture in dB."""
    return -10 * float((image - clean).square().mean().log10())


for task, before, after in zip(tasks, degraded, restored):
    print(f"{task:>5}: {psnr(before):5.2f} dB before, {psnr(after):5.2f} dB after")

# %%
figure, axes = plt.subplots(2, len(tasks), figsize=(9, 6))
for column, task in enumerate(tasks):
    axes[0, column].imshow(degraded[column].permute(1, 2, 0))
    axes[1, column].imshow(restored[column].permute(1, 2, 0))
    axes[0, column].set_title(task)
for axis in axes.flat:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## What the network takes the pictures for
#
# `route` gives one `Routing` for each of the four encoder levels. `cluster_probs` says
# how much a picture belongs to each cluster, `topk_indices` and `topk_weights` which
# experts run, and how they are added.

# %%
with torch.no_grad():
    routings = net.route(degraded)
for level, routing in enumerate(routings, 1):
    for task, clusters, experts in zip(
        tasks, routing.cluster_probs, routing.topk_indices
    ):
        best = int(clusters.argmax())
        where = f"cluster {best:2d}, {clusters[best]:.0%}"
        print(f"level {level} {task:>5}: {where}; experts {experts.tolist()}")

# %%
figure, axes = plt.subplots(1, len(tasks), figsize=(9, 2.5), sharey=True)
for axis, task, clusters in zip(axes, tasks, routings[0].cluster_probs):
    axis.bar(range(len(clusters)), clusters)
    axis.set(title=task, xlabel="cluster of level 1", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## Another decision
#
# A routing may be handed in. Here the noisy picture is restored as if it were the hazy
# one: each entry of a `Routing` has the pictures along its first axis, so a row is
# exchanged.


# %%
def of_picture(number: int) -> tuple[cm.Routing, ...]:
    """The decisions for one picture of the batch."""
    return tuple(
        cm.Routing(*(field[number : number + 1] for field in r)) for r in routings
    )


with torch.no_grad():
    own = net(degraded[:1], routings=of_picture(0)).clamp(0, 1)
    foreign = net(degraded[:1], routings=of_picture(1)).clamp(0, 1)
print(f"by its own routing {psnr(own[0]):.2f} dB")
print(f"by that of haze {psnr(foreign[0]):.2f} dB")
