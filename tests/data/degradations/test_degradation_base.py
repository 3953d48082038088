from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch

from clusir_modules.data import (
    TASK_DEGRADATIONS,
    DefocusBlur,
    Degradation,
    GaussianNoise,
    Haze,
    LogUniform,
    Mixture,
    MotionBlur,
    RainStreaks,
)
from clusir_modules.data.degradations._base import draw

EVERY = {**TASK_DEGRADATIONS, "mixture": Mixture([TASK_DEGRADATIONS["low_light"], Haze(), RainStreaks()])}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=seeded(seed))


@pytest.fixture(params=sorted(EVERY))
def degradation(request: pytest.FixtureRequest) -> Degradation:
    return EVERY[request.param]


class TestDegradation:
    @pytest.mark.parametrize("size", [(1, 1), (1, 17), (9, 2), (33, 47)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_any_size_keeps_its_shape_and_stays_in_range(
        self, degradation: Degradation, channels: int, size: tuple[int, int]
    ) -> None:
        for seed in range(5):
            result = degradation(picture(channels, *size), seeded(seed))
            assert result.shape == (channels, *size)
            assert result.dtype == torch.float32
            assert 0 <= result.min()
            assert result.max() <= 1

    def test_the_layout_of_the_image_does_not_change_a_bit(self, degradation: Degradation) -> None:
        for seed in range(20):
            image = picture(3, 2 + seed, 3 + seed, seed)
            other = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
            assert torch.equal(degradation(image, seeded(seed)), degradation(other, seeded(seed)))

    def test_one_generator_state_gives_one_picture_and_another_gives_another(self, degradation: Degradation) -> None:
        image = picture(3, 40, 40)
        first = degradation(image, seeded(1))
        assert torch.equal(first, degradation(image, seeded(1)))
        assert not torch.equal(first, degradation(image, seeded(2)))

    def test_global_random_state_is_neither_read_nor_changed(self, degradation: Degradation) -> None:
        image = picture(3, 20, 20)
        torch.manual_seed(1)
        first = degradation(image, seeded(1))
        after = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(after, torch.rand(1))
        torch.manual_seed(2)
        assert torch.equal(first, degradation(image, seeded(1)))

    def test_the_argument_is_left_as_it_is(self, degradation: Degradation) -> None:
        image = picture(3, 24, 24)
        before = image.clone()
        degradation(image, seeded(0))
        assert torch.equal(image, before)

    def test_a_non_contiguous_image_gives_what_its_copy_gives(self, degradation: Degradation) -> None:
        image = picture(3, 24, 30).transpose(1, 2)
        assert torch.equal(degradation(image, seeded(0)), degradation(image.contiguous(), seeded(0)))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_type_of_the_image_is_kept(self, degradation: Degradation, dtype: torch.dtype) -> None:
        result = degradation(picture(3, 12, 12).to(dtype), seeded(0))
        assert result.dtype == dtype
        assert torch.isfinite(result).all()

    def test_it_survives_pickling_and_copying(self, degradation: Degradation) -> None:
        image = picture(3, 16, 16)
        for twin in (pickle.loads(pickle.dumps(degradation)), copy.deepcopy(degradation)):
            assert twin == degradation
            assert torch.equal(twin(image, seeded(3)), degradation(image, seeded(3)))

    def test_the_margin_bounds_what_a_pixel_depends_on(self) -> None:
        for degradation in (TASK_DEGRADATIONS["motion_blur"], TASK_DEGRADATIONS["defocus_blur"]):
            margin = degradation.margin
            changed = picture(1, 4 * margin + 9, 4 * margin + 9)
            center = changed.shape[1] // 2
            for seed in range(10):
                before = degradation(changed, seeded(seed))
                other = changed.clone()
                other[:, : center - margin] = 0
                other[:, center + margin + 1 :] = 0
                other[:, :, : center - margin] = 0
                other[:, :, center + margin + 1 :] = 0
                after = degradation(other, seeded(seed))
                assert torch.equal(before[:, center, center], after[:, center, center])

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            GaussianNoise().sigma = 3  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("image", "generator", "error", "message"),
        [
            ([[0.0]], seeded(0), TypeError, "image must be a torch.Tensor, got list"),
            (torch.zeros(3, 4, 4, dtype=torch.uint8), seeded(0), TypeError, "floating-point .* got torch.uint8"),
            (torch.zeros(1, 3, 4, 4), seeded(0), ValueError, r"\(3, H, W\) or \(1, H, W\), got \(1, 3, 4, 4\)"),
            (torch.zeros(2, 4, 4), seeded(0), ValueError, r"got \(2, 4, 4\)"),
            (torch.zeros(3, 0, 4), seeded(0), ValueError, r"got \(3, 0, 4\)"),
            (torch.zeros(3, 4, 4), 7, TypeError, "generator must be a torch.Generator, got int"),
        ],
    )
    def test_wrong_arguments_are_named(
        self, image: object, generator: object, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            GaussianNoise()(image, generator)  # type: ignore[arg-type]


class TestRanges:
    def test_a_list_as_from_yaml_is_stored_as_a_tuple(self) -> None:
        assert Haze([0.5, 1.0]) == Haze((0.5, 1.0))
        assert hash(Haze([0.5, 1.0])) == hash(Haze((0.5, 1.0)))

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ((1.0, 0.5), ValueError),
            ((0.5, 1.0, 2.0), ValueError),
            (-0.1, ValueError),
            (float("nan"), ValueError),
            (float("inf"), ValueError),
            ("heavy", TypeError),
            (True, TypeError),
            ((0.5, None), TypeError),
        ],
    )
    def test_a_bad_range_is_named_with_what_was_given(self, value: object, error: type[Exception]) -> None:
        with pytest.raises(error, match=r"beta must be a number or .*pair.*got"):
            Haze(value)  # type: ignore[arg-type]

    def test_a_logarithmic_range_is_as_likely_in_each_decade(self) -> None:
        drawn = [draw(LogUniform(1e-3, 1.0), seeded(s)) for s in range(600)]
        assert 1e-3 <= min(drawn) < 1.2e-3
        assert 0.85 < max(drawn) <= 1
        for decade in range(3):
            count = sum(10.0 ** (decade - 3) <= value < 10.0 ** (decade - 2) for value in drawn)
            assert abs(count - 200) < 4 * (600 * 2 / 9) ** 0.5

    def test_option_files_name_it(self) -> None:
        haze = Haze({"log_uniform": [0.5, 2]})  # type: ignore[arg-type]
        assert haze == Haze(LogUniform(0.5, 2))
        assert haze.beta == LogUniform(0.5, 2)
        assert hash(haze) == hash(Haze(LogUniform(0.5, 2)))

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (LogUniform(0, 1), ValueError),
            (LogUniform(2, 1), ValueError),
            (LogUniform(1, 30), ValueError),
            (LogUniform("a", 1), TypeError),  # type: ignore[arg-type]
            ({"log_uniform": [0.1]}, ValueError),
            ({"log_uniform": "wide"}, TypeError),
            ({"uniform": [0.1, 1]}, TypeError),
        ],
    )
    def test_a_bad_logarithmic_range_is_named(self, value: object, error: type[Exception]) -> None:
        with pytest.raises(error, match=r"beta must be .*pair.* plain or log_uniform.*got"):
            Haze(value)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("value", "error"), [((0.1, 0.2), TypeError), ("1", TypeError), (True, TypeError), (9.0, ValueError)]
    )
    def test_a_setting_that_is_one_number_may_be_no_range(self, value: object, error: type[Exception]) -> None:
        for degradation, name in ((Haze, "tint"), (MotionBlur, "gamma"), (DefocusBlur, "gamma")):
            with pytest.raises(error, match=f"{name} must be a number"):
                degradation(**{name: value})  # type: ignore[arg-type]

    def test_draws_fill_the_range(self) -> None:
        lengths = [MotionBlur("linear", length=(5, 15), angle=0).sample_kernel(seeded(s)) for s in range(200)]
        spans = torch.tensor([float((kernel.sum(0) > 0).sum()) for kernel in lengths])
        assert spans.min() <= 7.5
        assert spans.max() >= 14.5
