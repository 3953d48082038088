from __future__ import annotations

import pytest
import torch

from clusir_modules.data import DefocusBlur, Haze, LowLight, Mixture, MotionBlur, RainStreaks


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
