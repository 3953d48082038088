"""Training: ``python -m basicsr_plugin.train -opt FILE [--root DIR] [BasicSR's arguments]``."""

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
        arguments, which are BasicSR's.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root", default=os.getcwd())
    known, others = parser.parse_known_args(argv[1:])
    return os.path.abspath(known.root), [argv[0], *others]


def main() -> None:
    """Train as the command line says."""
    register()
    from basicsr.train import train_pipeline

    root, sys.argv = take_root(sys.argv)
    train_pipeline(root)


if __name__ == "__main__":
    main()
