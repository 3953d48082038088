"""What makes ``import basicsr`` work; imports nothing else of the plugin."""

from __future__ import annotations

from .imports import prepare

__all__ = ["prepare"]
