"""Networks as ONNX files."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ...serialization.atomic import written_whole
from .program import check_close, export_program, unseen_image

__all__ = ["export_onnx"]

_LARGEST_FOLDED = 2**24  # numbers of one tensor


def export_onnx(net: nn.Module | ExportedProgram, path: str | os.PathLike[str], *, dynamic_batch: bool = False) -> None:
    """Write a network as one ONNX file, for images of any height and width.

    The input is ``image``, the output ``restored``, both ``(batch, channels, height, width)``. Where onnxruntime is
    installed, the file is run before it is put in place, on a size that the tracing has not seen.

    Args:
        net: see :func:`export_program`, or what it returned.
        path: file to write.
        dynamic_batch: see :func:`export_program`; without effect on a program.

    Raises:
        ImportError: onnx or onnxscript is missing.
        RuntimeError: the program or the ONNX file differs from the network by more than 1e-4 of the largest value.

    Example:
        >>> from clusir_modules import clusir_tiny
        >>> export_onnx(clusir_tiny(), "clusir.onnx")  # doctest: +SKIP
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"export_onnx needs {' and '.join(missing)}")
    program = net if isinstance(net, ExportedProgram) else export_program(net, dynamic_batch=dynamic_batch)
    converted: Any = torch.onnx.export(
        program, dynamo=True, optimize=False, input_names=["image"], output_names=["restored"], verbose=False
    )
    _fold(converted.model)
    _clean(converted.model.graph)
    with written_whole(path) as temporary:
        converted.save(str(temporary), external_data=False)
        if importlib.util.find_spec("onnxruntime") is not None:
            image = unseen_image(program)
            check_close("the ONNX file", _run(temporary, image).to(image.device), program.module()(image))


def _fold(model: Any) -> None:
    """Compute what depends on weights alone.

    The exporter's own optimizer compares every node with hundreds of patterns too, which takes most of the time of an
    export; onnxruntime has patterns of its own and runs the file as fast without.
    """
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants

    fold_constants(model, input_size_limit=_LARGEST_FOLDED, output_size_limit=_LARGEST_FOLDED)
    for simplify in (RemoveUnusedNodesPass(), CommonSubexpressionEliminationPass(), RemoveUnusedNodesPass()):
        simplify(model)


def _clean(graph: Any) -> None:
    """Name the dynamic axes, which are symbols and formulas of the tracer, and drop where in the source a node was."""
    import onnx_ir

    for node in graph.all_nodes():
        node.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs):
        names = ("batch", "channels", "height", "width")
        value.shape = onnx_ir.Shape(
            size if isinstance(size, int) else name for size, name in zip(value.shape, names, strict=True)
        )


def _run(path: os.PathLike[str], image: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": image.cpu().numpy()})[0])
