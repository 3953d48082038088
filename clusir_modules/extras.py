"""How to install what an optional part of the package needs."""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["install_hint"]


def install_hint(extra: str) -> str:
    """The command that installs the packages of an extra, by their own names: the distribution is on no index yet."""
    try:
        requirements = metadata.requires("clusir") or []
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        requirements = []
    marker = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]")
    packages = [f"'{requirement.split(';')[0].strip()}'" for requirement in requirements if marker.search(requirement)]
    return f"pip install {' '.join(packages)}" if packages else f"in a checkout of clusir: pip install '.[{extra}]'"
