"""Synthetic degradations: ``degradation(image, generator) -> Tensor`` on one image ``(C, H, W)`` in [0, 1]."""

from __future__ import annotations

from ._base import Degradation, LogUniform
from .blur import DefocusBlur, MotionBlur
from .camera import CameraNoise
from .haze import Haze, HazeMaps
from .jpeg import JPEG
from .low_light import LowLight
from .low_pass import GaussianBlur, SincFilter
from .mixture import Mixture, OneOf
from .noise import GaussianNoise
from .rain import RainStreaks
from .raindrops import Raindrops
from .raw_noise import RawNoise
from .registry import (
    DEGRADATIONS,
    TASK_DEGRADATIONS,
    build_degradation,
    degradation_types,
    register_degradation,
)
from .resize import Resize
from .snow import Snow

__all__ = [
    "DEGRADATIONS",
    "JPEG",
    "TASK_DEGRADATIONS",
    "CameraNoise",
    "DefocusBlur",
    "Degradation",
    "GaussianBlur",
    "GaussianNoise",
    "Haze",
    "HazeMaps",
    "LogUniform",
    "LowLight",
    "Mixture",
    "MotionBlur",
    "OneOf",
    "RainStreaks",
    "Raindrops",
    "RawNoise",
    "Resize",
    "SincFilter",
    "Snow",
    "build_degradation",
    "degradation_types",
    "register_degradation",
]
