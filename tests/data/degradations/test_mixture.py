from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clusir_modules.data import DefocusBlur, Degradation, Haze, LowLight, Mixture, MotionBlur, OneOf, RainStreaks

COUNT = 600


@dataclass(frozen=True)
class Affine(Degradation):
    factor: float = 1.0
    shift: float = 0.0

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return image * self.factor + self.shift

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images * self.factor + self.shift


def shares(degradation: Degradation) -> list[dict[float, float]]:
    """How often each gray comes out of black, from single images and from a batch."""
    black, generator = torch.zeros(COUNT, 1, 2, 2, dtype=torch.float64), seeded(0)
    found = []
    for results in (
        torch.stack([degradation(image, generator) for image in black]),
        degradation.degrade_batch(black, generator),
    ):
        assert torch.equal(results, results[:, :, :1, :1].expand_as(results))
        values, counts = results[:, 0, 0, 0].unique(return_counts=True)
        found.append({round(value, 6): count / COUNT for value, count in zip(values.tolist(), counts.tolist())})
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMixture:
    def test_it_equals_the_steps_applied_by_hand_in_order(self) -> None:
        image = torch.rand(3, 32, 32, generator=seeded(0))
        low, haze, rain = LowLight(), Haze(), RainStreaks()
        generator = seeded(1)
        expected = rain(haze(low(image, generator), generator), generator)
        assert torch.equal(Mixture([low, haze, rain])(image, seeded(1)), expected)
        assert not torch.allclose(Mixture([rain, haze, low])(image, seeded(1)), expected, atol=0.01)

    def test_margins_add_up(self) -> None:
        steps = [MotionBlur("linear", length=10), DefocusBlur(3)]
        assert Mixture(steps).margin == sum(step.margin for step in steps) == 6 + 3

    def test_no_steps_or_other_things_are_refused(self) -> None:
        with pytest.raises(ValueError, match="steps must hold at least one degradation"):
            Mixture([])
        with pytest.raises(TypeError, match="Degradation instances, got str"):
            Mixture(["haze"])  # type: ignore[list-item]

    def test_each_image_has_an_order_of_its_own_if_shuffled(self) -> None:
        steps = [Affine(0.5), Affine(1, 0.1), Affine(0.2, 0.3)]
        orders = (0.32, 0.4, 0.31, 0.16, 0.25, 0.2)  # what each makes of black
        for found in shares(Mixture(steps, shuffle=True)):
            assert found == pytest.approx(dict.fromkeys(orders, 1 / 6), abs=0.07)
        assert shares(Mixture(steps)) == [{0.32: 1.0}] * 2
        with pytest.raises(TypeError, match="shuffle must be a bool, got 1"):
            Mixture(steps, shuffle=1)  # type: ignore[arg-type]


class TestOneOf:
    def test_each_step_is_as_likely_as_it_is_said_to_be(self) -> None:
        steps = [Affine(1, 0.25), Affine(1, 0.5), Affine(1, 0.75)]
        for found in shares(OneOf(steps, probabilities=[0.5, 0, 0.2])):
            assert found == pytest.approx({0: 0.3, 0.25: 0.5, 0.75: 0.2}, abs=0.08)
        for found in shares(OneOf(steps)):
            assert found == pytest.approx({0.25: 1 / 3, 0.5: 1 / 3, 0.75: 1 / 3}, abs=0.08)

    def test_the_margin_is_the_largest(self) -> None:
        assert OneOf([DefocusBlur(3), DefocusBlur(5), Haze()]).margin == 5

    def test_an_image_that_stays_as_it_is_is_a_copy(self) -> None:
        image = torch.rand(3, 4, 4)
        result = OneOf([Haze()], probabilities=[0])(image, seeded(0))
        assert torch.equal(result, image)
        assert result.data_ptr() != image.data_ptr()

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"steps": []}, ValueError, "at least one degradation, got none"),
            ({"steps": "haze"}, TypeError, "steps must be a sequence of degradations, got 'haze'"),
            ({"probabilities": [0.5, 0.5]}, ValueError, r"probabilities must be 1 numbers.*got \[0.5, 0.5\]"),
            ({"probabilities": [1.2]}, ValueError, "with a sum of at most 1"),
            ({"probabilities": [-0.2]}, ValueError, "of at least 0"),
            ({"probabilities": 0.5}, TypeError, "probabilities must be a sequence of numbers, got 0.5"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, object], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            OneOf(**{"steps": [Haze()], **settings})  # type: ignore[arg-type]
