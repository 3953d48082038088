"""Training data: degradations, reading and pairing of image files, and an all-in-one data set.

Needs torch, NumPy and Pillow only.
"""

from __future__ import annotations

from ..imaging.reading import IMAGE_SUFFIXES, read_image
from .all_in_one import AllInOneDataset
from .degradations import (
    DEGRADATIONS,
    JPEG,
    TASK_DEGRADATIONS,
    CameraNoise,
    DefocusBlur,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Haze,
    HazeMaps,
    LogUniform,
    LowLight,
    Mixture,
    MotionBlur,
    OneOf,
    Raindrops,
    RainStreaks,
    RawNoise,
    Resize,
    SincFilter,
    Snow,
    build_degradation,
    degradation_types,
    register_degradation,
)
from .device_degrader import DeviceDegrader
from .pairing import PAIRING_RULES, pairing_rule
from .tasks import Task

__all__ = [
    "DEGRADATIONS",
    "IMAGE_SUFFIXES",
    "JPEG",
    "PAIRING_RULES",
    "TASK_DEGRADATIONS",
    "AllInOneDataset",
    "CameraNoise",
    "DefocusBlur",
    "Degradation",
    "DeviceDegrader",
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
    "Task",
    "build_degradation",
    "degradation_types",
    "pairing_rule",
    "read_image",
    "register_degradation",
]
