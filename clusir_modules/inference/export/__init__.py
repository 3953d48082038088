"""Networks as files that run without this package: ``torch.export`` and ONNX.

Needs the extra ``export``: in a checkout ``pip install ".[export]"``.
"""

from __future__ import annotations

from .onnx import export_onnx
from .program import export_program
from .pt2 import export_pt2
from .routed_onnx import export_routed_onnx

__all__ = ["export_onnx", "export_program", "export_pt2", "export_routed_onnx"]
