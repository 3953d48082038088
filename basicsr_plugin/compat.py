"""Everything that adapts BasicSR 1.4.2 (and its master branch) to current Python, torch and machines.

BasicSR's files are never changed: modules that it misses are supplied before its import (:func:`prepare`), and a few
of its functions are replaced in memory (:func:`install`).
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["install", "prepare"]

_INSTALL_HINT = "install it with `pip install --no-build-isolation basicsr==1.4.2`, or from a checkout"


def prepare() -> None:
    """Make ``import basicsr`` possible; must come before it.

    Raises:
        ImportError: BasicSR is missing, or another folder named ``basicsr`` hides it.
    """
    package = _find_basicsr()
    _alias_functional_tensor()
    _alias_distutils()
    _supply_version(package)


def install() -> None:
    """Replace the functions of BasicSR that fail here; calling it again does nothing.

    Raises:
        ImportError: BasicSR is missing, or another folder named ``basicsr`` hides it.
    """
    prepare()
    options = importlib.import_module("basicsr.utils.options")
    if getattr(options.parse_options, "adapted_by", None) == __name__:
        return

    from basicsr_plugin import option_files

    # Option files are data: BasicSR's loader would run any code named in them by a `!!python/...` tag.
    options.ordered_yaml = option_files.ordered_yaml
    # `--force_yml` evaluates lists as Python code, and leaves 1e-4 a string.
    options._postprocess_yml_value = option_files.parse_value
    # Distributed training without CUDA divides by the number of GPUs, 0.
    options.init_dist = _adapt_init_dist(options.init_dist)
    # An error while loading in a thread would leave the training waiting forever.
    importlib.import_module("basicsr_plugin.data.prefetching").install()
    original = options.parse_options
    options.parse_options = _adapt_parse_options(original)
    # Modules that hold the original function under their own name.
    for name in ("basicsr.train", "basicsr.test"):
        module = sys.modules.get(name)
        if getattr(module, "parse_options", None) is original:
            module.parse_options = options.parse_options


def _find_basicsr() -> Path:
    """Folder of the ``basicsr`` package that an import would find."""
    spec = importlib.util.find_spec("basicsr")
    if spec is None:
        raise ImportError(f"the plugin needs BasicSR, which is not installed: {_INSTALL_HINT}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (folder / "utils" / "registry.py").is_file():
            return folder
    found = folders[0] if folders else spec.origin
    raise ImportError(
        f"{found} hides BasicSR: it has no utils/registry.py, so it is a fork from before BasicSR's registries or "
        f"another project. Run from another folder, or take it off PYTHONPATH; if BasicSR is missing, {_INSTALL_HINT}"
    )


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


def _adapt_init_dist(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap BasicSR's ``init_dist``: gloo without CUDA, and the platform's own way of starting loader workers."""

    def init_dist(launcher: str, **kwargs: Any) -> None:
        import torch

        # BasicSR forces "spawn" where nothing is set: every epoch's workers would import BasicSR anew, unrepaired.
        # Asking for the method settles it.
        multiprocessing.get_start_method()
        if launcher == "pytorch" and not torch.cuda.is_available():
            torch.distributed.init_process_group(backend="gloo")
        else:
            original(launcher, **kwargs)

    return init_dist


def _adapt_parse_options(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap BasicSR's ``parse_options``, the first thing that its training and test scripts call.

    That makes it the place where an unmodified script (``basicsr.train``, or a checkout's ``train.py`` run as
    ``__main__``) can be given other functions: they are exchanged in the globals of the calling module.
    """

    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], Any]:
        from basicsr_plugin import option_files, option_schema, script_patches

        script = sys._getframe(1).f_globals
        sys.argv = option_files.resolve_arguments(sys.argv)
        opt, args = original(root_path, is_train=is_train)
        option_files.check_names(opt, root_path)
        _fit_to_machine(opt)
        if option_schema.is_ours(opt):
            option_schema.check_options(opt)
        if is_train:
            script_patches.patch_training_script(script, opt)
        return opt, args

    parse_options.adapted_by = __name__
    return parse_options


def _fit_to_machine(opt: dict[str, Any]) -> None:
    """Change options that need CUDA where there is none: BasicSR fails on each of them."""
    import torch

    if torch.cuda.is_available():
        return
    if opt["num_gpu"] != 0:
        warnings.warn(f"num_gpu is {opt['num_gpu']} but CUDA is not available: running on the CPU", stacklevel=3)
        opt["num_gpu"] = 0
    for dataset in opt["datasets"].values():
        if dataset.get("prefetch_mode") == "cuda":
            dataset["prefetch_mode"] = None
        if dataset.get("pin_memory"):
            dataset["pin_memory"] = False
