"""Multi-scale structural similarity for images of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.checks import check_feature_map, check_not_empty
from ..ops.precision import full_precision, widen

__all__ = ["ms_ssim"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, table of sec. 4.2
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_FLOOR = 1e-4  # a power of 0.04 has no finite slope at 0, where the similarity of unlike patches lies


def _blur(x: Tensor, window: Tensor) -> Tensor:
    channels = x.shape[1]
    weight = window.expand(channels, 1, -1)
    x = F.conv2d(x, weight.unsqueeze(3), groups=channels)
    return F.conv2d(x, weight.unsqueeze(2), groups=channels)


def ms_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """Multi-scale structural similarity of images in [0, 1], averaged over images and channels.

    Equal to ``pytorch_msssim.ms_ssim(data_range=1)`` where that accepts the size, above 160 pixels. Smaller images have
    fewer scales, as many as keep the window inside, with the weights of those left scaled to sum 1; below 11 pixels
    the window shrinks too (this project's choice: training patches have 64 or 128 pixels). Unlike there, a
    scale whose similarity is not positive does not silence the gradient of the others.

    Shape:
        ``pred`` and ``target`` ``(B, C, H, W)``, any ``H, W >= 1``, to a scalar in [0, 1] in float32 or wider.

    Raises:
        TypeError: an integer tensor.
        ValueError: no 4-D tensor, two shapes, or no image.

    Reference: Wang, Simoncelli and Bovik, "Multiscale structural similarity", Asilomar 2003.
    """
    check_feature_map(pred, name="pred")
    check_feature_map(target, name="target")
    if pred.shape != target.shape:
        raise ValueError(f"pred and target must have one shape, got {tuple(pred.shape)} and {tuple(target.shape)}")
    check_not_empty(pred, "pred")
    with full_precision(pred):
        wider = torch.promote_types(pred.dtype, target.dtype)
        x, y = widen(pred.to(wider)), widen(target.to(wider))
        side = min(x.shape[-2:])
        length = min(_WINDOW, side - (side + 1) % 2)
        position = torch.arange(length, device=x.device, dtype=x.dtype) - length // 2
        window = torch.exp(-position.square() / (2 * _SIGMA**2))
        window = window / window.sum()
        scales = 1 + sum((_WINDOW - 1) * 2**halvings < side for halvings in range(1, len(_WEIGHTS)))
        total = 1.0 if scales == len(_WEIGHTS) else sum(_WEIGHTS[:scales])  # the published five sum to 1.0001
        value = x.new_ones(())
        for scale in range(scales):
            mean_x, mean_y = _blur(x, window), _blur(y, window)
            var_x = _blur(x * x, window) - mean_x.square()
            var_y = _blur(y * y, window) - mean_y.square()
            covariance = _blur(x * y, window) - mean_x * mean_y
            similarity = (2 * covariance + _C2) / (var_x + var_y + _C2)
            if scale == scales - 1:
                similarity = similarity * (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
            weight = _WEIGHTS[scale] / total
            value = value * similarity.mean(dim=(2, 3)).clamp_min(_FLOOR) ** weight
            padding = [size % 2 for size in x.shape[-2:]]
            x, y = (F.avg_pool2d(t, 2, padding=padding) for t in (x, y))
        return value.mean()
