"""Ways to run a network on this machine, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

__all__ = ["WAYS", "Measured", "measure", "missing"]

WAYS = {
    "float32": "PyTorch in float32, what `clusir restore` does",
    "bfloat16": "PyTorch under bfloat16 autocast, on a CPU what --half does",
    "float16": "PyTorch under float16 autocast, on other devices what --half does",
    "compile": "torch.compile, which compiles for minutes",
    "onnxruntime": "an ONNX file in onnxruntime, on the CPU",
}
"""By name; the first is what the others are compared with."""


class Measured(NamedTuple):
    """What one way cost.

    Attributes:
        seconds: of one picture, the smallest of the repetitions.
        preparing: seconds of the first picture beyond that, with export or compilation.
        peak_mib: of the process, on a GPU of its memory; None where the system does not tell.
        output: the picture, ``(1, C, H, W)``, float32.
    """

    seconds: float
    preparing: float
    peak_mib: float | None
    output: npt.NDArray[Any]


def missing(way: str, device: str) -> str | None:
    """Why a way is not possible here, None if it is as far as one can tell before."""
    if way == "float16" and device == "cpu":
        return "slow on CPUs, bfloat16 is theirs"
    if way == "onnxruntime":
        if device != "cpu":
            return "measured on the CPU alone"
        names = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if names:
            from clusir_modules.extras import install_hint

            return f"needs {', '.join(names)}: {install_hint('export')}"
    return None


def measure(way: str, net: nn.Module, image: Tensor, device: str, repeat: int) -> Measured:
    """Measure one way in a fresh process.

    Args:
        way: of :data:`WAYS`.
        net: the network, on the CPU.
        image: ``(1, C, H, W)`` in [0, 1], on the CPU.
        device: where to run.
        repeat: timed runs behind the first one.

    Raises:
        RuntimeError: it failed, or the process was killed; the message is one line.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_measure_here, way, net, image.numpy(), device, repeat).result()
        except BrokenProcessPool as error:
            raise RuntimeError("its process was killed, most likely for want of memory") from error
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise RuntimeError(f"{type(error).__name__}: {lines[0] if lines else 'no message'}") from error


def _measure_here(way: str, net: nn.Module, image: npt.NDArray[Any], device: str, repeat: int) -> Measured:
    import torch

    start = time.perf_counter()
    run = _session(net) if way == "onnxruntime" else _in_torch(way, net, device)
    x = torch.from_numpy(image)
    output = run(x)
    first = time.perf_counter() - start
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run(x)
        seconds.append(time.perf_counter() - start)
    return Measured(min(seconds), max(first - min(seconds), 0.0), _peak_mib(device), output.numpy())


def _in_torch(way: str, net: nn.Module, device: str) -> Callable[[Tensor], Tensor]:
    import torch

    from clusir_modules.inference.network import final_image

    net = net.to(device).eval()
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(way)
    if way == "compile":
        net.compile()

    def run(x: Tensor) -> Tensor:
        place = torch.device(device)
        with torch.no_grad(), torch.autocast(place.type, dtype=dtype, enabled=dtype is not None):
            return final_image(net(x.to(place))).float().cpu()

    return run


def _session(net: nn.Module) -> Callable[[Tensor], Tensor]:
    import onnxruntime
    import torch

    from clusir_modules.inference.export import export_onnx

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.onnx")
        export_onnx(net.eval(), file)
        session = onnxruntime.InferenceSession(file.read_bytes(), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _peak_mib(device: str) -> float | None:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # the other number counts what the parent had before it started this program
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    if find_spec("resource") is None:
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
