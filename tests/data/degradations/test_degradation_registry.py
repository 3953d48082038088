from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import yaml

from clusir_modules.data import (
    JPEG,
    TASK_DEGRADATIONS,
    DefocusBlur,
    Degradation,
    GaussianNoise,
    Haze,
    LowLight,
    Mixture,
    OneOf,
    RainStreaks,
    Resize,
    build_degradation,
    degradation_types,
    register_degradation,
)
from clusir_modules.data.degradations import registry


@dataclass(frozen=True)
class Negative(Degradation):
    strength: float = 1.0

    def _apply(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return image + self.strength * (1 - 2 * image)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.DEGRADATIONS, "_objects", dict(registry.DEGRADATIONS))
    return


class TestBuildDegradation:
    def test_a_mapping_from_yaml_becomes_an_instance(self) -> None:
        config = yaml.safe_load("{type: Haze, beta: [0.5, 1.5], tint: 0.0}")
        assert build_degradation(config) == Haze((0.5, 1.5), tint=0.0)

    def test_a_list_becomes_a_mixture_in_its_order(self) -> None:
        config = yaml.safe_load("[{type: LowLight, exposure: 0.3}, haze, {type: RainStreaks}]")
        assert build_degradation(config) == Mixture([LowLight(0.3), Haze(), RainStreaks()])

    def test_steps_are_built_too(self) -> None:
        config = yaml.safe_load("""
            - {type: OneOf, probabilities: [0.8], steps: [defocus_blur]}
            - {type: Resize, scale: [0.5, 1], steps: [{type: Mixture, shuffle: true, steps: [noise, jpeg]}]}
        """)
        inner = Mixture([GaussianNoise(), JPEG()], shuffle=True)
        expected = Mixture([OneOf([DefocusBlur()], probabilities=[0.8]), Resize((0.5, 1), steps=[inner])])
        assert build_degradation(config) == expected

    def test_the_given_mapping_is_not_changed(self) -> None:
        config = {"type": "GaussianNoise", "sigma": 15}
        assert build_degradation(config) == build_degradation(config) == GaussianNoise(15)

    def test_short_task_names_and_instances_are_taken(self) -> None:
        for name, degradation in TASK_DEGRADATIONS.items():
            assert build_degradation(name) is degradation
            assert build_degradation(degradation) is degradation

    def test_the_short_names_are_those_of_the_command_line(self) -> None:
        assert list(TASK_DEGRADATIONS) == [
            "noise",
            "camera_noise",
            "raw_noise",
            "rain",
            "raindrops",
            "haze",
            "motion_blur",
            "defocus_blur",
            "gaussian_blur",
            "sinc_filter",
            "low_light",
            "jpeg",
            "jpeg_twice",
            "resize",
            "snow",
        ]
        with pytest.raises(TypeError):
            TASK_DEGRADATIONS["fog"] = Haze()  # type: ignore[index]

    @pytest.mark.parametrize(
        ("config", "error", "message"),
        [
            ({"type": "RainStreak"}, ValueError, "unknown degradation type 'RainStreak'; did you mean 'RainStreaks'"),
            ({"type": "haze"}, ValueError, "did you mean 'Haze'"),
            ({"sigma": 25}, ValueError, "unknown degradation type None"),
            ({"type": "GaussianNoise", "sigmas": 1}, ValueError, "no argument 'sigmas'; did you mean 'sigma'"),
            ({"type": "GaussianNoise", "sigma": "x"}, TypeError, "sigma must be"),
            ("low_ligth", ValueError, "unknown task 'low_ligth'; did you mean 'low_light'"),
            (7, TypeError, "config must be a mapping"),
            ([], ValueError, "at least one degradation"),
            ({"type": "OneOf", "steps": ["jpg"]}, ValueError, "unknown task 'jpg'; did you mean 'jpeg'"),
            ({"type": "Resize", "steps": "jpeg"}, TypeError, "steps must be a sequence of degradations, got 'jpeg'"),
        ],
    )
    def test_mistakes_are_named_with_the_nearest_name(
        self, config: object, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            build_degradation(config)  # type: ignore[arg-type]


@pytest.mark.usefixtures("clean_registry")
class TestRegisterDegradation:
    def test_a_registered_class_can_be_built_by_name(self) -> None:
        assert register_degradation(Negative) is Negative
        assert register_degradation(Negative) is Negative
        assert "Negative" in degradation_types()
        image = torch.rand(3, 4, 4)
        result = build_degradation({"type": "Negative", "strength": 1})(image, torch.Generator())
        assert torch.allclose(result, 1 - image)

    def test_a_taken_name_or_another_class_is_refused(self) -> None:
        impostor = type("Haze", (Negative,), {})
        with pytest.raises(ValueError, match="a degradation type named 'Haze' exists already"):
            register_degradation(impostor)
        with pytest.raises(TypeError, match="must be a subclass of Degradation"):
            register_degradation(dict)  # type: ignore[arg-type]
