"""PSNR and SSIM of unrounded RGB images, computed by scikit-image."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..ops.checks import check_choice

__all__ = ["psnr", "ssim"]

Picture: TypeAlias = npt.NDArray[np.floating[Any]]
_WINDOWS = {"uniform": 7, "gaussian": 11}


def psnr(image: Picture, target: Picture) -> float:
    r"""Peak signal-to-noise ratio in dB over all channels, :math:`-10 \log_{10} \mathrm{mean} (p - t)^2`.

    The protocol of the all-in-one papers: RGB (not luminance), values clipped to [0, 1] but not rounded to 8 bits, no
    border left out.

    Args:
        image: ``(H, W, C)`` float; values outside [0, 1] are clipped.
        target: likewise, of the same shape.

    Returns:
        The ratio; infinity for equal images, NaN where a value is NaN.

    Raises:
        TypeError: an argument is no array of floats.
        ValueError: the shapes differ, or are not (H, W, C) with at least one pixel.
    """
    image, target = _checked(image, target)
    error = float(np.mean((image - target) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(image: Picture, target: Picture, *, window: Literal["uniform", "gaussian"] = "uniform") -> float:
    """Structural similarity, the mean over the channels (Wang et al., IEEE TIP 2004), computed by scikit-image.

    The two windows are those of the all-in-one papers; their values are not comparable. Inputs as for :func:`psnr`. An
    image smaller than the window is mirrored outwards to its size, target and result alike. NaN where a value is NaN.

    Args:
        image: ``(H, W, C)`` float; values outside [0, 1] are clipped.
        target: likewise, of the same shape.
        window: ``"uniform"`` for 7x7 pixels of equal weight (PromptIR, AdaIR), ``"gaussian"`` for 11x11 with a
            standard deviation of 1.5 (MoCE-IR).

    Raises:
        TypeError: an argument is no array of floats.
        ValueError: the shapes differ, or are not (H, W, C) with at least one pixel; an unknown window.
    """
    from skimage.metrics import structural_similarity

    side = _WINDOWS[check_choice("window", window, _WINDOWS)]
    image, target = _checked(image, target)
    missing = [max(side - length, 0) for length in image.shape[:2]]
    padding = [(count // 2, count - count // 2) for count in missing] + [(0, 0)]
    image, target = (np.pad(picture, padding, mode="symmetric") for picture in (image, target))
    similarity: Any = structural_similarity  # scikit-image has no annotations
    # Target first, and the sample covariance, as in the released evaluation code.
    return float(similarity(target, image, data_range=1.0, channel_axis=-1, gaussian_weights=window == "gaussian"))


def _checked(image: Picture, target: Picture) -> tuple[Picture, Picture]:
    """Both images as float64, clipped."""
    for name, picture in (("image", image), ("target", target)):
        if not isinstance(picture, np.ndarray) or not np.issubdtype(picture.dtype, np.floating):
            got = getattr(picture, "dtype", type(picture).__name__)
            raise TypeError(f"{name} must be a float array in [0, 1], got {got}")
    if image.shape != target.shape or image.ndim != 3 or image.size == 0:
        raise ValueError(f"image and target must have one shape (H, W, C), got {image.shape} and {target.shape}")
    return image.astype(np.float64).clip(0, 1), target.astype(np.float64).clip(0, 1)
