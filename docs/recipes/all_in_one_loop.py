"""All-in-one data in a plain PyTorch loop, without BasicSR.

Tasks on a folder, exact epochs, any network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from PIL import Image
from skimage.data import astronaut, chelsea, coffee
from torch.utils.data import DataLoader

import clusir_modules as cm
from clusir_modules.data import AllInOneDataset
from clusir_modules.metrics.psnr_ssim import psnr

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())  # stands for a folder of yours
for part, photographs in (("train", (astronaut, coffee)), ("val", (chelsea,))):
    (folder / part).mkdir()
    for photograph in photographs:
        Image.fromarray(photograph()).resize((300, 220)).save(
            folder / part / f"{photograph.__name__}.png"
        )

tasks = {
    "noise": {"type": "GaussianNoise", "sigma": [25, 50]},
    "low_light": {"type": "LowLight"},
    # a list is a mixture, in this order
    "haze_rain": [
        {"type": "Haze"},
        {"type": "RainStreaks"},
    ],
}


def dataset(part: str, **options: int | None) -> AllInOneDataset:
    """All tasks on the pictures of one folder."""
    entries = [
        {"name": n, "dataroot_gt": folder / part, "degradation": d, "repeat": 10}
        for n, d in tasks.items()
    ]
    return AllInOneDataset(entries, **options)


train_set, val_set = dataset("train", patch_size=48, seed=1), dataset("val", seed=2)
net = cm.clusir_tiny()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
# With a knee, errors far above it count by their logarithm. Without, low light, whose
# error is the largest, is learned at the cost of the other tasks.
criterion = cm.L1MSSSIMLoss(ms_ssim_weight=0.02, knee=0.02)
losses = []
for epoch in range(5):
    # The set takes (epoch, index) pairs: every patch is new in every epoch, and the
    # same for any number of workers.
    order = [(epoch, index) for index in torch.randperm(len(train_set)).tolist()]
    for batch in DataLoader(train_set, batch_size=4, sampler=order):
        restored, routings = net(batch["lq"], return_routing=True)
        loss = criterion(restored, batch["gt"]) + 0.01 * cm.load_balance_loss(routings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
print(f"{len(losses)} steps, loss {first:.2f} to {last:.2f}")
assert last < 0.9 * first

for index in range(0, len(val_set), 10):
    gt, lq = (val_set[index][key].permute(1, 2, 0).numpy() for key in ("gt", "lq"))
    restored = cm.restore(net, lq, progress=False)
    before, after = psnr(lq, gt), psnr(restored, gt)
    print(
        f"{val_set[index]['task']}: {before:.1f} dB degraded, {after:.1f} dB restored"
    )
