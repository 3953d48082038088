"""Degradations by name: from option files and for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from ...serialization.registry import Registry, suggest
from ._base import Degradation
from .blur import DefocusBlur, MotionBlur
from .camera import CameraNoise
from .haze import Haze
from .jpeg import JPEG
from .low_light import LowLight
from .low_pass import GaussianBlur, SincFilter
from .mixture import Mixture, OneOf
from .noise import GaussianNoise
from .rain import RainStreaks
from .raindrops import Raindrops
from .raw_noise import RawNoise
from .resize import Resize
from .snow import Snow

__all__ = ["DEGRADATIONS", "TASK_DEGRADATIONS", "build_degradation", "degradation_types", "register_degradation"]

_OF_STEPS = (Mixture, OneOf, Resize)

DEGRADATIONS = Registry(
    "degradation type",
    GaussianNoise,
    CameraNoise,
    RawNoise,
    RainStreaks,
    Raindrops,
    Haze,
    MotionBlur,
    DefocusBlur,
    GaussianBlur,
    SincFilter,
    LowLight,
    JPEG,
    Snow,
    *_OF_STEPS,
)
"""Classes that :func:`build_degradation` knows by name."""

TASK_DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType(
    {
        "noise": GaussianNoise(),
        "camera_noise": CameraNoise(),
        "raw_noise": RawNoise(),
        "rain": RainStreaks(),
        "raindrops": Raindrops(),
        "haze": Haze(),
        "motion_blur": MotionBlur(),
        "defocus_blur": DefocusBlur(),
        "gaussian_blur": GaussianBlur(),
        "sinc_filter": SincFilter(),
        "low_light": LowLight(),
        "jpeg": JPEG(),
        "jpeg_twice": Mixture([JPEG(shifted=True), JPEG()]),
        "resize": Resize(),
        "snow": Snow(),
    }
)
"""Short task names and their degradation with default settings."""


def degradation_types() -> tuple[str, ...]:
    """Names that :func:`build_degradation` knows, sorted."""
    return tuple(sorted(DEGRADATIONS))


def register_degradation(cls: type[Degradation]) -> type[Degradation]:
    """Make a class known to :func:`build_degradation` under its own name; use it as a decorator.

    Registering the same class again changes nothing.

    Raises:
        TypeError: ``cls`` is no subclass of :class:`Degradation`.
        ValueError: another class has that name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Degradation)):
        raise TypeError(f"cls must be a subclass of Degradation, got {cls!r}")
    return DEGRADATIONS.register(cls)


def build_degradation(config: Mapping[str, Any] | Sequence[Any] | str | Degradation) -> Degradation:
    """Build a degradation from what an option file says.

    Args:
        config: ``{"type": "Haze", "beta": [0.6, 1.8]}``: a class and its arguments; a list of such: a
            :class:`Mixture` in that order; a short task name (``"haze"``): its default settings; or an instance, which
            is returned as is. The ``steps`` of :class:`Mixture`, :class:`OneOf` and :class:`Resize` are each one of
            these.

    Raises:
        TypeError: ``config`` is of another kind, or a setting is of the wrong type.
        ValueError: unknown type, task name or argument (with the nearest name), or a setting out of range.

    Examples:
        >>> build_degradation({"type": "GaussianNoise", "sigma": 15})
        GaussianNoise(sigma=15, quantize=True, between=False)
        >>> len(build_degradation(["low_light", {"type": "RainStreaks", "density": 2}]).steps)
        2
    """
    if isinstance(config, Degradation):
        return config
    if isinstance(config, str):
        if config not in TASK_DEGRADATIONS:
            raise ValueError(f"unknown task {config!r}{suggest(config, TASK_DEGRADATIONS)}")
        return TASK_DEGRADATIONS[config]
    if isinstance(config, Sequence):
        return Mixture([build_degradation(step) for step in config])
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a mapping with a 'type', a list of such or a name, got {config!r}")
    make = DEGRADATIONS.make(config)
    steps = config.get("steps")
    if DEGRADATIONS[config["type"]] in _OF_STEPS and isinstance(steps, Sequence) and not isinstance(steps, str):
        make = partial(make, steps=[build_degradation(step) for step in steps])
    degradation: Degradation = make()
    return degradation
