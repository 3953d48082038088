"""Degradations by name: from option files and for the command line."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ._base import Degradation
from .blur import DefocusBlur, MotionBlur
from .camera import CameraNoise
from .haze import Haze
from .jpeg import JPEG
from .low_light import LowLight
from .mixture import Mixture
from .noise import GaussianNoise
from .rain import RainStreaks
from .snow import Snow

__all__ = ["TASK_DEGRADATIONS", "build_degradation", "degradation_types", "register_degradation"]

_TYPES: dict[str, type[Degradation]] = {
    cls.__name__: cls
    for cls in (GaussianNoise, CameraNoise, RainStreaks, Haze, MotionBlur, DefocusBlur, LowLight, JPEG, Snow)
}

TASK_DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType(
    {
        "noise": GaussianNoise(),
        "camera_noise": CameraNoise(),
        "rain": RainStreaks(),
        "haze": Haze(),
        "motion_blur": MotionBlur(),
        "defocus_blur": DefocusBlur(),
        "low_light": LowLight(),
        "jpeg": JPEG(),
        "snow": Snow(),
    }
)
"""Short task names and their degradation with default settings."""


def degradation_types() -> tuple[str, ...]:
    """Names that :func:`build_degradation` knows, sorted."""
    return tuple(sorted(_TYPES))


def register_degradation(cls: type[Degradation]) -> type[Degradation]:
    """Make a class known to :func:`build_degradation` under its own name; use it as a decorator.

    Registering the same class again changes nothing.

    Raises:
        TypeError: ``cls`` is no subclass of :class:`Degradation`.
        ValueError: another class has that name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Degradation)):
        raise TypeError(f"cls must be a subclass of Degradation, got {cls!r}")
    if _TYPES.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"cls must have a name of its own, but a degradation named {cls.__name__!r} exists already")
    return cls


def build_degradation(config: Mapping[str, Any] | Sequence[Any] | str | Degradation) -> Degradation:
    """Build a degradation from what an option file says.

    Args:
        config: ``{"type": "Haze", "beta": [0.6, 1.8]}``: a class and its arguments; a list of such: a
            :class:`Mixture` in that order; a short task name (``"haze"``): its default settings; or an instance, which
            is returned as is.

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
            raise ValueError(f"unknown task {config!r}{_suggest(config, TASK_DEGRADATIONS)}")
        return TASK_DEGRADATIONS[config]
    if isinstance(config, Sequence):
        return Mixture([build_degradation(step) for step in config])
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a mapping with a 'type', a list of such or a name, got {config!r}")
    arguments = dict(config)
    name = arguments.pop("type", None)
    if name not in _TYPES:
        raise ValueError(f"unknown degradation type {name!r}{_suggest(str(name), _TYPES)}")
    cls = _TYPES[name]
    accepted = inspect.signature(cls).parameters
    for argument in arguments:
        if argument not in accepted:
            raise ValueError(f"{name} has no argument {argument!r}{_suggest(str(argument), accepted)}")
    return cls(**arguments)


def _suggest(given: str, known: Mapping[str, Any]) -> str:
    """The end of an error message: the nearest name, and all names."""
    by_lower_case = {key.lower(): key for key in known}
    close = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=0.5)
    hint = f"; did you mean {by_lower_case[close[0]]!r}?" if close else ";"
    return f"{hint} accepted: {', '.join(sorted(known))}"
