"""How time and memory grow: ``restore`` with the pixels of a picture, the bare network with the pictures of a batch.

Every point is a process of its own with one thread, warmed up on a small picture: processor seconds, the smallest of
three calls where one takes less than two seconds, and the peak of resident memory above that of the warm process, the
result left out. A point that ``growth.json`` holds is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import clusir_modules as cm

from .measure import peak_mib

RESULTS = Path(__file__).parent / "results"
SIDES = (256, 512, 1024, 2048, 4096, 8192)  # 0.06 to 64 megapixels
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PATCH = 128
_SHORT, _REPEATED = 2.0, 3  # seconds; calls


def build(what: str, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """What is measured, and the small call before it.

    Args:
        what: "restore" or "network".
        size: side of the picture, or pictures in the batch.
    """
    net = cm.clusir_tiny(pretrained=True).eval()
    if what == "restore":
        image = torch.rand(3, size, size)
        small = image[:, :PATCH, :PATCH]
        return lambda: cm.restore(net, image, progress=False), lambda: cm.restore(net, small, progress=False)
    x = torch.rand(size, 3, PATCH, PATCH)

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return net(images)

    return lambda: run(x), lambda: run(x[:1])


def measure_point(what: str, size: int) -> dict[str, Any]:
    """Seconds and MiB of one point, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    call, small = build(what, size)
    small()
    seconds: list[float] = []

    def timed() -> object:
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
        return result

    mib = peak_mib(timed, warm_up=False)
    while len(seconds) < _REPEATED and seconds[0] < _SHORT:
        timed()
    pixels = size**2 if what == "restore" else size * PATCH**2
    return {"what": what, "size": size, "megapixels": pixels / 2**20, "seconds": min(seconds), "mib": mib}


def _measure_apart(what: str, size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", "--point", what, str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    point: dict[str, Any] = json.loads(output.splitlines()[-1])
    return point


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(": ")[1] for line in lines if "model name" in line), platform.machine())
    return f"{name}, one thread, torch {torch.__version__}"


def write(points: list[dict[str, Any]], machine: str, folder: Path) -> str:
    """Write ``growth.json``, ``.md`` and ``.png``, and return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    points = sorted(points, key=lambda point: (point["what"] != "restore", point["size"]))
    (folder / "growth.json").write_text(json.dumps({"machine": machine, "points": points}, indent=1) + "\n", "utf-8")
    table = _table(points, machine)
    (folder / "growth.md").write_text(table, encoding="utf-8")
    _plot(points, folder / "growth.png")
    return table


def _name(point: dict[str, Any]) -> str:
    size = point["size"]
    return f"restore, {size}x{size}" if point["what"] == "restore" else f"network, {size}x3x{PATCH}x{PATCH}"


def _table(points: list[dict[str, Any]], machine: str) -> str:
    lines = [
        f"clusir_tiny, {machine}; processor seconds and peak of memory above a warm process, the result left out.",
        "",
        "| work | megapixels | seconds | seconds a megapixel | MiB | MiB a megapixel |",
        "|---|---|---|---|---|---|",
    ]
    for point in points:
        size, seconds, mib = (point[key] for key in ("megapixels", "seconds", "mib"))
        lines.append(
            f"| {_name(point)} | {size:.3g} | {seconds:.3g} | {seconds / size:.3g} | {mib:.0f} | {mib / size:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _plot(points: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for what, label in (("restore", "restore, tiles of 512"), ("network", f"network, batches of {PATCH}x{PATCH}")):
        own = [point for point in points if point["what"] == what]
        for place, key in zip(axes, ("seconds", "mib"), strict=True):
            place.plot([point["megapixels"] for point in own], [point[key] for point in own], marker="o", label=label)
    for place, name in zip(axes, ("processor seconds", "peak memory, MiB"), strict=True):
        place.set(xscale="log", yscale="log", xlabel="megapixels", ylabel=name)
        place.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--largest", type=int, default=SIDES[-1], help="longest side of a picture, pixels")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("--point", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure_point(arguments.point[0], int(arguments.point[1]))))
        return
    path = arguments.results / "growth.json"
    found = [] if arguments.anew or not path.is_file() else json.loads(path.read_text(encoding="utf-8"))["points"]
    there = {(point["what"], point["size"]) for point in found}
    wanted = [("network", size) for size in BATCHES]
    wanted += [("restore", size) for size in SIDES if size <= arguments.largest]
    for what, size in tqdm([pair for pair in wanted if pair not in there], unit="point"):
        found.append(_measure_apart(what, size))
        write(found, _machine(), arguments.results)
    print(write(found, _machine(), arguments.results))


if __name__ == "__main__":
    main()
