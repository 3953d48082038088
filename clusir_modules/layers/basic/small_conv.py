"""A convolution that ends a residual branch."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["START_SCALE", "SmallConv2d"]

START_SCALE = 0.1
"""Share of torch's own start values that the last step of a residual branch starts with."""


class SmallConv2d(nn.Conv2d):
    """A convolution whose weights start at a tenth of torch's: its residual block then starts near the identity.

    With torch's own values, many branches behind each other hide the input under noise of their own. The network
    learned to remove noise only after 400 steps that it does not need with the small start (measured in
    ``docs/design.md``).

    The arguments are those of :class:`torch.nn.Conv2d`.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, out_channels, H', W')``, ``H'`` and ``W'`` as in :class:`torch.nn.Conv2d`.

    Example:
        >>> SmallConv2d(16, 32, 3, padding=1)(torch.rand(2, 16, 9, 7)).shape
        torch.Size([2, 32, 9, 7])
    """

    def reset_parameters(self) -> None:
        """Draw the parameters as torch does and scale them."""
        super().reset_parameters()
        with torch.no_grad():
            for parameter in self.parameters(recurse=False):
                parameter.mul_(START_SCALE)
