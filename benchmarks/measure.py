"""Time by turns in one process, memory in a process of its own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["ALLOCATOR", "interleaved_seconds", "memory_apart", "peak_mib", "saved_mib", "spinning"]

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
"""Setting of glibc under which CPU times are taken: memory is kept instead of being mapped anew for each tensor."""

_MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
"""Setting under which memory is taken: each tensor is mapped on its own, so that resident memory is memory in use."""


def interleaved_seconds(calls: dict[str, Callable[[], object]], rounds: int, *, warm_up: int = 1) -> dict[str, float]:
    """Median wall seconds of each call; they take turns, so that a busy machine slows all of them alike.

    Args:
        calls: what to time, by name.
        rounds: timed turns of each.
        warm_up: turns before them that do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name in sorted(calls, reverse=bool(turn % 2)):
            start = time.perf_counter()
            calls[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Processes that never rest, while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def peak_mib(call: Callable[[], object], *, warm_up: bool = True) -> float:
    """MiB that a warm call needs at most on top of what was in use before it and of the tensor that it returns.

    Args:
        call: what to measure.
        warm_up: run it once before; False for a caller that has warmed up by something smaller.
    """
    if warm_up:
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20 - _mib(result)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident_mib("VmRSS")
    result = call()
    return _resident_mib("VmHWM") - before - _mib(result)


def saved_mib(forward: Callable[[], Tensor]) -> float:
    """MiB of tensors that autograd keeps for the backward pass, parameters left out, each storage counted once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    total = sum(sizes.values()) / 2**20
    del output
    return total


def memory_apart(row: str, name: str, arguments: list[str]) -> float:
    """Memory of one side of a row, taken in a fresh process."""
    command = [sys.executable, "-m", "benchmarks", *arguments, "--memory-of", row, name]
    environment = {**os.environ, **_MAPPED}
    for key in ALLOCATOR:
        environment.pop(key, None)
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return float(output.split()[-1])


def _mib(result: object) -> float:
    return result.nbytes / 2**20 if isinstance(result, Tensor) else 0.0


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
