from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clusir_modules.data import Degradation, Resize
from clusir_modules.data.degradations.resize import _weights

MODES = ("area", "bilinear", "bicubic")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_torch(image: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    corners = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(image[None], size=size, mode=mode, **corners)[0]


@dataclass(frozen=True)
class Watch(Degradation):
    sizes: list[tuple[int, ...]] = field(default_factory=list)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        self.sizes.append(tuple(image.shape))
        return 1 - image


class TestResize:
    @pytest.mark.parametrize("mode", MODES)
    def test_weights_are_those_of_torch_on_part_of_a_canvas(self, mode: str) -> None:
        sizes = torch.tensor([[7, 3], [3, 7], [5, 5], [1, 4], [9, 1], [9, 4], [2, 9]])
        old, new = sizes.split(1, 1)
        kind = torch.full((len(sizes), 1, 1), MODES.index(mode), dtype=torch.float64)
        weights = _weights(old, 10, new, 12, kind)
        for (before, after), found in zip(sizes.tolist(), weights):
            samples = torch.eye(before, dtype=torch.float64)[:, :, None]
            expected = by_torch(samples, (after, 1), mode)[:, :, 0].T
            assert torch.allclose(found[:after, :before], expected, atol=1e-6)
            assert (found[:, before:] == 0).all()
            assert torch.equal(found[after:], found[after - 1 : after].expand(12 - after, -1))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("scale", [0.3, 0.77, 1, 1.6])
    def test_images_alone_and_in_a_batch_are_interpolated_there_and_back(self, mode: str, scale: float) -> None:
        for height, width in ((33, 47), (5, 3), (1, 1)):
            images = torch.rand(2, 3, height, width, generator=seeded(0), dtype=torch.float64)
            small = [max(1, round(length * scale)) for length in (height, width)]
            there = torch.stack([by_torch(image, tuple(small), mode).clamp(0, 1) for image in images])
            expected = torch.stack([by_torch(image, (height, width), mode).clamp(0, 1) for image in there])
            alone = torch.stack([Resize(scale, modes=mode)(image, seeded(1)) for image in images])
            assert torch.equal(alone, expected)
            together = Resize(scale, modes=mode).degrade_batch(images, seeded(1))
            assert torch.allclose(together, expected, atol=1e-9)

    def test_steps_work_at_the_other_size(self) -> None:
        watch = Watch()
        image = torch.rand(3, 40, 30, generator=seeded(0))
        result = Resize(0.5, modes="area", steps=[watch])(image, seeded(0))
        assert watch.sizes == [(3, 20, 15)]
        assert torch.allclose(result, 1 - Resize(0.5, modes="area")(image, seeded(0)))
        batch = Resize(0.5, modes="area", steps=[watch]).degrade_batch(image[None], seeded(0))
        assert watch.sizes[1:] == [(3, 20, 15)]
        assert torch.allclose(batch[0], result, atol=1e-6)

    def test_what_a_step_does_beyond_a_small_image_is_not_seen(self) -> None:
        """In a batch the smaller images are continued by their last pixels, and cut out again."""
        degradation = Resize((0.2, 1.0), modes="bicubic", steps=[Watch()])
        rows = torch.rand(30, 1, 24, 1, generator=seeded(0)).expand(-1, -1, -1, 24)
        found = degradation.degrade_batch(rows, seeded(1))
        assert torch.allclose(found, found[..., :1].expand_as(found), atol=1e-5)
        constant = degradation.degrade_batch(torch.full((30, 1, 9, 24), 0.3), seeded(1))
        assert torch.allclose(constant, torch.tensor(0.7), atol=1e-5)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"scale": 0.01}, ValueError, r"scale must be .*within \[0.05, 4\], got 0.01"),
            ({"modes": []}, ValueError, "modes must be one or several of area, bilinear, bicubic, got"),
            ({"modes": ["area", "cubic"]}, ValueError, "modes must be one of area, bicubic, bilinear, got 'cubic'"),
            ({"steps": ["jpeg"]}, TypeError, "steps must be Degradation instances, got str"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, object], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Resize(**settings)  # type: ignore[arg-type]
