"""Time and peak memory of MPRNet against the independent implementation in spandrel_extra_arches, same weights.

Both networks live in one process and take turns, so that a busy machine slows both alike; read the ratio, not the
seconds. Where other processes compete for the cores, the ratio of CPU seconds is steadier than that of wall seconds.
Peak memory is taken in a process of its own per network (CPU) or from the allocator's statistics (GPU).

    python benchmarks/bench_mprnet.py
    python benchmarks/bench_mprnet.py --config denoising --device cuda --rounds 21
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from spandrel_extra_arches.architectures.MPRNet import MPRNet as Reference
from torch import Tensor, nn

from clusir_modules.networks.mprnet import mprnet_deblurring, mprnet_denoising, mprnet_deraining

CONFIGS: dict[str, tuple[Any, dict[str, int]]] = {
    "deraining": (mprnet_deraining, {"n_feat": 40, "scale_unetfeats": 20, "scale_orsnetfeats": 16}),
    "denoising": (mprnet_denoising, {"n_feat": 80, "scale_unetfeats": 48, "scale_orsnetfeats": 32}),
    "deblurring": (mprnet_deblurring, {"n_feat": 96, "scale_unetfeats": 48, "scale_orsnetfeats": 32}),
}
WARM_UP_ROUNDS = 2


def build(config: str, device: str) -> dict[str, nn.Module]:
    """Return both networks with the same random weights."""
    torch.manual_seed(0)
    make, options = CONFIGS[config]
    ours, reference = make().to(device).eval(), Reference(**options).to(device).eval()
    reference.load_state_dict(ours.state_dict(), strict=True)
    return {"ours": ours, "reference": reference}


def run(net: nn.Module, x: Tensor, mode: str) -> tuple[float, float]:
    """Return the wall and CPU seconds that one call takes; in training mode with its backward pass."""
    net.zero_grad(set_to_none=True)
    start, cpu_start = time.perf_counter(), time.process_time()
    with torch.set_grad_enabled(mode == "training"):
        stages = net(x)
        if mode == "training":
            sum(stage.square().mean() for stage in stages).backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - cpu_start


def peak_memory(net: nn.Module, x: Tensor, mode: str) -> float:
    """Return the MiB that one warm call needs on top of what was in use before it."""
    if x.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(net, x, mode)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    run(net, x, mode)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mib("VmRSS")
    run(net, x, mode)
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    """Return the resident memory of this process, now (``VmRSS``) or at most since the last reset (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peak_memory_apart(name: str) -> float:
    """Return what :func:`peak_memory` reports in a fresh process with the same command line.

    There every tensor above 256 KiB is mapped on its own and given back when freed, so that resident memory is memory
    in use.
    """
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=sorted(CONFIGS), default="deraining")
    parser.add_argument("--mode", choices=["inference", "training"], default="inference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds, at least 7")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--memory-of", choices=["ours", "reference"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 7:
        parser.error(f"--rounds must be >= 7, got {arguments.rounds}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    mode, device = arguments.mode, arguments.device
    torch.set_num_threads(arguments.threads)
    nets = build(arguments.config, device)
    x = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device)
    if arguments.memory_of:
        print(peak_memory(nets[arguments.memory_of], x, mode))
        return

    with torch.no_grad():
        pairs = zip(nets["ours"](x), nets["reference"](x), strict=True)
        difference = max(float((a - b).abs().max()) for a, b in pairs)
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in nets}
    for turn in range(WARM_UP_ROUNDS + arguments.rounds):
        for name in sorted(nets, reverse=bool(turn % 2)):
            wall, cpu = run(nets[name], x, mode)
            if turn >= WARM_UP_ROUNDS:
                seconds[name].append(wall)
                cpu_seconds[name].append(cpu)

    if device == "cpu":
        memory = {name: peak_memory_apart(name) for name in nets}
    else:
        memory = {name: peak_memory(net, x, mode) for name, net in nets.items()}
    ratios = [ours / reference for ours, reference in zip(seconds["ours"], seconds["reference"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    result = {
        "config": arguments.config,
        "mode": mode,
        "input": list(x.shape),
        "rounds": arguments.rounds,
        "max_difference": difference,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio_of_medians": statistics.median(seconds["ours"]) / statistics.median(seconds["reference"]),
        "median_ratio": quartiles[1],
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "cpu_ratio_of_medians": statistics.median(cpu_seconds["ours"]) / statistics.median(cpu_seconds["reference"]),
        "peak_mib": memory,
        "memory_ratio": memory["ours"] / memory["reference"],
        "device": torch.cuda.get_device_name() if x.is_cuda else platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    name = f"mprnet_{arguments.config}_{mode}_{torch.device(device).type}_{arguments.batch}x{arguments.size}.json"
    (arguments.results / name).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print(
        f"time ratio {result['ratio_of_medians']:.3f} (CPU time {result['cpu_ratio_of_medians']:.3f}), "
        f"memory ratio {result['memory_ratio']:.3f}"
    )


if __name__ == "__main__":
    main()
