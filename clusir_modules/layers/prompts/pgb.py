"""Light prompt generation block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_positive
from ...ops.precision import full_precision, linear_parameters
from ...ops.unit import unit
from .fusion import check_tokens

__all__ = ["PGB"]

_SOFTENING = 1e-7  # of the lengths of sums of tokens


class PGB(nn.Module):
    r"""Turn semantic prompt tokens into a prompt map of any size.

    .. math:: m = \operatorname{resize}\Big(K * \sum_n w_n V_n\Big), \quad
        w = \operatorname{softmax}\Big(A \frac{\sum_c s_c}{\lVert \sum_c s_c \rVert}\Big)

    The paper says "light" and gives no form; this one follows PromptIR, with the convolution before the resizing
    (this project's choice: a prompt is smooth, so the 3x3 convolution costs ``size^2`` instead of ``H W`` pixels). The
    norm bounds the logits: with tokens of any length the softmax soon saturated at one component for all images, and
    the prompt no longer told the degradation.

    Args:
        embed_dim: width ``D`` of the tokens.
        dim: channels of the map.
        num_components: learned maps ``V_n`` that are mixed.
        size: their height and width, pixels; 1 for a prompt that is the same everywhere, its convolution 1x1.

    Shape:
        Tokens ``(B, L, D)`` and ``(H, W)`` to ``(B, dim, H, W)``.

    Raises:
        ValueError: a size below 1; in ``forward`` a wrong shape or a size below 1.
        TypeError: integer tokens, a size that is not a pair.

    Example:
        >>> PGB(64, 32)(torch.rand(2, 16, 64), (40, 56)).shape
        torch.Size([2, 32, 40, 56])

    References: ClusIR, arXiv:2512.10948, method overview; Potlapalli et al., "PromptIR", NeurIPS 2023, sec. 3.1.1.
    """

    own_types = ("conv",)

    def __init__(self, embed_dim: int, dim: int, num_components: int = 5, size: int = 16) -> None:
        super().__init__()
        self.embed_dim = check_positive("embed_dim", embed_dim)
        check_positive("num_components", num_components)
        check_positive("dim", dim)
        self.size = check_positive("size", size)
        self.components = nn.Parameter(torch.empty(num_components, dim, size, size))
        self.reset_parameters()
        self.mix = nn.Linear(embed_dim, num_components)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1) if size > 1 else nn.Conv2d(dim, dim, 1)

    def reset_parameters(self) -> None:
        """Draw the components from a normal distribution."""
        nn.init.normal_(self.components)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        check_tokens(tokens, self.embed_dim, "tokens")
        if not isinstance(size, Sequence) or len(size) != 2:
            raise TypeError(f"size must be a pair (H, W), got {size!r}")
        if size[0] < 1 or size[1] < 1:
            raise ValueError(f"size must be at least (1, 1), got {tuple(size)}")
        with full_precision(tokens):
            pooled = tokens.to(linear_parameters(self.mix)[0].dtype).sum(dim=1)
            weights = self.mix(unit(pooled, _SOFTENING)).softmax(dim=-1)
            mixed = (weights @ self.components.flatten(1)).unflatten(1, self.components.shape[1:])
            prompt: Tensor = self.conv(mixed)
        if prompt.shape[2:] == tuple(size):
            return prompt
        return F.interpolate(prompt, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"components={tuple(self.components.shape)}"
