"""Measure all rows, or those that are named, and write the table.

Both sides of a row live in one process and take turns; read the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .measure import ALLOCATOR, interleaved_seconds, memory_apart, peak_mib, saved_mib, spinning
from .report import machine, write
from .rows import ROWS, Setting

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), default="float32", help="of autocast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="timed turns, at least 7")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--memory-of", nargs=2, metavar=("ROW", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"rows must be of {', '.join(ROWS)}, got {', '.join(unknown)}")
    if arguments.rounds < 7:
        parser.error(f"--rounds must be >= 7, got {arguments.rounds}")
    return arguments


def _memory(name: str, side: str, at: Setting) -> float:
    row = ROWS[name]
    call = (row.build_memory or row.build)(at)[side]
    return saved_mib(call) if row.autograd else peak_mib(call)


def _measure(name: str, at: Setting, arguments: argparse.Namespace) -> dict[str, Any]:
    row = ROWS[name]
    result: dict[str, Any] = {"row": name, "work": row.work, "ours": row.ours, "peer": row.peer}
    if row.time is not None:
        torch.manual_seed(0)
        calls = row.build(at)
        seconds = interleaved_seconds(calls, arguments.rounds)
        ratio = seconds[row.ours] / seconds[row.peer] / row.scale
        if row.busy:
            with spinning(2 * (os.cpu_count() or 1)):
                busy = interleaved_seconds(calls, arguments.rounds)
            result["slowdown"] = {side: busy[side] / seconds[side] for side in calls}
            ratio = result["slowdown"][row.ours] / result["slowdown"][row.peer]
        result |= {"seconds": seconds, "time_ratio": ratio, "time_target": row.time}
    if row.memory is not None:
        command = ["--device", arguments.device, "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
        mib = {side: memory_apart(name, side, command) for side in (row.ours, row.peer)}
        result |= {"mib": mib, "memory_ratio": mib[row.ours] / mib[row.peer], "memory_target": row.memory}
        result["memory"] = "kept for the backward pass" if row.autograd else "peak"
    return result


def main() -> None:
    """Entry point."""
    arguments = _parse()
    if not arguments.memory_of and any(os.environ.get(key) != value for key, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **ALLOCATOR})
    torch.set_num_threads(arguments.threads)
    at = Setting(torch.device(arguments.device), _DTYPES[arguments.dtype])
    if arguments.memory_of:
        print(_memory(*arguments.memory_of, at))
        return
    results = [_measure(name, at, arguments) for name in tqdm(arguments.rows or list(ROWS))]
    table = write(results, machine(at, arguments), arguments.results)
    print(table)


if __name__ == "__main__":
    main()
