"""Measure which degradation each cluster of some weights stands for, and store that in their file.

python tools/measure_degradations.py PHOTOGRAPHS [--weights FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from clusir_modules.data import TASK_DEGRADATIONS, read_image
from clusir_modules.data.pairing import list_images
from clusir_modules.inspection.degradation_table import measure_table, write_table
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS, ClusIR
from clusir_modules.serialization.network_files import load_network

KINDS = ("noise", "rain", "haze", "motion_blur", "low_light")  # that the shipped weights were trained with
SIDE = 256  # pixels


def middles(folder: Path) -> Iterator[Tensor]:
    """The middle of every photograph."""
    from tqdm import tqdm

    for path in tqdm(list_images(folder), unit="photograph"):
        image = read_image(path)
        top, left = (max(side - SIDE, 0) // 2 for side in image.shape[1:])
        yield image[:, top : top + SIDE, left : left + SIDE]


def main() -> None:
    """Measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="folder of clean pictures that were kept out of training")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS, help="safetensors file of a ClusIR")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=TASK_DEGRADATIONS, help="what it was trained with")
    arguments = parser.parse_args()
    net = load_network(arguments.weights)
    if not isinstance(net, ClusIR):
        parser.error(f"{arguments.weights} holds a {type(net).__name__}, which has no clusters")
    kinds = {"clean": None, **{kind: TASK_DEGRADATIONS[kind] for kind in arguments.kinds}}
    table = measure_table(net, middles(arguments.photographs), kinds)
    write_table(arguments.weights, table)
    purity = ", ".join(f"{level.purity:.2f} of level {level.level + 1}" for level in table.levels)
    print(f"{arguments.weights}: {table.pictures} photographs, purity {purity}, {table.accuracy:.2f} recognized")


if __name__ == "__main__":
    main()
