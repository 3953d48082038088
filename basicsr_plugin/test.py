"""Testing: ``python -m basicsr_plugin.test -opt FILE [--root DIR] [BasicSR's arguments]``."""

from __future__ import annotations

import sys

from basicsr_plugin import register
from basicsr_plugin.train import take_root

__all__ = ["main"]


def main() -> None:
    """Test as the command line says."""
    register()
    from basicsr.test import test_pipeline

    root, sys.argv = take_root(sys.argv)
    test_pipeline(root)


if __name__ == "__main__":
    main()
