"""Neighboring frames of a video drawn together where nothing moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["TemporalBlend"]

_SIDE = 5  # pixels of the square over which a difference is averaged
_STILL = 0.04  # of the range: ten gray levels, above what a restored frame flickers by


class TemporalBlend:
    r"""Mix each restored frame with the result before it, pixel by pixel, where both are alike.

    .. math:: z_t = y_t + w (z_{t-1} - y_t), \quad w = s \exp(-(d / 0.04)^2)

    with :math:`d` the absolute difference of :math:`y_t` and :math:`z_{t-1}`, averaged over the colors and over 5x5
    pixels. What moves, appears or is cut differs, and stays as it is. This project's choice.

    Args:
        strength: :math:`s` in [0, 1); 0 changes nothing.

    Raises:
        TypeError: ``strength`` is no number.
        ValueError: ``strength`` is not in [0, 1).
    """

    def __init__(self, strength: float) -> None:
        if isinstance(strength, bool) or not isinstance(strength, (int, float)):
            raise TypeError(f"temporal must be a number, got {type(strength).__name__} {strength!r}")
        if not 0 <= strength < 1:
            raise ValueError(f"temporal must be in [0, 1), got {strength}")
        self._strength = float(strength)
        self._before: Tensor | None = None

    def __call__(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The next frame, ``H x W x 3``, uint8, to what is shown in its place."""
        if self._strength == 0:
            return frame
        now = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float() / 255
        if self._before is not None and self._before.shape == now.shape:
            difference = (now - self._before).abs().mean(dim=0, keepdim=True)
            near = avg_pool2d(difference, _SIDE, stride=1, padding=_SIDE // 2, count_include_pad=False)
            now = torch.lerp(now, self._before, self._strength * torch.exp(-((near / _STILL) ** 2)))
        self._before = now
        shown: npt.NDArray[np.uint8] = (now * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
        return shown

    def state_dict(self) -> dict[str, Tensor]:
        """What the next frame depends on."""
        return {} if self._before is None else {"before": self._before.contiguous()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self._before = state.get("before")
