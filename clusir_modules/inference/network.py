"""What this package asks of a network that may be anyone's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["channels_of", "evaluating", "final_image"]


def channels_of(net: nn.Module) -> int | None:
    """Channels of the images of a network that names them."""
    channels: int | None = getattr(net, "in_channels", None)
    return channels


def final_image(output: object) -> Tensor:
    """Take the image out of what a network returned: the output, or the first of several stages.

    Raises:
        TypeError: it is not an image.
    """
    if isinstance(output, (list, tuple)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"net must return an image or a sequence of images, got {type(output).__name__}")
    return output


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and each of its modules back into its own at the end."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
