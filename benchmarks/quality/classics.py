"""What people had before networks, on the same pictures: BM3D, the dark channel prior, CLAHE, and the Wiener filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import minimum_filter, uniform_filter
from skimage.exposure import equalize_adapthist
from skimage.restoration import wiener

from clusir_modules.data import AllInOneDataset
from clusir_modules.data.degradations import MotionBlur
from clusir_modules.data.seeding import mix_seed

__all__ = ["CLASSICS", "Classic", "dark_channel_prior", "kernel_of", "wiener_in_linear_light"]


class Classic(NamedTuple):
    """A method and its name; ``run`` takes a picture ``(H, W, 3)`` in [0, 1] and the kernel of its blur, if any."""

    name: str
    run: Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def dark_channel_prior(image: np.ndarray, _: np.ndarray | None = None) -> np.ndarray:
    """He, Sun and Tang, CVPR 2009, with the guided filter of 2010 in place of matting; their settings."""
    side, kept, least = 15, 0.95, 0.1
    dark = minimum_filter(image.min(axis=2), size=side)
    brightest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    light = image.reshape(-1, 3)[brightest].mean(axis=0)
    transmission = 1 - kept * minimum_filter((image / light).min(axis=2), size=side)
    transmission = _guided_filter(image.mean(axis=2), transmission)
    return (image - light) / transmission.clip(least)[..., None] + light


def _guided_filter(guide: np.ndarray, values: np.ndarray, side: int = 81, smoothness: float = 1e-3) -> np.ndarray:
    def mean(array: np.ndarray) -> np.ndarray:
        return uniform_filter(array, size=side, mode="reflect")

    slope = (mean(guide * values) - mean(guide) * mean(values)) / (mean(guide**2) - mean(guide) ** 2 + smoothness)
    return mean(slope) * guide + mean(mean(values) - slope * mean(guide))


def wiener_in_linear_light(image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    """Wiener filter with the true kernel, on the light that the blur added up; mirrored borders.

    The weight of the smoothness is the best of seven on pictures that are in no test set.
    """
    assert kernel is not None
    border = kernel.shape[0]
    light = np.pad(image**2.2, ((border, border), (border, border), (0, 0)), mode="reflect")
    sharp = np.stack([wiener(light[..., c], kernel, balance=0.03) for c in range(3)], axis=2)
    return sharp[border:-border, border:-border].clip(0, 1) ** (1 / 2.2)


def _bm3d(sigma: float) -> Classic:
    def run(image: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        from bm3d import bm3d_rgb

        return np.asarray(bm3d_rgb(image, sigma / 255))

    return Classic("BM3D, told sigma", run)


_CLAHE = Classic("CLAHE", lambda image, _: equalize_adapthist(image, clip_limit=0.03))
_DARK_CHANNEL = Classic("dark channel prior", dark_channel_prior)

CLASSICS: Mapping[str, Classic] = {
    **({f"noise {sigma}": _bm3d(sigma) for sigma in (15, 25, 50)} if find_spec("bm3d") else {}),
    "haze": _DARK_CHANNEL,
    "blur": Classic("Wiener, told the kernel", wiener_in_linear_light),
    "low light": _CLAHE,
    "SOTS indoor part": _DARK_CHANNEL,
    "LOL part": _CLAHE,
}
"""By task of the table; BM3D where the package ``bm3d`` is installed, as `make quality` does."""


def kernel_of(dataset: AllInOneDataset, number: int, task: str) -> np.ndarray | None:
    """The blur kernel that the data set drew for an image, if its task is blur."""
    if task != "blur":
        return None
    generator = torch.Generator().manual_seed(mix_seed(dataset.seed, 0, number))
    return MotionBlur().sample_kernel(generator).numpy()
