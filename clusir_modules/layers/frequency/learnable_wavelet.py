"""An orthogonal wavelet whose filters are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_choice
from ...ops.dwt import MODES, dwt2d, idwt2d
from ...ops.filter_banks import check_wave, filter_bank
from ...ops.precision import widen

__all__ = ["LearnableWavelet"]

_CLOSE = 1e-8  # the angles of longer filters, whose outer taps are tiny, lose what tells them apart


class LearnableWavelet(nn.Module):
    r"""Wavelet transform with learned filters that reconstructs perfectly, whatever was learned.

    .. math::
        \begin{pmatrix} H_0(z) \\ H_1(z) \end{pmatrix} = R(\theta_K) \Lambda(z) R(\theta_{K-1}) \Lambda(z) \cdots
        R(\theta_1) \begin{pmatrix} 1 \\ z^{-1} \end{pmatrix}, \quad
        \Lambda(z) = \operatorname{diag}(1, z^{-2}), \quad \sum_k \theta_k = \pi / 4

    Rotations and delays: every orthogonal filter pair of ``2 K`` taps is such a product, and every such product is
    orthogonal. The sum of the angles makes the high pass of a constant 0; that leaves ``K - 1`` parameters (this
    project's choice).

    Args:
        wave: orthogonal wavelet of PyWavelets to start from, with at least 4 taps: "db2" to "db15", "sym2" to "sym20",
            "coif1" to "coif12".
        mode: extension at the border, see :func:`dwt2d`.

    Shape:
        ``(B, C, H, W)`` to ``ll`` ``(B, C, h, w)`` and ``details`` ``(B, C, 3, h, w)``, see :func:`dwt2d`.

    Raises:
        TypeError: ``wave`` is no name.
        ValueError: ``wave`` is unknown, not orthogonal, or of a length for which there are no such angles; ``mode`` is
            unknown.

    Example:
        >>> wavelet = LearnableWavelet("db2")
        >>> x = torch.rand(1, 3, 16, 20)
        >>> ll, details = wavelet(x)
        >>> bool(torch.allclose(wavelet.inverse(ll, details), x, atol=1e-5))
        True

    Reference: Vaidyanathan and Hoang, "Lattice structures for optimal design and robust implementation of two-channel
    perfect-reconstruction QMF banks", IEEE Transactions on Acoustics, Speech and Signal Processing, 1988.
    """

    def __init__(self, wave: str = "db2", mode: str = "periodization") -> None:
        super().__init__()
        check_wave(wave)
        self.wave = wave
        self.mode = check_choice("mode", mode, MODES)
        taps = filter_bank(wave)[2]
        start = _angles(taps) if len(taps) >= 4 else []
        if not start or max(abs(a - b) for a, b in zip(_low_pass(start), taps)) > _CLOSE:
            raise ValueError(
                f"wave must be an orthogonal wavelet with angles of its own (db2 to db15, sym2 to sym20, coif1 to "
                f"coif12), got {wave!r}"
            )
        self._start = start[:-1]
        self.angles = nn.Parameter(torch.empty(len(self._start)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Go back to the filters of ``wave``."""
        with torch.no_grad():
            self.angles.copy_(torch.tensor(self._start, dtype=torch.float64))

    def filter_bank(self) -> Tensor:
        """Filters ``(4, L)`` in float32 or wider, in PyWavelets' order, as :func:`dwt2d` and its kin take them."""
        angles = widen(self.angles)
        angles = torch.cat((angles, math.pi / 4 - angles.sum(dim=0, keepdim=True)))
        cosines, sines = angles.cos().unbind(), angles.sin().unbind()
        low, high = torch.stack((cosines[0], sines[0])), torch.stack((-sines[0], cosines[0]))
        for cosine, sine in zip(cosines[1:], sines[1:]):
            low, high = F.pad(low, (0, 2)), F.pad(high, (2, 0))
            low, high = cosine * low + sine * high, cosine * high - sine * low
        reconstruction = torch.stack((low, -high))
        return torch.cat((reconstruction.flip(1), reconstruction))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return dwt2d(x, self.filter_bank(), self.mode)

    def inverse(self, ll: Tensor, details: Tensor) -> Tensor:
        """Put the bands together again, see :func:`idwt2d`: a map of odd size comes back one larger."""
        return idwt2d(ll, details, self.filter_bank(), self.mode)

    def extra_repr(self) -> str:
        return f"wave={self.wave!r}, mode={self.mode!r}"


def _angles(taps: Sequence[float]) -> list[float]:
    """Angles of an orthogonal low pass: each undoes one rotation, after which both filters are two taps shorter."""
    low = list(taps)
    high = [(-1) ** (place + 1) * tap for place, tap in enumerate(reversed(low))]
    angles: list[float] = []
    while len(low) > 2:
        place = max((-1, -2), key=lambda at: abs(low[at]) + abs(high[at]))
        angle = math.atan2(low[place], high[place])
        low, high = _rotate(low, high, -angle)
        low, high = low[:-2], high[2:]
        angles.insert(0, angle)
    return [math.atan2(low[1] - high[0], low[0] + high[1]), *angles]


def _low_pass(angles: Sequence[float]) -> list[float]:
    low, high = _rotate([1.0, 0.0], [0.0, 1.0], angles[0])
    for angle in angles[1:]:
        low, high = _rotate([*low, 0.0, 0.0], [0.0, 0.0, *high], angle)
    return low


def _rotate(low: Sequence[float], high: Sequence[float], angle: float) -> tuple[list[float], list[float]]:
    cosine, sine = math.cos(angle), math.sin(angle)
    pairs = list(zip(low, high))
    return [cosine * a + sine * b for a, b in pairs], [cosine * b - sine * a for a, b in pairs]
