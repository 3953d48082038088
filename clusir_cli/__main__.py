"""``python -m clusir_cli``, the same as ``clusir``."""

from __future__ import annotations

from clusir_cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="clusir")
