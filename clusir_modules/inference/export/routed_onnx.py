"""A network with routing as two ONNX files: one decides, one restores by what was decided."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from ...layers.routing.routing import Routing
from ...ops.precision import autocast_unknown
from ...ops.spectrum import fourier_matrices
from ..network import evaluating, final_image
from .onnx import check_packages, write_onnx
from .program import SAMPLE_SIZE, UNSEEN_SIZE, check_close

__all__ = ["export_routed_onnx"]


class _Route(nn.Module):
    """From an image to all that the routers decide, one tensor after the other."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        routings = cast(Any, self.net).route(image)
        decided = (value for routing in routings for value in _decided(routing))
        return (*decided, *(routing.cluster_probs for routing in routings))


class _Restore(nn.Module):
    """From an image and what routers decided to the restored image."""

    def __init__(self, net: nn.Module, num_experts: list[int]) -> None:
        super().__init__()
        self.net = net
        self.num_experts = num_experts

    def forward(self, image: Tensor, *decided: Tensor) -> Tensor:
        routings = []
        for level, count in enumerate(self.num_experts):
            weights, indices, prompt = decided[3 * level : 3 * level + 3]
            unread = prompt.new_zeros(1, count)
            routings.append(Routing(prompt.new_zeros(prompt.shape[:2]), unread, weights, indices, prompt))
        return final_image(self.net(image, routings=routings))


def _decided(routing: Routing) -> tuple[Tensor, Tensor, Tensor]:
    return routing.topk_weights, routing.topk_indices, routing.prompt


def export_routed_onnx(net: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write ``route.onnx`` and ``restore.onnx`` into a folder, for pictures that are restored in tiles.

    One file, as :func:`export_onnx` writes it, routes each tile by itself. With two, a picture is routed once, and all
    its tiles run the same experts, as by ``restore(net, picture, routing=net.route(picture))`` in Python.

    - ``route.onnx``: from ``image`` ``(1, C, H, W)`` to ``weights_n`` ``(1, k)``, ``experts_n`` ``(1, k)`` int64,
      ``prompt_n`` ``(1, L, D)`` and ``clusters_n`` ``(1, L)``, the fields ``topk_weights``, ``topk_indices``,
      ``prompt`` and ``cluster_probs`` of the ``n``-th routing, from 1;
    - ``restore.onnx``: from ``image`` and ``weights_n``, ``experts_n``, ``prompt_n`` to ``restored``
      ``(1, C, H, W)``.

    Images are of any height and width. Where onnxruntime is installed, each file is run before it is put in place, on a
    size that the tracing has not seen. What encoder levels need is in both files.

    Args:
        net: a network with routing, such as :class:`ClusIR`. It is traced in evaluation mode, on the device where it
            is, and left as it was.
        folder: made if it is not there.

    Raises:
        ImportError: onnx or onnxscript is missing.
        RuntimeError: what was traced or written differs from the network by more than 1e-4 of the largest value.
        TypeError: ``net`` has no routing.

    Example:
        >>> from clusir_modules import clusir_tiny
        >>> export_routed_onnx(clusir_tiny(), "clusir")  # doctest: +SKIP
    """
    if not hasattr(net, "route"):
        raise TypeError(f"net must have routing, got {type(net).__name__}, which has none")
    check_packages("export_routed_onnx")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weight = next(net.parameters())
    channels: int = cast(Any, net).in_channels
    sample, unseen = (weight.new_empty(1, channels, *size).uniform_() for size in (SAMPLE_SIZE, UNSEEN_SIZE))
    axes = {2: Dim.AUTO, 3: Dim.AUTO}
    with evaluating(net), torch.no_grad(), fourier_matrices(), autocast_unknown():
        routings = cast(Any, net).route(sample)
        names = [
            f"{name}_{level}" for level in range(1, len(routings) + 1) for name in ("weights", "experts", "prompt")
        ]
        clusters = [f"clusters_{level}" for level in range(1, len(routings) + 1)]
        decided = [value for routing in routings for value in _decided(routing)]
        restore = _Restore(net, [routing.expert_probs.shape[1] for routing in routings])
        for file, module, given, image, inputs, outputs in (
            ("route.onnx", _Route(net), (sample,), unseen, ["image"], [*names, *clusters]),
            ("restore.onnx", restore, (sample, *decided), unseen, ["image", *names], ["restored"]),
        ):
            program = torch.export.export(
                module, given, dynamic_shapes=_shapes(module, axes, len(given) - 1), strict=False
            )
            arguments = (image, *given[1:])
            expected, traced = (_as_tuple(run(*arguments)) for run in (module, program.module()))
            for result, wanted in zip(traced, expected, strict=True):
                check_close("the exported program", result, wanted)
            write_onnx(program, folder / file, arguments, expected, inputs=inputs, outputs=outputs)


def _shapes(module: nn.Module, axes: dict[int, Any], others: int) -> Any:
    """Which axes are dynamic, in the form in which ``torch.export`` wants it for each of the two."""
    return (axes, ({},) * others) if isinstance(module, _Restore) else (axes,)


def _as_tuple(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)
