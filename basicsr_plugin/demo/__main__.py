"""Teach the shipped ``clusir_tiny`` a new mixture through BasicSR: ``python -m basicsr_plugin.demo --out FOLDER``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from .photographs import write_photographs
from .report import contact_sheet, evaluate, format_table, routing_picture, write_csv

__all__ = ["main"]

_OPTIONS = {"shipped": "train/clusir_tiny_demo", "scratch": "train/clusir_tiny_demo_scratch"}
_MARK = ".clusir_demo"
"""File by which a later demo knows a folder as that of an earlier one, whose files it may replace."""


def main() -> None:
    """Write photographs, train on some, restore the others before and after, write ``psnr.csv`` and two pictures."""
    parser = argparse.ArgumentParser(prog="python -m basicsr_plugin.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for all that the demo writes")
    parser.add_argument("--from", dest="source", choices=_OPTIONS, default="shipped", help="weights to begin with")
    parser.add_argument("--iterations", type=int, help="train shorter or longer than the option file says")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds other files")
    arguments = parser.parse_args()
    if arguments.iterations is not None and arguments.iterations < 1:
        parser.error(f"--iterations must be >= 1, got {arguments.iterations}")
    if arguments.out.is_dir() and any(arguments.out.iterdir()) and not (arguments.out / _MARK).exists():
        if not arguments.overwrite:
            parser.error(f"{arguments.out} holds files that are not the demo's; give another --out, or --overwrite")

    from basicsr_plugin import train
    from basicsr_plugin.options.files import OptionLoader, find_option
    from clusir_modules.networks.clusir import SHIPPED_WEIGHTS

    start = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / _MARK).touch()
    os.chdir(arguments.out)
    write_photographs(Path("photographs"))
    Path("weights").mkdir(exist_ok=True)
    shutil.copy(SHIPPED_WEIGHTS, "weights")
    option_file = find_option(_OPTIONS[arguments.source])
    sys.argv = [sys.argv[0], "-opt", os.fspath(option_file)]
    if arguments.iterations is not None:
        warmup = arguments.iterations // 20
        sys.argv += ["--force_yml", f"train:total_iter={arguments.iterations}", f"train:scheduler:warmup_iter={warmup}"]
    train.main()

    import torch
    import yaml

    from clusir_modules import clusir_tiny
    from clusir_modules.data import AllInOneDataset

    options = yaml.load(option_file.read_text(), Loader=OptionLoader)  # noqa: S506 - a safe loader
    weights = torch.load(
        f"experiments/{options['name']}/models/net_g_latest.pth", weights_only=True, map_location="cpu"
    )
    settings = {key: value for key, value in options["network_g"].items() if key != "type"}
    trained = clusir_tiny(**settings)
    trained.load_state_dict(weights["params_ema"])
    networks = {"after training": trained}
    if arguments.source == "shipped":
        networks = {"shipped weights": clusir_tiny(pretrained=True), **networks}
    validation = options["datasets"]["val"]
    dataset = AllInOneDataset(validation["tasks"], center_crop=validation["center_crop"], seed=options["manual_seed"])
    results = {title: evaluate(net, dataset) for title, net in networks.items()}
    write_csv(results, Path("psnr.csv"))
    contact_sheet(results, Path("contact_sheet.png"))
    routing_picture(results["after training"], Path("routing.png"))
    print("\nPhotographs kept out of training; the network is not told what is wrong with them")
    print(format_table(results))
    print(f"\n{time.monotonic() - start:.0f} s. Pictures in {Path.cwd()}: contact_sheet.png, routing.png")


if __name__ == "__main__":
    main()
