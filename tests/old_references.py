"""What the library that tests write and compare with cannot do in old versions."""

from __future__ import annotations

import imagecodecs
import pytest
from packaging.version import Version


def require_few_bits() -> None:
    """Skip a test whose file or reference needs samples of fewer bits than their type has."""
    if Version(imagecodecs.__version__) < Version("2026.3.6"):
        pytest.skip("earlier imagecodecs neither packs such samples nor reads single bits")
