"""Networks as ONNX files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ...ops.precision import autocast_unknown
from ...serialization.atomic import written_whole
from .program import check_close, export_program, unseen_image

__all__ = ["check_packages", "export_onnx", "write_onnx"]

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
    check_packages("export_onnx")
    if isinstance(net, ExportedProgram):
        program = net
    else:
        with autocast_unknown():
            program = export_program(net, dynamic_batch=dynamic_batch)
    image = unseen_image(program)
    write_onnx(program, path, (image,), (program.module()(image),), inputs=["image"], outputs=["restored"])


def check_packages(caller: str) -> None:
    """Refuse to begin an export that could not end.

    Raises:
        ImportError: onnx or onnxscript is missing.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{caller} needs {' and '.join(missing)}")


def write_onnx(
    program: ExportedProgram,
    path: str | os.PathLike[str],
    given: Sequence[Tensor],
    expected: Sequence[Tensor],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    """Convert a program and write it; where onnxruntime is installed, compare what the file makes of an input.

    Args:
        program: with tensors alone as inputs and outputs; those of four dimensions are images of any size.
        path: file to write.
        given: tensors to run the file with.
        expected: what it must make of them.
        inputs: names.
        outputs: names.

    Raises:
        RuntimeError: the file gives something else.
    """
    converted: Any = torch.onnx.export(
        program, dynamo=True, optimize=False, input_names=inputs, output_names=outputs, verbose=False
    )
    _fold(converted.model)
    _clean(converted.model.graph)
    with written_whole(path) as temporary:
        converted.save(str(temporary), external_data=False)
        if importlib.util.find_spec("onnxruntime") is not None:
            results = _run(temporary, dict(zip(inputs, given, strict=True)))
            for result, wanted in zip(results, expected, strict=True):
                check_close("the ONNX file", result.to(wanted.device), wanted)


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
        if len(value.shape) == 4:
            names = ("batch", "channels", "height", "width")
            value.shape = onnx_ir.Shape(
                size if isinstance(size, int) else name for size, name in zip(value.shape, names, strict=True)
            )


def _run(path: os.PathLike[str], given: Mapping[str, Tensor]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    results = session.run(None, {name: value.cpu().numpy() for name, value in given.items()})
    return [torch.from_numpy(result) for result in results]
