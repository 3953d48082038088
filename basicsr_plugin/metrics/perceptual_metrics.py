"""Metrics of pyiqa by name: LPIPS, DISTS, NIQE and others, on the GPU if there is one.

pyiqa loads the weights of a metric when it is used first. It is no dependency: its license, PolyForm Noncommercial,
allows no commercial use.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from basicsr_plugin.compat.registration import register_once
from basicsr_plugin.options.values import suggest
from clusir_modules.extras import install_hint

__all__ = ["calculate_pyiqa", "calculate_pyiqa_no_reference"]

Picture = npt.NDArray[np.floating[Any]]


def calculate_pyiqa(
    img: Picture, img2: Picture, *, metric: str, better: Literal["higher", "lower"] = "higher"
) -> float:
    """Measure a result against its ground truth.

    Args:
        img: Result, shape (H, W, C), RGB in [0, 1].
        img2: Ground truth, likewise.
        metric: Name in ``pyiqa.list_models("FR")``, such as ``lpips`` or ``dists``.
        better: Which results are the better ones; it must be what pyiqa says of the metric.

    Raises:
        ValueError: pyiqa is missing, has no such metric, or ``better`` is the other way.
    """
    return _measure("FR", metric, better, img, img2)


def calculate_pyiqa_no_reference(img: Picture, *, metric: str, better: Literal["higher", "lower"] = "higher") -> float:
    """Measure a result by itself.

    Args:
        img: As in :func:`calculate_pyiqa`.
        metric: Name in ``pyiqa.list_models("NR")``, such as ``niqe`` or ``musiq``.
        better: As in :func:`calculate_pyiqa`.

    Raises:
        ValueError: As in :func:`calculate_pyiqa`.
    """
    return _measure("NR", metric, better, img)


def _measure(mode: str, metric: str, better: str, *pictures: Picture) -> float:
    model = _load(metric, mode)
    right = "lower" if model.lower_better else "higher"
    if better != right:
        raise ValueError(f"better must be {right} for {metric}, got {better}")
    return float(model(*(torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0) for picture in pictures)))


@functools.cache
def _load(metric: str, mode: str) -> Any:
    _require(metric, mode)
    import pyiqa

    return pyiqa.create_metric(metric)


def _require(metric: str, mode: str) -> None:
    """Refuse a metric that cannot be had, before a run starts; loads no weights."""
    try:
        import pyiqa
    except ImportError as error:
        raise ValueError(f"the metric {metric} needs pyiqa: {install_hint('perceptual')}") from error
    known = pyiqa.list_models(mode)
    if metric not in known:
        kind = {"FR": "with a reference", "NR": "without a reference"}[mode]
        raise ValueError(f"pyiqa has no metric {metric!r} {kind}{suggest(metric, known)}")


for _function, _mode in ((calculate_pyiqa, "FR"), (calculate_pyiqa_no_reference, "NR")):
    _function.float_rgb = True  # type: ignore[attr-defined]
    _function.require = functools.partial(_require, mode=_mode)  # type: ignore[attr-defined]
    register_once(METRIC_REGISTRY, _function)
