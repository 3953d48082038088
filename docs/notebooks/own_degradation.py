# %% [markdown]
# # A degradation of your own
#
# Training for several degradations needs only clean pictures: the degraded ones are
# made on the fly. Here you write a degradation that the library does not have, look at
# it, and use it in a chain and in a data set. Runs in seconds on a CPU.

# %%
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import skimage.data
import torch
import yaml
from PIL import Image

from clusir_modules.data import (
    AllInOneDataset,
    Degradation,
    Task,
    build_degradation,
    register_degradation,
)

# %% [markdown]
# ## Scan lines
#
# An old screen shows every other row darker. How much darker is drawn for each picture.
# Two rules make a degradation reproducible: the instance never changes, and all its
# randomness comes from the generator that it is given.
#
# `_apply_batch` takes whole batches `(B, C, H, W)`, each picture with a value of its
# own; `_apply` takes one picture `(C, H, W)`.


# %%
@register_degradation
@dataclass(frozen=True)
class ScanLines(Degradation):
    """Multiply every other row by a factor in [1 - strength, 1]."""

    strength: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}")

    def _apply(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self._apply_batch(image[None], generator)[0]

    def _apply_batch(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        shape = len(images), 1, 1, 1
        drawn = torch.rand(shape, generator=generator, device=images.device)
        odd = torch.arange(images.shape[2], device=images.device)[:, None] % 2
        return images * (1 - self.strength * drawn * odd)


# %% [markdown]
# ## Look at it
#
# Because of `register_degradation` a mapping is enough, as in an option file.

# %%
clean = torch.from_numpy(skimage.data.coffee()[100:292, 200:392]).permute(2, 0, 1) / 255
lines = build_degradation({"type": "ScanLines", "strength": 0.9})
lined = lines(clean, torch.Generator().manual_seed(0))
again = lines(clean, torch.Generator().manual_seed(0))
print(torch.equal(lined, again), float((lined - clean).abs().mean()))

# %% [markdown]
# ## In a chain
#
# Real pictures have more than one fault. A list is a chain: here blur, then the lines,
# then noise or nothing, then JPEG. The same list may stand after `degradation:` in an
# option file.

# %%
chain = build_degradation(
    yaml.safe_load("""
- {type: GaussianBlur, sigma: [0.5, 2], isotropic: false}
- {type: ScanLines, strength: 0.8}
- type: OneOf
  probabilities: [0.7]
  steps: [{type: GaussianNoise, sigma: [5, 25], between: true}]
- {type: JPEG, quality: [40, 90]}
""")
)
generator = torch.Generator().manual_seed(1)
four = chain.degrade_batch(clean.expand(4, -1, -1, -1), generator)
figure, axes = plt.subplots(1, 5, figsize=(12, 2.7))
for axis, picture in zip(axes, [lined, *four]):
    axis.imshow(picture.clamp(0, 1).permute(1, 2, 0))
    axis.axis("off")
plt.show()

# %% [markdown]
# ## In a data set
#
# Two tasks share a folder of clean pictures. Sample and epoch decide everything that is
# drawn, so the same sample is the same picture, whatever the number of workers.

# %%
Path("photographs").mkdir(exist_ok=True)
for name in ("coffee", "chelsea"):
    Image.fromarray(getattr(skimage.data, name)()).save(f"photographs/{name}.png")
dataset = AllInOneDataset(
    [
        Task("lines", "photographs", degradation={"type": "ScanLines"}),
        Task("old screen", "photographs", degradation=chain),
    ],
    patch_size=96,
)
for number in range(len(dataset)):
    item = dataset[number]
    print(
        item["task"],
        tuple(item["lq"].shape),
        f"{(item['lq'] - item['gt']).abs().mean():.3f}",
    )
assert torch.equal(dataset[3]["lq"], dataset[3]["lq"])

# %% [markdown]
# ## On to training
#
# Put the class into a module, name the module under `imports:` of an option file, and
# ask for `{type: ScanLines}`: the page "Add a degradation" shows the whole file.
