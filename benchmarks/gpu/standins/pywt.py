"""What clusir asks of PyWavelets, for some wavelets, on a machine where it cannot be installed."""

from __future__ import annotations

import json
from pathlib import Path

_BANKS = json.loads(Path(__file__).with_name("filter_banks.json").read_text(encoding="utf-8"))


class Wavelet:
    """A wavelet with the ``filter_bank`` that PyWavelets gives it."""

    def __init__(self, name: str) -> None:
        self.filter_bank = _BANKS[name]


def wavelist(kind: str) -> list[str]:
    """Names of the wavelets that there are."""
    return list(_BANKS)
