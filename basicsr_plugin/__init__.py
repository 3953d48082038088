"""BasicSR plugin of clusir: architectures, losses, metrics, data sets, and the training of them.

Importing this package does nothing; :func:`register` brings everything into BasicSR's registries.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["register", "register_archs"]


def register() -> None:
    """Repair BasicSR for this environment and register all parts of the plugin; calling it again does nothing.

    Raises:
        ImportError: BasicSR is missing, or another folder named ``basicsr`` hides it.
    """
    import_module("basicsr_plugin.compat").prepare()
    import_module("basicsr_plugin.run.seam").install()
    for area in ("archs", "losses", "metrics", "data", "models"):
        import_module(f"basicsr_plugin.{area}")


def register_archs() -> None:
    """Register the architectures only: all that can be done while BasicSR is still importing its own.

    Raises:
        ImportError: BasicSR is missing, or another folder named ``basicsr`` hides it.
    """
    import_module("basicsr_plugin.compat").prepare()
    import_module("basicsr_plugin.archs")
