from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clusir_modules.metrics import psnr, ssim


def pictures(height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    target = draw.random((height, width, channels), dtype=np.float32)
    return np.clip(target + draw.normal(0, 0.1, target.shape).astype(np.float32), 0, 1), target


def ssim_by_definition(image: np.ndarray, target: np.ndarray, window: str) -> float:
    """Wang et al. 2004 with the sample covariance, over the positions where the window fits."""
    image, target = image.astype(np.float64), target.astype(np.float64)
    radius, average = {
        "uniform": (3, lambda x: uniform_filter(x, 7)),
        "gaussian": (5, lambda x: gaussian_filter(x, 1.5, truncate=3.5)),
    }[window]
    count = (2 * radius + 1) ** 2
    values = []
    for x, y in zip(image.transpose(2, 0, 1), target.transpose(2, 0, 1)):
        mean_x, mean_y = average(x), average(y)
        correction = count / (count - 1)
        var_x = correction * (average(x * x) - mean_x**2)
        var_y = correction * (average(y * y) - mean_y**2)
        cov = correction * (average(x * y) - mean_x * mean_y)
        c1, c2 = 0.01**2, 0.03**2
        score = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
        values.append(score[radius:-radius, radius:-radius].mean())
    return float(np.mean(values))


class TestPSNR:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_it_equals_scikit_image_on_unrounded_floats(self, channels: int) -> None:
        image, target = pictures(33, 47, channels)
        expected = peak_signal_noise_ratio(target.astype(np.float64), image.astype(np.float64), data_range=1)
        assert psnr(image, target) == pytest.approx(expected, abs=1e-9)

    def test_a_constant_error_has_its_closed_form(self) -> None:
        target = np.full((5, 6, 3), 0.5)
        assert psnr(target + 0.1, target) == pytest.approx(20.0)
        assert psnr(target, target) == float("inf")

    def test_differences_below_a_gray_level_count(self) -> None:
        target = np.full((8, 8, 3), 0.5)
        assert psnr(target + 1e-3, target) == pytest.approx(60.0)

    def test_values_outside_the_range_are_clipped(self) -> None:
        image, target = pictures(9, 9)
        wild = image.copy()
        wild[0, 0], wild[1, 1] = 3.0, -2.0
        image[0, 0], image[1, 1] = 1.0, 0.0
        assert psnr(wild, target) == pytest.approx(psnr(image, target))


class TestSSIM:
    @pytest.mark.parametrize("window", ["uniform", "gaussian"])
    def test_it_equals_scikit_image_and_the_definition(self, window: str) -> None:
        image, target = pictures(40, 33)
        expected = structural_similarity(
            target, image, data_range=1.0, channel_axis=-1, gaussian_weights=window == "gaussian"
        )
        value = ssim(image, target, window=window)  # type: ignore[arg-type]
        assert value == pytest.approx(expected, abs=1e-5)
        assert value == pytest.approx(ssim_by_definition(image, target, window), abs=1e-8)

    @pytest.mark.parametrize("window", ["uniform", "gaussian"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 5), (6, 6), (10, 40)])
    def test_small_images_have_a_value_that_tells_equal_from_unequal(self, window: str, size: tuple[int, int]) -> None:
        image, target = pictures(*size)
        assert ssim(target, target, window=window) == pytest.approx(1)  # type: ignore[arg-type]
        assert -1 <= ssim(image, target, window=window) < 0.999999  # type: ignore[arg-type]

    def test_the_two_windows_differ(self) -> None:
        image, target = pictures(40, 40)
        assert abs(ssim(image, target) - ssim(image, target, window="gaussian")) > 1e-4


class TestErrors:
    @pytest.mark.parametrize("metric", [psnr, ssim])
    def test_wrong_arguments_are_named(self, metric: object) -> None:
        image, target = pictures(8, 8)
        with pytest.raises(TypeError, match=r"image must be a float array in .*, got uint8"):
            metric((image * 255).astype(np.uint8), target)  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"one shape \(H, W, C\), got \(8, 8, 3\) and \(8, 7, 3\)"):
            metric(image, target[:, :7])  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"got \(8, 8\) and \(8, 8\)"):
            metric(image[:, :, 0], target[:, :, 0])  # type: ignore[operator]

    def test_an_unknown_window_is_named(self) -> None:
        image, target = pictures(8, 8)
        with pytest.raises(ValueError, match="window must be one of gaussian, uniform, got 'box'"):
            ssim(image, target, window="box")  # type: ignore[arg-type]
