"""The metrics of the ``val`` section, as each one wants to be called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from basicsr.utils import tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from basicsr_plugin.options.schema import MetricOptions
from basicsr_plugin.options.values import parameter_names

__all__ = ["ValidationMetrics"]


class ValidationMetrics:
    """Evaluates the metrics of ``val.metrics`` on one picture after another.

    A metric whose function has a true attribute ``float_rgb`` gets H x W x C RGB arrays in [0, 1], unrounded; others
    get 8-bit BGR as BasicSR's own expect. A metric with a second argument ``img2`` compares with the target, and is
    left out for a picture that has none.

    Args:
        metrics: By name of the result.
    """

    def __init__(self, metrics: Mapping[str, MetricOptions]) -> None:
        self.calls = {}
        for name, metric in metrics.items():
            function = METRIC_REGISTRY.get(metric.type)
            accepted = parameter_names(function)
            takes_better = accepted is None or "better" in accepted
            self.calls[name] = function, {**metric.settings, **({"better": metric.better} if takes_better else {})}

    def __call__(self, result: Tensor, target: Tensor | None) -> dict[str, float]:
        """Evaluate on one picture.

        Args:
            result: Shape (1, C, H, W), range [0, 1]; values outside are clipped.
            target: Likewise, or None.

        Returns:
            Value by name, without those that need a target if there is none.

        Raises:
            ValueError: A metric cannot measure the picture.
        """
        values = {}
        for name, (function, options) in self.calls.items():
            pictures = {"img": result}
            if "img2" in inspect.signature(function).parameters:
                if target is None:
                    continue
                pictures["img2"] = target
            convert = _to_float_rgb if getattr(function, "float_rgb", False) else tensor2img
            try:
                values[name] = float(function(**{k: convert(picture) for k, picture in pictures.items()}, **options))
            except Exception as error:
                size = " x ".join(map(str, result.shape[2:]))
                raise ValueError(f"val.metrics.{name} cannot measure a picture of {size} pixels: {error}") from error
        return values

    def needing_target(self) -> list[str]:
        """Names of the metrics that compare with the target."""
        return [name for name, (function, _) in self.calls.items() if "img2" in inspect.signature(function).parameters]


def _to_float_rgb(picture: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = picture.detach().float().clamp(0, 1).squeeze(0).permute(1, 2, 0).cpu().numpy()
    return array
