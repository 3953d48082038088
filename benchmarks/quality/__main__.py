"""Evaluate a clusir_tiny on CBSD68 and on parts of Rain100H, SOTS indoor and LOL, and write tables and pictures.

By the protocol of the field: RGB in [0, 1], whole images cut around the center to multiples of 16, PSNR of each image,
then the mean. ``DATA`` holds ``cbsd68/`` and, as far as there, ``rain100h_part/``, ``sots_indoor_part/`` and
``lol_part/``, each with ``input/`` and ``target/``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import clusir_modules as cm
from clusir_modules.serialization.checkpoints import load_weights

from .causes import causes_report
from .clusters import cluster_report
from .confidence import confidence_report
from .known import known_benchmarks
from .stability import stability_report

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--weights", type=Path, help="of a clusir_tiny; default: those that are shipped")
    parser.add_argument("--earlier", type=Path, help="checkpoint of the same training, to compare its routing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    net = cm.clusir_tiny(pretrained=arguments.weights is None)
    if arguments.weights is not None:
        load_weights(net, arguments.weights)
    arguments.results.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    evaluations = known_benchmarks(net, arguments.data, arguments.results)
    cluster_report(net, evaluations, arguments.results)
    confidence_report(evaluations, arguments.results)
    causes_report(net, arguments.data, arguments.results)
    earlier = None
    if arguments.earlier is not None:
        earlier = cm.clusir_tiny()
        load_weights(earlier, arguments.earlier)
    stability_report(net, arguments.data, arguments.results, earlier)


if __name__ == "__main__":
    main()
