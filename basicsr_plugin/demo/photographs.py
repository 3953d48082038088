"""Clean photographs from installed packages, some for training and others kept out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from clusir_modules.imaging.reading import decode_image

__all__ = ["TRAIN", "VAL", "write_photographs"]

_LONGEST = 768  # pixels of a training photograph's longer side: sharp at the size of a patch
_TILE = 256  # pixels: a patch is read from a small file

TRAIN = (
    "astronaut.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
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


def _starts(length: int) -> list[int]:
    """Starts of the fewest tiles that cover ``length`` pixels, evenly spaced."""
    count = -(-length // _TILE)
    return [round(number * (length - _TILE) / max(count - 1, 1)) for number in range(count)]


def _tiles(photograph: Image.Image) -> Iterator[Image.Image]:
    photograph.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    for top in _starts(photograph.height):
        for left in _starts(photograph.width):
            yield photograph.crop((left, top, left + _TILE, top + _TILE))


def write_photographs(folder: Path) -> None:
    """Write RGB PNG files: tiles of the training photographs to ``folder/train``, the others whole to ``folder/val``.

    Raises:
        FileNotFoundError: an installed package has one of them no more.
    """
    for part, names in (("train", TRAIN), ("val", VAL)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            photograph = Image.fromarray(decode_image(_find(name)))
            images = _tiles(photograph) if part == "train" else (photograph,)
            for number, tile in enumerate(images):
                tile.save(folder / part / f"{Path(name).stem}_{number}.png")
