"""The program of a network for pictures of any size, by ``torch.export``."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ...ops.checks import check_choice
from ...ops.spectrum import fourier_matrices
from ..network import channels_of, evaluating, final_image

__all__ = ["SAMPLE_SIZE", "UNSEEN_SIZE", "check_close", "export_program", "unseen_image"]

SAMPLE_SIZE = (40, 56)  # pixels: off every multiple of 16
UNSEEN_SIZE = (35, 66)
_TOLERANCE = 1e-4  # of the largest value


class _FinalImage(nn.Module):
    """A network that returns one image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return final_image(self.net(image))


def export_program(
    net: nn.Module, *, dynamic_batch: bool = False, fourier: Literal["operator", "matrices"] = "operator"
) -> ExportedProgram:
    """Trace a network into a program from one image of any height and width to the restored one.

    Only the chosen experts of a :class:`ClusterMoE` run in it, as in the network.

    Args:
        net: any network from ``(B, C, H, W)`` to an image or to several, the final one first. It is traced in
            evaluation mode, on the device where it is, and left as it was.
        dynamic_batch: take any number of images, not just one. The convolutions that have kernels of their own for
            each image then run as sums of shifted products, several times as slow.
        fourier: the Fourier transforms of :class:`DAFMM` as the operator for them, or as products of matrices, which
            are equal. "matrices" is for runtimes without that operator, and for tiles: the cost grows with
            ``H W (H + W)``.

    Returns:
        A program with one input, ``(B, C, H, W)``.

    Raises:
        RuntimeError: the program differs from the network on a size that the tracing has not seen, by more than 1e-4 of
            the largest value.
        TypeError: ``net`` returns no image.
        ValueError: ``fourier`` is something else.

    Note: a program of ClusIR accepts sides of 17 pixels and more when PyTorch runs it; ONNX made of it, any.
    """
    check_choice("fourier", fourier, ("operator", "matrices"))
    weight = next((weight for weight in net.parameters() if weight.is_floating_point()), torch.empty(0))
    sample = weight.new_empty(2 if dynamic_batch else 1, channels_of(net) or 3, *SAMPLE_SIZE).uniform_()
    axes = {2: Dim.AUTO, 3: Dim.AUTO, **({0: Dim.AUTO} if dynamic_batch else {})}
    with evaluating(net), torch.no_grad(), fourier_matrices(fourier == "matrices"):
        program = torch.export.export(_FinalImage(net), (sample,), dynamic_shapes=(axes,), strict=False)
        image = unseen_image(program)
        check_close("the exported program", program.module()(image), final_image(net(image)))
    return program


def unseen_image(program: ExportedProgram) -> Tensor:
    """Return an image for a program, of a size that it was not traced with."""
    (sample,), _ = cast(tuple[tuple[Tensor], object], program.example_inputs)
    return sample.new_empty(1, sample.shape[1], *UNSEEN_SIZE).uniform_()


def check_close(name: str, result: Tensor, expected: Tensor) -> None:
    """Compare what an exported network returns with what it should.

    Raises:
        RuntimeError: they differ by more than 1e-4 of the largest value.
    """
    error, largest = (result - expected).abs().max(), expected.abs().max()
    if not error <= _TOLERANCE * largest:  # NaN too
        raise RuntimeError(
            f"{name} must equal the network within {_TOLERANCE} of the largest value, got {error / largest:.1e}"
        )
