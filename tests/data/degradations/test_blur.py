from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, pad

from clusir_modules.data import DefocusBlur, MotionBlur

BLURS = {
    "shake": MotionBlur("shake", length=(2, 30)),
    "linear": MotionBlur("linear", length=(2, 30)),
    "defocus": DefocusBlur((0.3, 8)),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=sorted(BLURS))
def blur(request: pytest.FixtureRequest) -> MotionBlur | DefocusBlur:
    return BLURS[request.param]


class TestKernels:
    def test_kernels_are_odd_non_negative_and_of_sum_1(self, blur: MotionBlur | DefocusBlur) -> None:
        for seed in range(50):
            kernel = blur.sample_kernel(seeded(seed))
            assert kernel.shape[0] == kernel.shape[1]
            assert kernel.shape[0] % 2 == 1
            assert kernel.shape[0] // 2 <= blur.margin
            assert kernel.min() >= 0
            assert kernel.sum().item() == pytest.approx(1, abs=1e-12)

    def test_kernels_do_not_shift_the_image(self, blur: MotionBlur | DefocusBlur) -> None:
        for seed in range(50):
            kernel = blur.sample_kernel(seeded(seed))
            offsets = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
            assert abs((kernel.sum(1) * offsets).sum()) < 0.05
            assert abs((kernel.sum(0) * offsets).sum()) < 0.05

    def test_a_horizontal_line_has_its_length_and_is_uniform(self) -> None:
        kernel = MotionBlur("linear", length=10, angle=0).sample_kernel(seeded(0))
        row = kernel[kernel.shape[0] // 2]
        assert row.sum().item() == pytest.approx(1, abs=1e-6)
        inner = row[row.shape[0] // 2 - 3 : row.shape[0] // 2 + 4]
        assert torch.allclose(inner, torch.full_like(inner, 0.1), atol=0.01)

    def test_a_vertical_line_is_the_transposed_horizontal_one(self) -> None:
        horizontal = MotionBlur("linear", length=9, angle=0).sample_kernel(seeded(0))
        vertical = MotionBlur("linear", length=9, angle=90).sample_kernel(seeded(0))
        assert torch.allclose(vertical, horizontal.T, atol=1e-6)

    def test_a_shake_turns_and_a_line_does_not(self) -> None:
        def thickness(kernel: torch.Tensor) -> float:
            rows, columns = kernel.nonzero().double().T
            weights = kernel[kernel > 0]
            covariance = np.cov(np.stack([rows, columns]), aweights=weights)
            return float(np.linalg.eigvalsh(covariance)[0])

        shakes = [thickness(MotionBlur("shake", length=25).sample_kernel(seeded(s))) for s in range(40)]
        lines = [thickness(MotionBlur("linear", length=25).sample_kernel(seeded(s))) for s in range(40)]
        assert max(lines) < 0.5
        assert np.median(shakes) > 3 * max(lines)

    def test_the_disk_has_the_area_and_the_roundness_of_its_radius(self) -> None:
        kernel = DefocusBlur(5).sample_kernel(seeded(0))
        assert torch.equal(kernel, kernel.T)
        assert torch.equal(kernel, kernel.flip(0))
        assert 1 / kernel.max().item() == pytest.approx(np.pi * 25, rel=0.03)
        offsets = torch.arange(-5, 6, dtype=torch.float64)
        spread = (kernel.sum(0) * offsets**2).sum().item()  # r^2 / 4 for a uniform disk
        assert spread == pytest.approx(25 / 4, rel=0.05)

    def test_without_extent_the_image_is_unchanged(self) -> None:
        image = torch.rand(3, 12, 15, generator=seeded(0))
        assert torch.allclose(MotionBlur("linear", length=0)(image, seeded(0)), image, atol=1e-6)
        assert torch.allclose(DefocusBlur(0)(image, seeded(0)), image, atol=1e-6)


class TestBlur:
    def test_it_is_the_convolution_of_linear_light_with_the_kernel(self) -> None:
        image = torch.rand(3, 40, 50, generator=seeded(0), dtype=torch.float64)
        for degradation in (MotionBlur(length=12, gamma=2.2), DefocusBlur(3.3, gamma=2.2)):
            kernel = degradation.sample_kernel(seeded(2))
            radius = kernel.shape[0] // 2
            light = pad(image[:, None] ** 2.2, [radius] * 4, mode="reflect")
            expected = conv2d(light, kernel.flip(0, 1)[None, None])[:, 0] ** (1 / 2.2)
            assert torch.allclose(degradation(image, seeded(2)), expected, atol=1e-10)

    def test_the_mean_of_linear_light_is_kept(self, blur: MotionBlur | DefocusBlur) -> None:
        image = torch.zeros(1, 101, 101)
        image[0, 40:60, 40:60] = torch.rand(20, 20, generator=seeded(1))
        before = (image.double() ** 2.2).sum()
        after = (blur(image, seeded(1)).double() ** 2.2).sum()
        assert after.item() == pytest.approx(before.item(), rel=1e-5)

    def test_flat_and_black_images_stay_so(self, blur: MotionBlur | DefocusBlur) -> None:
        for level in (0.0, 0.4, 1.0):
            image = torch.full((3, 30, 30), level)
            assert torch.allclose(blur(image, seeded(0)), image, atol=1e-6)

    def test_blur_removes_detail(self, blur: MotionBlur | DefocusBlur) -> None:
        image = torch.rand(1, 64, 64, generator=seeded(0))
        assert blur(image, seeded(3)).std() < 0.8 * image.std()

    def test_bad_settings_are_named(self) -> None:
        with pytest.raises(ValueError, match="path must be one of linear, shake, got 'zigzag'"):
            MotionBlur("zigzag")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"radius must be .* got -1"):
            DefocusBlur(-1)
