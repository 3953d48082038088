"""What ``import basicsr`` needs in a current environment: modules that it misses are supplied before it.

BasicSR's files are never changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["prepare"]


def prepare() -> None:
    """Make ``import basicsr`` possible; must come before it.

    Raises:
        ImportError: BasicSR is missing, or another folder named ``basicsr`` hides it.
    """
    package = _find_basicsr()
    _alias_functional_tensor()
    _alias_distutils()
    _supply_version(package)


def _find_basicsr() -> Path:
    """Folder of the ``basicsr`` package that an import would find."""
    spec = importlib.util.find_spec("basicsr")
    if spec is None:
        raise ImportError(f"the plugin needs BasicSR, which is not installed: {_how_to_install()}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (folder / "utils" / "registry.py").is_file():
            return folder
    found = folders[0] if folders else spec.origin
    raise ImportError(
        f"{found} hides BasicSR: it has no utils/registry.py, so it is a fork from before BasicSR's registries or "
        "another project. Run from another folder, or take it off PYTHONPATH; "
        f"if BasicSR is missing: {_how_to_install()}"
    )


def _how_to_install() -> str:
    """BasicSR's ``setup.py`` imports torch, so it cannot be built in an environment of its own."""
    from clusir_modules.extras import install_hint

    return f"{install_hint('basicsr')} --no-build-isolation"


def _alias_functional_tensor() -> None:
    """``basicsr.data.degradations`` imports a module that torchvision 0.17 removed; its functions live on beside it."""
    name = "torchvision.transforms.functional_tensor"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        sys.modules[name] = importlib.import_module("torchvision.transforms.functional")


def _alias_distutils() -> None:
    """``basicsr.archs.arch_util`` imports distutils, which Python 3.12 removed (setuptools brings it back if there)."""
    try:
        importlib.import_module("distutils.version")
    except ModuleNotFoundError:
        version = ModuleType("distutils.version")
        version.LooseVersion = importlib.import_module("packaging.version").Version
        sys.modules.setdefault("distutils", ModuleType("distutils"))
        sys.modules["distutils.version"] = version


def _supply_version(package: Path) -> None:
    """A checkout that was never built has no ``basicsr/version.py``, which setup.py generates."""
    if "basicsr.version" in sys.modules or (package / "version.py").is_file():
        return
    number = package.parent / "VERSION"
    module = ModuleType("basicsr.version")
    module.__version__ = number.read_text().strip() if number.is_file() else "unknown"
    module.__gitsha__ = "unknown"
    sys.modules["basicsr.version"] = module
