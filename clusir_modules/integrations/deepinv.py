"""Restoration networks as denoisers of deepinv, for its plug-and-play algorithms."""

from __future__ import annotations

from typing import Any

from deepinv.models import Denoiser
from torch import Tensor, nn

from ..inference.network import final_image

__all__ = ["BlindDenoiser"]


class BlindDenoiser(Denoiser):  # type: ignore[misc]
    """A network of this package in deepinv's interface; it sees by itself how strong the noise is.

    Other degradations that it recognizes it removes too: as the prior of an inverse problem it pulls toward clean
    pictures.

    Args:
        net: :class:`~clusir_modules.ClusIR`, :class:`~clusir_modules.MPRNet` or another network from images to images.
            It is not copied, and gets gradients unless its parameters are frozen.

    Shape:
        ``(B, in_channels, H, W)``, any size, to the same; values in [0, 1] but for noise.

    Raises:
        ValueError: in ``forward`` a shape that the network refuses.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: float | Tensor | None = None, **kwargs: Any) -> Tensor:
        """Return the restored images; ``sigma`` and what algorithms hand on beside it make no difference."""
        return final_image(self.net(x))
