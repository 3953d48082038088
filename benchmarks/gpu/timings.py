"""Time and load of training steps and of inference: launched one by one, compiled, and captured in a CUDA graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import clusir_modules as cm

from .setting import Setting, training_step

__all__ = ["FORMS", "measure"]

FORMS = ("eager", "captured", "compiled by block and captured", "compiled and captured", "compiled")
_BLOCKS = (cm.WTB, cm.ClusterMoE, cm.DAFMM, cm.PGB, cm.PromptFusion)
"""What is compiled by itself in ``by block``: equal blocks share their code, so there is less to compile."""


def measure(at: Setting, form: str) -> Iterator[dict[str, Any]]:
    """Measure everything in one form, one row after the other: network, work, milliseconds, and what else is known."""
    for name, build in at.networks.items():
        for work, prepare in (
            ("training step", _training_step),
            ("inference, 1 picture", lambda *args: _inference(1, *args)),
            ("inference, 8 pictures", lambda *args: _inference(8, *args)),
        ):
            if at.cpu and "compiled" in form and work != "training step":
                continue  # tracing is what a rehearsal takes longest for
            torch.manual_seed(0)
            net = build().to(at.device).to(memory_format=torch.channels_last)
            if "compiled" in form:
                torch.compiler.reset()
                parts = [m for m in net.modules() if isinstance(m, _BLOCKS)] if "by block" in form else [net]
                for part in parts:
                    part.compile(dynamic=False, backend="eager" if at.cpu else "inductor")
            if not at.cpu:
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            call = prepare(net, at, "captured" in form and not at.cpu)
            call()
            at.synchronize()
            first = time.perf_counter() - start
            yield {"network": name, "work": work, "form": form, "first_seconds": round(first, 2), **_time(call, at)}
            del net, call
            if not at.cpu:
                torch.cuda.empty_cache()


def _training_step(net: nn.Module, at: Setting, capture: bool) -> Callable[[], object]:
    step, batch = training_step(net.train(), capture=capture), at.draw_batch()

    def call() -> None:
        step.accumulate(batch, 0, first=True)
        step.update()

    return call


def _inference(count: int, net: nn.Module, at: Setting, capture: bool) -> Callable[[], object]:
    net.eval()
    pictures = torch.rand(count, 3, at.side, at.side, device=at.device).contiguous(memory_format=torch.channels_last)

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast(at.device.type, torch.bfloat16):
            return net(pictures)

    if not capture:
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        output = call()

    def replay(output: Tensor = output) -> None:
        graph.replay()  # into the output, which therefore has to stay

    return replay


def _time(call: Callable[[], object], at: Setting) -> dict[str, Any]:
    """Median time of a call that is waited for, of one in a row, and the share of it that the device computes."""
    for _ in range(2):
        call()
    at.synchronize()
    seconds = []
    for _ in range(at.rounds):
        start = time.perf_counter()
        call()
        at.synchronize()
        seconds.append(time.perf_counter() - start)
    result: dict[str, Any] = {"milliseconds": round(statistics.median(seconds) * 1e3, 2)}
    if at.cpu:
        return result
    start = time.perf_counter()
    for _ in range(at.rounds):
        call()
    at.synchronize()
    in_a_row = (time.perf_counter() - start) / at.rounds
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        at.synchronize()
    kernels = [e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    computing = sum(event.self_device_time_total for event in kernels) / 1e6
    return result | {
        "in_a_row_milliseconds": round(in_a_row * 1e3, 2),
        "device_milliseconds": round(computing * 1e3, 2),
        "device_busy": round(computing / in_a_row, 3),
        "kernels": sum(event.count for event in kernels),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }
