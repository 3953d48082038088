from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from basicsr_plugin.metrics import calculate_psnr_all_in_one, calculate_ssim_all_in_one
from basicsr_plugin.metrics.validation_metrics import ValidationMetrics
from basicsr_plugin.options.schema import ValOptions


def pictures() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    target = draw.random((40, 48, 3)).astype(np.float32)
    return (target + draw.normal(0, 0.05, target.shape)).clip(0, 1).astype(np.float32), target


class TestRegisteredMetrics:
    def test_basicsr_finds_them_by_name_and_passes_the_option_better(self) -> None:
        from basicsr.metrics import calculate_metric

        img, img2 = pictures()
        data = {"img": img, "img2": img2}
        psnr = calculate_metric(data, {"type": "calculate_psnr_all_in_one", "better": "higher"})
        ssim = calculate_metric(data, {"type": "calculate_ssim_all_in_one", "window": "gaussian"})
        exact, exact2 = img.astype(np.float64), img2.astype(np.float64)
        assert psnr == pytest.approx(peak_signal_noise_ratio(exact2, exact, data_range=1))
        expected = structural_similarity(exact2, exact, data_range=1, channel_axis=-1, gaussian_weights=True)
        assert ssim == pytest.approx(expected)

    def test_they_ask_for_float_rgb(self) -> None:
        assert calculate_psnr_all_in_one.float_rgb  # type: ignore[attr-defined]
        assert calculate_ssim_all_in_one.float_rgb  # type: ignore[attr-defined]

    def test_validation_evaluates_them_on_unrounded_images(self) -> None:
        target = torch.full((1, 3, 16, 16), 0.5)
        sections: dict[str, dict[str, Any]] = {
            "float": {"type": "calculate_psnr_all_in_one", "better": "higher"},
            "ssim": {"type": "calculate_ssim_all_in_one", "window": "uniform", "better": "higher"},
        }
        # A tenth of a gray level, which rounding to 8 bits would remove.
        values = ValidationMetrics(ValOptions(metrics=sections).metric_options())(target + 0.1 / 255, target)
        assert values["float"] == pytest.approx(20 * np.log10(2550), abs=0.01)
        assert values["ssim"] == pytest.approx(1, abs=1e-3)

    def test_a_misspelled_option_is_an_error(self) -> None:
        from basicsr.metrics import calculate_metric

        img, img2 = pictures()
        with pytest.raises(TypeError, match="windows"):
            calculate_metric({"img": img, "img2": img2}, {"type": "calculate_ssim_all_in_one", "windows": "gaussian"})
