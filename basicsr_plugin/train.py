"""Training: ``python -m basicsr_plugin.train -opt FILE [--root DIR] [--check] [--force] [BasicSR's arguments]``."""

from __future__ import annotations

import argparse
import os
import sys

from basicsr_plugin import compat, register

__all__ = ["main", "take_root"]

compat.prepare()  # Loader workers that are spawned import this module first, then BasicSR.


def take_root(argv: list[str]) -> tuple[str, list[str]]:
    """Split ``--root DIR`` off a command line.

    Args:
        argv: Arguments, program name included.

    Returns:
        The folder for ``experiments``, ``results`` and ``tb_logger``, by default the working directory, and the other
        arguments.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root", default=os.getcwd())
    known, others = parser.parse_known_args(argv[1:])
    return os.path.abspath(known.root), [argv[0], *others]


def main() -> None:
    """Train as the command line says; options for other models than the plugin's go through BasicSR's own loop."""
    register()
    root, sys.argv = take_root(sys.argv)
    from basicsr_plugin.run import seam
    from basicsr_plugin.run.training import TrainingRun

    if not seam.asks_for_ours(sys.argv):
        from basicsr.train import train_pipeline

        train_pipeline(root)
        return
    opt, args, own = seam.parse(root)
    TrainingRun({**opt, "root_path": root}, option_file=args.opt, force=own.force).run()


if __name__ == "__main__":
    main()
