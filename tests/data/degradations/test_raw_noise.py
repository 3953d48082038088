from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clusir_modules.data import RawNoise
from clusir_modules.data.degradations import raw_noise
from clusir_modules.data.degradations._bayer import demosaic, draw_mosaic

# Malvar, He and Cutler, ICASSP 2004, figure 2, times 8.
GREEN = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
BESIDE = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
CORNERS = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(display: Tensor) -> Tensor:
    """Linear light of display values: the inverse of gamma 2.2 and of 3 z^2 - 2 z^3."""
    return (0.5 - torch.sin(torch.asin(1 - 2 * display) / 3)) ** 2.2


class TestRawNoise:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_without_noise_and_mosaic_the_picture_comes_back(self, channels: int) -> None:
        image = torch.rand(channels, 50, 60, generator=seeded(0), dtype=torch.float64)
        image[:, :2], image[:, 2:4] = 0, 1
        for seed in range(5):
            result = RawNoise(0, mosaic=0)(image, seeded(seed))
            assert torch.allclose(result, image, atol=1e-12)
            single = RawNoise(0, mosaic=0)(image.float(), seeded(seed))
            assert torch.allclose(single, image.float(), atol=3e-6)

    def test_without_noise_a_mosaic_takes_fine_structure_only(self) -> None:
        waves = torch.rand(20, 3, 6, 6, generator=seeded(0))
        images = 0.1 + 0.8 * F.interpolate(waves, (64, 64), mode="bicubic", align_corners=True).clamp(0, 1)
        fine = (images + 0.1 * torch.randn(images.shape, generator=seeded(1))).clamp(0, 1)
        smooth, rough = ((RawNoise(0).degrade_batch(x, seeded(2)) - x).square().mean() for x in (images, fine))
        assert -10 * smooth.log10() > 40
        assert -10 * rough.log10() < 30

    def test_moments_are_those_of_the_closed_form(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of one camera and small noise in linear light: covariance M^-1 diag(g^2 (s l / g + r^2)) M^-T, mean l."""
        monkeypatch.setattr(raw_noise, "_CAMERAS", raw_noise._CAMERAS[1:2])
        shot, read, gains = 2e-6, 1e-4, torch.tensor([2.1 * 1.2, 1.2, 1.6 * 1.2], dtype=torch.float64)
        degradation = RawNoise(shot, read_noise=read, gain=1.2, red_gain=2.1, blue_gain=1.6, mosaic=0)
        image = torch.full((3, 300, 300), 0.6, dtype=torch.float64)
        found = linear(degradation(image, seeded(0))).flatten(1)
        light = linear(image[0, 0, 0])
        camera, to_xyz = (
            torch.tensor(numbers, dtype=torch.float64).view(3, 3)
            for numbers in (raw_noise._CAMERAS[0], raw_noise._TO_XYZ)
        )
        matrix = camera @ to_xyz
        inverse = torch.linalg.inv(matrix / matrix.sum(1, keepdim=True))
        expected = inverse @ torch.diag(gains**2 * (shot * light / gains + read**2)) @ inverse.T
        assert torch.allclose(found.mean(1), light.expand(3), rtol=1e-4)
        assert torch.allclose(found.cov(), expected, rtol=0.03, atol=0.01 * expected.abs().max().item())

    def test_read_noise_follows_shot_noise_as_in_the_data_set(self) -> None:
        shot = torch.full((4000, 1, 1, 1), 1e-3, dtype=torch.float64)
        logarithm = RawNoise()._draw_read_variance(shot, seeded(0)).log()
        assert logarithm.mean().item() == pytest.approx(2.18 * math.log(1e-3) + 1.2, abs=4 * 0.26 / math.sqrt(4000))
        assert logarithm.std().item() == pytest.approx(0.26, rel=0.05)

    def test_a_mosaic_correlates_the_noise_of_neighbors(self) -> None:
        gray = torch.full((40, 3, 40, 40), 0.5)
        found = []
        for mosaic in (0, 0.4, 1):
            noise = RawNoise(1e-4, read_noise=0, mosaic=mosaic).degrade_batch(gray, seeded(0)) - 0.5
            found.append((noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / noise.var((1, 2, 3)) > 0.1)
        plain, some, all_of_them = (correlated.float().mean().item() for correlated in found)
        assert plain == 0
        assert some == pytest.approx(0.4, abs=4 * math.sqrt(0.24 / 40))
        assert all_of_them == 1

    def test_cameras_see_white_as_white_and_their_matrices_are_inverted(self) -> None:
        cameras = raw_noise._draw_camera(torch.zeros(50, 3, 1, 1, dtype=torch.float64), seeded(0))
        assert torch.allclose(cameras.sum(2), torch.ones(50, 3, dtype=torch.float64))
        assert torch.allclose(raw_noise._inverse(cameras), torch.linalg.inv(cameras))
        assert cameras.std(0).min() > 1e-3

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"shot_noise": 2}, r"shot_noise must be .*within \[0, 1\], got 2"),
            ({"read_noise": -1}, r"read_noise must be .*within \[0, 1\], got -1"),
            ({"red_gain": 0.5}, r"red_gain must be .*within \[1, 16\], got 0.5"),
            ({"mosaic": 1.5}, r"mosaic must be a number within \[0, 1\], got 1.5"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            RawNoise(**settings)  # type: ignore[arg-type]


class TestDemosaic:
    def test_it_is_the_convolution_with_the_published_tables(self) -> None:
        images = torch.randn(30, 3, 9, 10, generator=seeded(0), dtype=torch.float64)
        rows, columns = draw_mosaic(images, seeded(1))
        found = demosaic(images, rows, columns)
        cells = set()
        for image, result, row, column in zip(images, found, rows.flatten(1).long(), columns.flatten(1).long()):
            cells.add((int(row[0]), int(column[0])))
            colors = row[:, None] + column  # red 0, green 1, blue 2
            measured = image.gather(0, colors[None])
            tables = torch.tensor([GREEN, BESIDE, CORNERS], dtype=torch.float64)
            tables = torch.cat([tables, tables[1:2].mT])[:, None] / 8
            green, beside, corners, above = F.conv2d(measured[None], tables)[0]
            inside = colors[2:-2, 2:-2]
            red_row = (row == 0)[2:-2, None]
            near = {0: torch.where(red_row, beside, above), 2: torch.where(red_row, above, beside)}
            for color in (0, 2):
                expected = torch.where(inside == 1, near[color], corners)
                expected = torch.where(inside == color, measured[0, 2:-2, 2:-2], expected)
                assert torch.allclose(result[color, 2:-2, 2:-2], expected)
            expected = torch.where(inside == 1, measured[0, 2:-2, 2:-2], green)
            assert torch.allclose(result[1, 2:-2, 2:-2], expected)
        assert len(cells) == 4

    def test_colors_that_are_linear_in_the_place_come_out_as_they_are(self) -> None:
        slope, height, width = torch.randn(8, 3, 3, 1, 1, generator=seeded(0), dtype=torch.float64), 8, 11
        images = slope[:, 0] + slope[:, 1] * torch.arange(height)[:, None] + slope[:, 1] * torch.arange(width)
        found = demosaic(images, *draw_mosaic(images, seeded(1)))[..., 2:-2, 2:-2]
        assert torch.allclose(found, images[..., 2:-2, 2:-2])
