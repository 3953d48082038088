"""ClusIR trained by Lightning, which runs it on many GPUs and nodes.

Here one process, interrupted and continued.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning
import torch
from PIL import Image
from skimage.data import astronaut, coffee
from torch import Tensor
from torch.utils.data import DataLoader

import clusir_modules as cm
from clusir_modules.data import AllInOneDataset

folder = Path(tempfile.mkdtemp())  # stands for a folder of yours
for photograph in (astronaut, coffee):
    Image.fromarray(photograph()).resize((200, 160)).save(
        folder / f"{photograph.__name__}.png"
    )


class Restoration(lightning.LightningModule):
    """L1 + MS-SSIM, and the balance of the experts over the images of all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cm.clusir_tiny(
            dim=8, embed_dim=16, num_blocks=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)
        )
        self.criterion = cm.L1MSSSIMLoss(ms_ssim_weight=0.2)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        restored, routings = self.net(batch["lq"], return_routing=True)
        loss = self.criterion(restored, batch["gt"]) + 0.01 * cm.load_balance_loss(
            routings, all_reduce=True
        )
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; Lightning keeps its state in the checkpoint."""
        return torch.optim.AdamW(self.parameters(), lr=4e-3)


def fit(epochs: int, resume_from: Path | None = None) -> Restoration:
    """Train up to an epoch; on a cluster ``devices=8, num_nodes=4, strategy="ddp"``."""
    lightning.seed_everything(0, verbose=False)
    tasks = [
        {"name": "noise", "dataroot_gt": folder, "degradation": "noise", "repeat": 2}
    ]
    loader = DataLoader(AllInOneDataset(tasks, patch_size=32, seed=1), batch_size=2)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        enable_model_summary=False,
        **dict.fromkeys(quiet, False),
    )
    model = Restoration()
    trainer.fit(model, loader, ckpt_path=resume_from)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return model


whole, _, resumed = fit(2), fit(1), fit(2, resume_from=folder / "1.ckpt")
assert all(
    torch.equal(a, b)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
)
print("2 epochs at once and 1 + 1 end with the same weights")
