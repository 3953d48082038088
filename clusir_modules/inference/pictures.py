"""Pictures in the kinds that people hold them: read a part as a tensor in [0, 1], write a result in the same kind."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Picture", "wrap_picture"]

_PEAKS = {torch.uint8: 255.0, torch.uint16: 65535.0}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_KINDS = "numpy H x W x C or H x W (RGB or gray), or a tensor (C, H, W) or (B, C, H, W)"
_DTYPES = "uint8, uint16 or floating point"
_LARGEST, _EIGHT_BITS = 16.0, 256.0  # in floating point: noise and overshooting stay below, 0 to 255 is between


class Picture(Protocol):
    """A picture, or a batch of them as a tensor, of any size."""

    channels: int
    height: int
    width: int

    def read(self, rows: slice, columns: slice, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Part of it as ``(B, C, h, w)`` in [0, 1]."""

    def write(self, start: int, part: Tensor) -> None:
        """Put rows of the result from ``start`` on, ``(B, C', n, s W)``; the first call makes room for all."""

    def result(self) -> Any:
        """What was written, in the kind of the picture."""


def wrap_picture(image: object) -> Picture:
    """Take a picture of any supported kind.

    Raises:
        TypeError: it is neither a numpy array nor a tensor, or its elements are of another type.
        ValueError: its shape is none of a picture, or floating-point values reach from 0 to 255.
    """
    if isinstance(image, np.ndarray):
        return _ArrayPicture(image)
    if isinstance(image, Tensor):
        return _TensorPicture(image)
    raise TypeError(f"image must be {_KINDS}, got {type(image).__name__}")


def _check_range(largest: float) -> None:
    if _LARGEST < largest <= _EIGHT_BITS:
        raise ValueError(
            f"image must hold values in [0, 1] where they are floating point, got values up to {largest:g}: "
            "divide them by 255 or give them as uint8"
        )


def _check_shape(shape: tuple[int, ...], ranks: tuple[int, int]) -> None:
    if len(shape) not in ranks or 0 in shape:
        raise ValueError(f"image must be {_KINDS}, got shape {tuple(shape)}")


class _ArrayPicture:
    def __init__(self, image: npt.NDArray[Any]) -> None:
        kind = (image.dtype.kind, image.dtype.itemsize)  # whatever the byte order
        if kind not in {("u", 1), ("u", 2), ("f", 2), ("f", 4), ("f", 8)}:
            raise TypeError(f"image must be {_DTYPES}, got {image.dtype}")
        _check_shape(image.shape, (2, 3))
        self._image = image
        self._peak = float(np.iinfo(image.dtype).max) if kind[0] == "u" else 1.0
        if kind[0] == "f":
            _check_range(float(image.max()))
        self._result: npt.NDArray[Any] | None = None
        self.height, self.width = image.shape[:2]
        self.channels = image.shape[2] if image.ndim == 3 else 1

    def read(self, rows: slice, columns: slice, device: torch.device, dtype: torch.dtype) -> Tensor:
        wide = np.float64 if dtype == torch.float64 else np.float32
        part = torch.from_numpy(self._image[rows, columns].astype(wide, order="C"))
        part = part.view(1, *part.shape[:2], self.channels).permute(0, 3, 1, 2)
        return (part.to(device) / self._peak).to(dtype).contiguous()

    def write(self, start: int, part: Tensor) -> None:
        rows = part[0].permute(1, 2, 0)
        if self._image.ndim == 2:
            if part.shape[1] != 1:
                raise ValueError(f"net must return 1 channel for a gray image H x W, got {part.shape[1]}")
            rows = rows[..., 0]
        if self._peak > 1:
            rows = (rows * self._peak).round_().clamp_(0, self._peak)
        if self._result is None:
            height = self.height * rows.shape[1] // self.width
            self._result = np.empty((height, *rows.shape[1:]), dtype=self._image.dtype)
        self._result[start : start + rows.shape[0]] = rows.cpu().numpy()

    def result(self) -> Any:
        return self._result


class _TensorPicture:
    def __init__(self, image: Tensor) -> None:
        if image.dtype not in _PEAKS and image.dtype not in _FLOATS:
            raise TypeError(f"image must be {_DTYPES}, got {image.dtype}")
        _check_shape(tuple(image.shape), (3, 4))
        self._image = image.detach() if image.dim() == 4 else image.detach().unsqueeze(0)
        self._rank = image.dim()
        self._peak = _PEAKS.get(image.dtype, 1.0)
        if image.dtype in _FLOATS:
            _check_range(float(image.detach().max()))
        self._result: Tensor | None = None
        self.channels, self.height, self.width = self._image.shape[1:]

    def read(self, rows: slice, columns: slice, device: torch.device, dtype: torch.dtype) -> Tensor:
        part = self._image[..., rows, columns].to(device)
        return (part.to(torch.promote_types(dtype, torch.float32)) / self._peak).to(dtype).contiguous()

    def write(self, start: int, part: Tensor) -> None:
        if self._peak > 1:
            part = (part * self._peak).round_().clamp_(0, self._peak)
        if self._result is None:
            shape = (*part.shape[:2], self.height * part.shape[3] // self.width, part.shape[3])
            self._result = torch.empty(shape, dtype=self._image.dtype, device=self._image.device)
        self._result[:, :, start : start + part.shape[2]] = part.to(self._image.device).to(self._image.dtype)

    def result(self) -> Any:
        return self._result if self._result is None or self._rank == 4 else self._result[0]
