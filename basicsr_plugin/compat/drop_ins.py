"""Drop-in files that make an unmodified BasicSR checkout load the plugin by itself."""

from __future__ import annotations

from pathlib import Path

__all__ = ["link", "unlink"]

_MARK = "# Written by `python -m basicsr_plugin link`; `python -m basicsr_plugin unlink` removes it."

# BasicSR imports all files *_arch.py, then all files *_model.py. The networks must be there after the first step, and
# the rest of the plugin needs modules that are only complete by the second.
_STUBS = {
    "archs/clusir_arch.py": f"{_MARK}\nimport basicsr_plugin\n\nbasicsr_plugin.register_archs()\n",
    "models/clusir_model.py": f"{_MARK}\nimport basicsr_plugin\n\nbasicsr_plugin.register()\n",
}


def link(checkout: Path) -> list[Path]:
    """Add the drop-in files; then ``python basicsr/train.py -opt FILE`` knows the plugin's parts.

    Args:
        checkout: Folder that contains ``basicsr/``, BasicSR 1.3 or later.

    Returns:
        The files written; none exist twice when called again.

    Raises:
        FileExistsError: A file of that name is there and not ours; nothing has been written.
        FileNotFoundError: The folder is no such checkout.
    """
    stubs = _stub_paths(checkout)
    for path in stubs:
        if path.exists() and not _is_ours(path):
            raise FileExistsError(f"{path} exists and was not written by this command: it is left as it is")
    for path, text in stubs.items():
        path.write_text(text)
    return list(stubs)


def unlink(checkout: Path) -> list[Path]:
    """Remove the drop-in files, and no others.

    Args:
        checkout: As for :func:`link`.

    Returns:
        The files removed.

    Raises:
        FileNotFoundError: The folder is no such checkout.
    """
    ours = [path for path in _stub_paths(checkout) if path.exists() and _is_ours(path)]
    for path in ours:
        path.unlink()
    return ours


def _stub_paths(checkout: Path) -> dict[Path, str]:
    package = checkout / "basicsr"
    if not (package / "utils" / "registry.py").is_file():
        raise FileNotFoundError(f"{checkout} is no BasicSR checkout: it has no basicsr/utils/registry.py")
    return {package / name: text for name, text in _STUBS.items()}


def _is_ours(path: Path) -> bool:
    return path.read_text(errors="replace").startswith(_MARK)
