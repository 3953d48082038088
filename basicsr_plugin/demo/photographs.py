"""Clean photographs from installed packages, some for training and others kept out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["TRAIN", "VAL", "write_photographs"]

TRAIN = (
    "astronaut.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "camera.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "grace_hopper.jpg",
)
VAL = ("chelsea.png", "coffee.png", "rocket.jpg")


def _find(name: str) -> Path:
    import matplotlib
    import skimage

    folders = (Path(skimage.__file__).parent / "data", Path(matplotlib.get_data_path()) / "sample_data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"photograph {name} is in none of {', '.join(map(str, folders))}")


def write_photographs(folder: Path) -> None:
    """Write the photographs as RGB PNG to ``folder/train`` and ``folder/val``, none in both.

    Raises:
        FileNotFoundError: an installed package has one of them no more.
    """
    for part, names in (("train", TRAIN), ("val", VAL)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            with Image.open(_find(name)) as image:
                Image.fromarray(np.asarray(image.convert("RGB"))).save(folder / part / f"{Path(name).stem}.png")
