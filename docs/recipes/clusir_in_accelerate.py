"""ClusIR trained by Accelerate, the same script for one process or many.

Interrupted within an epoch and continued.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from skimage.data import astronaut, coffee
from torch.utils.data import DataLoader

import clusir_modules as cm
from clusir_modules.data import AllInOneDataset

folder = Path(tempfile.mkdtemp())  # stands for a folder of yours
for photograph in (astronaut, coffee):
    Image.fromarray(photograph()).resize((200, 160)).save(
        folder / f"{photograph.__name__}.png"
    )


def fit(last_step: int, done: int = 0) -> list[torch.Tensor]:
    """Train from a saved step to another, save all that the rest of the run needs."""
    set_seed(0)
    # without arguments: the devices that `accelerate launch` gives
    accelerator = Accelerator(cpu=True)
    tasks = [
        {"name": "noise", "dataroot_gt": folder, "degradation": "noise", "repeat": 2}
    ]
    data = AllInOneDataset(tasks, patch_size=32, seed=1)
    net = cm.clusir_tiny(
        dim=8, embed_dim=16, num_blocks=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    # a sample is drawn by seed, epoch and place, so that it is the same in every run
    places = [
        (epoch, place)
        for epoch in range(2)
        for place in torch.randperm(len(data)).tolist()
    ]
    net, optimizer, loader = accelerator.prepare(
        net, optimizer, DataLoader(data, batch_size=1, sampler=places)
    )
    criterion = cm.L1MSSSIMLoss(ms_ssim_weight=0.2)
    if done:
        accelerator.load_state(str(folder / f"step_{done}"))
    for batch in islice(accelerator.skip_first_batches(loader, done), last_step - done):
        restored, routings = net(batch["lq"], return_routing=True)
        balance = cm.load_balance_loss(routings, all_reduce=True)
        accelerator.backward(criterion(restored, batch["gt"]) + 0.01 * balance)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.save_state(str(folder / f"step_{last_step}"))
    return [p.detach().clone() for p in accelerator.unwrap_model(net).parameters()]


whole, _, resumed = fit(7), fit(2), fit(7, done=2)
assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
print("7 steps at once and 2 + 5 end with the same weights")
