"""Networks as files of PyTorch: for ``torch.export.load``, or compiled ahead of time."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.export import ExportedProgram

from ...serialization.atomic import written_whole
from .program import check_close, export_program, unseen_image

__all__ = ["export_pt2"]


def export_pt2(
    net: nn.Module | ExportedProgram,
    path: str | os.PathLike[str],
    *,
    dynamic_batch: bool = False,
    ahead_of_time: bool = False,
) -> None:
    """Write a network as a program that PyTorch runs without this package.

    Args:
        net: see :func:`export_program`, or what it returned.
        path: file to write, ``.pt2``.
        dynamic_batch: see :func:`export_program`; without effect on a program.
        ahead_of_time: compile for this kind of machine (AOTInductor), which needs a C++ compiler and takes minutes;
            ``torch._inductor.aoti_load_package`` reads the file. Otherwise ``torch.export.load`` does.

    Raises:
        RuntimeError: the program differs from the network, see :func:`export_program`, or does not compile.
        ValueError: ``path`` does not end in ``.pt2``.

    Example:
        >>> from clusir_modules import clusir_tiny
        >>> export_pt2(clusir_tiny(), "clusir.pt2")  # doctest: +SKIP
        >>> restored = torch.export.load("clusir.pt2").module()(torch.rand(1, 3, 37, 50))  # doctest: +SKIP
    """
    if not os.fspath(path).endswith(".pt2"):
        raise ValueError(f"path must end in .pt2, got {os.fspath(path)}")
    program = net if isinstance(net, ExportedProgram) else export_program(net, dynamic_batch=dynamic_batch)
    with written_whole(path) as temporary:
        if ahead_of_time:
            torch._inductor.aoti_compile_and_package(program, package_path=str(temporary))
            compiled = torch._inductor.aoti_load_package(str(temporary))
            image = unseen_image(program)
            check_close("the compiled program", compiled(image), program.module()(image))
        else:
            torch.export.save(program, temporary)
