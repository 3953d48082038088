"""Degrading a batch: as random as single images, on any device, without waiting for it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clusir_modules.data import (
    JPEG,
    TASK_DEGRADATIONS,
    CameraNoise,
    DefocusBlur,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Haze,
    LogUniform,
    LowLight,
    Mixture,
    MotionBlur,
    OneOf,
    Raindrops,
    RainStreaks,
    RawNoise,
    Resize,
    SincFilter,
    Snow,
)
from clusir_modules.data.degradations import _particle_batch
from clusir_modules.data.degradations._filter import blur, blur_batch
from clusir_modules.data.degradations._particle_batch import Layer, transmittance_batch
from clusir_modules.data.degradations._particles import Particles, transmittance

EVERY = {
    **TASK_DEGRADATIONS,
    "several noise levels": GaussianNoise([5, 15, 50], quantize=False),
    "noise between": GaussianNoise((0, 55), between=True),
    "linear blur": MotionBlur("linear"),
    "long Gaussian": GaussianBlur((0.5, 4.0), isotropic=False),
    "generalized Gaussian": GaussianBlur(profile="generalized", gamma=2.2),
    "long plateau": GaussianBlur((1.0, 3.0), profile="plateau", isotropic=False, angle=(20, 70)),
    "storm": RainStreaks(LogUniform(3, 20), opacity=(0.4, 0.9), directions=(1, 4)),
    "objects in haze": Haze((0.6, 4.0), scene_size=48, objects=0.9),
    "night": LowLight(LogUniform(0.03, 0.3), cast=0.15),
    "chain": Mixture(
        [
            OneOf([DefocusBlur((1, 2)), RawNoise()], probabilities=[0.5, 0.3]),
            Resize((0.4, 1.3), steps=[GaussianNoise((5, 30), between=True)]),
            JPEG((30, 90)),
        ],
        shuffle=True,
    ),
}
# The same with one setting changed by about a quarter of its range: differences that the statistics must find.
ALTERED = {
    "noise": GaussianNoise(26),
    "camera_noise": CameraNoise(LogUniform(2e-4, 1.2e-2), mosaic=0.3),
    "raw_noise": RawNoise(LogUniform(1e-4, 4e-3)),
    "rain": RainStreaks((1.0, 3.6)),
    "raindrops": Raindrops(radius=(3, 8)),
    "haze": Haze((0.8, 1.8)),
    "motion_blur": MotionBlur(length=(8, 22)),
    "defocus_blur": DefocusBlur((1.5, 4.2)),
    "gaussian_blur": GaussianBlur((0.2, 2.3)),
    "sinc_filter": SincFilter((0.25, 0.5)),
    "low_light": LowLight((0.1, 0.3)),
    "jpeg": JPEG((10, 32)),
    "jpeg_twice": Mixture([JPEG(), JPEG()]),
    "resize": Resize(LogUniform(0.35, 1.0)),
    "snow": Snow((0.5, 2.0)),
    "several noise levels": GaussianNoise([5, 18, 50], quantize=False),
    "noise between": GaussianNoise((0, 45), between=True),
    "linear blur": MotionBlur("linear", length=(8, 22)),
    "long Gaussian": GaussianBlur((0.5, 3.0), isotropic=False),
    "generalized Gaussian": GaussianBlur(profile="generalized", beta=(0.5, 1.0), gamma=2.2),
    "long plateau": GaussianBlur((1.0, 3.0), profile="plateau", isotropic=False, angle=(-25, 25)),
    "storm": RainStreaks((3, 20), opacity=(0.4, 0.9), directions=(1, 4)),
    "objects in haze": Haze((0.6, 4.0), scene_size=48, objects=0.1),
    "night": LowLight(LogUniform(0.03, 0.3), cast=0.0),
    "chain": Mixture(EVERY["chain"].steps),
}
SAMPLES = 512
SIDE = 32


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = SIDE, width: int = SIDE, *, channels: int = 3, seed: int = 0) -> Tensor:
    """Coarse, fine and sharp structure: waves of three sizes and a step."""
    draw = seeded(seed)
    result = torch.rand(count, channels, 1, 1, generator=draw) * 0.5
    for cells, share in ((2, 0.3), (5, 0.15), (12, 0.1)):
        waves = torch.rand(count, channels, cells, cells, generator=draw)
        result = result + share * F.interpolate(waves, (height, width), mode="bicubic", align_corners=True)
    step = torch.rand(count, 1, 1, 1, generator=draw) * width
    return (result + 0.2 * (torch.arange(width) > step)).clamp(0, 1)


@pytest.fixture(params=EVERY)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def features(clean: Tensor, degraded: Tensor) -> Tensor:
    """What each sample changed, ``(features, N)``: moments, histogram, differences in four directions, spectrum."""
    change = degraded - clean
    flat, levels = change.flatten(1), change.mean((2, 3))
    found = [flat.mean(1), flat.std(1), flat.amin(1), flat.amax(1), (flat**3).mean(1)]
    found += [*levels.T, levels[:, 0] - levels[:, -1], (change[:, 0] * change[:, -1]).mean((1, 2))]
    found += [degraded[:, 0].mean((1, 2)) / degraded.mean((1, 2, 3))]
    found += [(flat < level).float().mean(1) for level in (-0.2, -0.05, -0.01, 0.01, 0.05, 0.2)]
    across, down = change.diff(dim=3), change.diff(dim=2)
    falling, rising = change[:, :, 1:, 1:] - change[:, :, :-1, :-1], change[:, :, 1:, :-1] - change[:, :, :-1, 1:]
    energies = [difference.square().mean((1, 2, 3)) for difference in (across, down, falling, rising)]
    found += [*energies, across.abs().amax((1, 2, 3)), down.abs().amax((1, 2, 3))]
    found += [(a - b) / (a + b).clamp_min(1e-12) for a, b in (energies[:2], energies[2:])]
    found += [change[..., :4, :4].square().mean((1, 2, 3)), change[..., 14:18, 14:18].square().mean((1, 2, 3))]
    power = torch.fft.rfft2(change.mean(1), norm="ortho").abs().square()
    frequency = torch.hypot(torch.fft.fftfreq(change.shape[2])[:, None], torch.fft.rfftfreq(change.shape[3]))
    ends = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 0.8)
    found += [power[:, (frequency >= low) & (frequency < high)].mean(1) for low, high in itertools.pairwise(ends)]
    return torch.stack(found)


def distance(first: Tensor, second: Tensor) -> float:
    """Largest Kolmogorov-Smirnov distance between two samples ``(features, N)`` of equal size.

    Values that differ by less than a fiftieth of the spread count as equal: JPEG has few different results.
    """
    both = torch.cat([first, second], 1)
    both = (both / both.std(1, keepdim=True).clamp_min(1e-12) * 50).round()
    order = both.argsort(dim=1, stable=True)
    steps = torch.where(order < first.shape[1], 1.0, -1.0).cumsum(1) / first.shape[1]
    ordered = both.gather(1, order)
    last_of_its_value = torch.cat([ordered.diff(dim=1) > 0, torch.ones(len(both), 1, dtype=torch.bool)], 1)
    return (steps.abs() * last_of_its_value).max().item()


def clean_samples(name: str) -> Tensor:
    """One picture again and again, so that only the degradation makes the samples differ.

    For JPEG many: a rounding that falls out the other way than in Pillow moves a whole quality of one picture.
    """
    return pictures(SAMPLES) if name.startswith("jpeg") else pictures(1).expand(SAMPLES, -1, -1, -1)


class Reference:
    """Single images degraded with one seed, and how far two seeds of the same degradation are apart."""

    def __init__(self, name: str) -> None:
        clean, samples = clean_samples(name), []
        for generator in (seeded(1), seeded(2)):
            samples.append(features(clean, torch.stack([EVERY[name](image, generator) for image in clean])))
        both, shuffle = torch.cat(samples, 1), seeded(3)
        apart = []
        for _ in range(200):  # any other division of the two samples into two
            mixed = both[:, torch.randperm(2 * SAMPLES, generator=shuffle)]
            apart.append(distance(mixed[:, :SAMPLES], mixed[:, SAMPLES:]))
        self.sample = samples[0]
        self.threshold = 1.1 * max(apart)


@pytest.mark.slow
class TestDistribution:
    def test_a_batch_is_distributed_as_single_images_are(self, name: str) -> None:
        """And a degradation with another setting is not, so the comparison can tell."""
        reference, clean = Reference(name), clean_samples(name)
        batch = features(clean, EVERY[name].degrade_batch(clean, seeded(4)))
        assert distance(reference.sample, batch) < reference.threshold
        other = features(clean, ALTERED[name].degrade_batch(clean, seeded(4)))
        assert distance(reference.sample, other) > reference.threshold

    def test_gray_images_are_distributed_alike_too(self) -> None:
        clean = pictures(1, channels=1).expand(SAMPLES, -1, -1, -1)
        for degradation, other in ((Haze(), Haze((0.8, 1.8))), (LowLight(), LowLight((0.1, 0.3)))):
            generator = seeded(1)
            single = features(clean, torch.stack([degradation(image, generator) for image in clean]))
            batch, altered = (features(clean, d.degrade_batch(clean, seeded(4))) for d in (degradation, other))
            assert distance(single, batch) < 0.75 * distance(single, altered)

    def test_each_image_gets_settings_of_its_own(self, name: str) -> None:
        clean = pictures(1).expand(6, -1, -1, -1)
        degraded = EVERY[name].degrade_batch(clean, seeded(0))
        pairs = [(a, b) for a in range(6) for b in range(a)]
        equal = sum(torch.equal(degraded[a], degraded[b]) for a, b in pairs)
        assert equal <= (1 if name == "jpeg" else 0)  # 31 qualities


class TestArithmetic:
    """What is drawn aside, a batch is computed as single images are."""

    @pytest.mark.parametrize("quality", [5, 30, 50, 85, 100])
    @pytest.mark.parametrize("size", [(64, 64), (37, 53), (9, 5), (20, 3), (1, 1)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_jpeg_is_that_of_pillow(self, quality: int, size: tuple[int, int], channels: int) -> None:
        clean = pictures(12, *size, channels=channels)
        expected = torch.stack([JPEG(quality)(image, seeded(0)) for image in clean])
        levels = 255 * JPEG(quality).degrade_batch(clean, seeded(0))
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        error = (levels - 255 * expected).abs()
        # A coefficient halfway between two multiples may be rounded the other way, and then a block differs a little.
        small = clean.shape[-1] < 10  # a block or two
        assert error.mean() < (0.8 if small else 0.3)
        assert (error > 3).float().mean() < (0.1 if small else 0.02)

    @pytest.mark.parametrize("gamma", [1.0, 2.2])
    @pytest.mark.parametrize("size", [(40, 31), (12, 9)])
    def test_blur_is_the_direct_sum(self, gamma: float, size: tuple[int, int]) -> None:
        clean = pictures(3, *size).double()
        kernels = [degradation.sample_kernel(seeded(2)) for degradation in (MotionBlur(length=6), DefocusBlur(3.3))]
        kernels.append(torch.ones(1, 1, dtype=torch.float64))
        radius = max(len(kernel) // 2 for kernel in kernels)
        assert radius < 9
        padded = torch.stack([F.pad(kernel, [radius - len(kernel) // 2] * 4) for kernel in kernels])
        blurred = blur_batch(clean, padded, gamma)
        for image, kernel, result in zip(clean, kernels, blurred):
            assert torch.allclose(result, blur(image, kernel, gamma), atol=1e-7)
        single = blur_batch(clean.float(), padded.float(), gamma)
        assert torch.allclose(single.double() ** gamma, blurred**gamma, atol=2e-6)

    @pytest.mark.parametrize(("softness", "fade"), [(1.0, 0.8), (0.8, 0.0)])
    @pytest.mark.parametrize("at_once", [1 << 22, 700])
    def test_particles_absorb_what_they_absorb_alone(
        self, softness: float, fade: float, at_once: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_particle_batch, "_PIXELS_AT_ONCE", at_once)
        ranges = {"x": (-9, 49), "y": (-9, 39), "length": (0, 12), "radius": (0.2, 2), "angle": (-0.7, 0.7)}
        draw = seeded(0)
        fields = {
            name: low + (high - low) * torch.rand(2, 60, generator=draw).double()
            for name, (low, high) in ranges.items()
        }
        particles = Particles(**fields, opacity=torch.rand(2, 60, generator=draw).double())
        images = torch.zeros(2, 3, 30, 40, dtype=torch.float64)
        layers = [
            Layer(scale=1, number=1, strength=1, per_kilopixel=(count - 0.5) / 2.2, length=12, radius=2, angle=0.7)
            for count in (7, 7)
        ]
        counts = [layer.most(images) for layer in layers]
        some = Particles(**{name: value[:, : sum(counts)] for name, value in vars(particles).items()})
        found = transmittance_batch(images, some, layers, softness=softness, fade=fade)
        for number in range(2):
            own = Particles(**{name: value[number] for name, value in vars(some).items()})
            expected = transmittance(30, 40, own, softness=softness, fade=fade)
            assert torch.allclose(found[number, 0], expected, atol=1e-8)

    def test_without_extent_or_strength_nothing_changes(self) -> None:
        clean = pictures(2)
        for degradation in (
            GaussianNoise(0),
            CameraNoise(0.0, read_noise=0.0),
            RainStreaks(0, veil=0),
            Haze(0),
            MotionBlur("linear", length=0),
            DefocusBlur(0),
            GaussianBlur(0),
            SincFilter(size=1),
            LowLight(1, gamma=1, shot_noise=0, read_noise=0),
            Snow(0, veil=0),
            RawNoise(0.0, mosaic=0),
            Raindrops(0),
            Resize(1),
        ):
            tolerance = 1 / 255 if isinstance(degradation, GaussianNoise) else 1e-3
            assert torch.allclose(degradation.degrade_batch(clean, seeded(0)), clean, atol=tolerance)


class NoWaiting(TorchDispatchMode):
    """Refuses operators whose result or whose shape the host would have to wait for, and counts the others."""

    REFUSED = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__.strip("_")
        assert not any(name.startswith(refused.strip("_")) for refused in self.REFUSED), name
        if name == "index":
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), "index by a mask"
        self.count += 1
        return function(*args, **(kwargs or {}))


class TestBatches:
    def test_nothing_waits_for_the_device_and_operators_are_as_many_for_any_batch(self, name: str) -> None:
        counts = []
        for size in (1, 7):
            with NoWaiting() as watch:
                EVERY[name].degrade_batch(pictures(size), seeded(0))
            counts.append(watch.count)
        assert counts[0] == counts[1]

    def test_the_watch_sees_what_waits(self) -> None:
        with pytest.raises(AssertionError, match="local_scalar_dense"), NoWaiting():
            GaussianNoise()(pictures(1)[0], seeded(0))
        with pytest.raises(AssertionError, match="nonzero"), NoWaiting():
            pictures(1).nonzero()
        with pytest.raises(AssertionError, match="mask"), NoWaiting():
            pictures(1)[pictures(1) > 0.5]

    @pytest.mark.parametrize("size", [(1, 1), (1, 17), (9, 2), (33, 47)])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_any_size_keeps_its_shape_and_stays_in_range(
        self, name: str, size: tuple[int, int], channels: int, count: int
    ) -> None:
        clean = pictures(count, *size, channels=channels)
        before = clean.clone()
        result = EVERY[name].degrade_batch(clean, seeded(1))
        assert result.shape == clean.shape
        assert result.dtype == torch.float32
        assert torch.equal(clean, before)
        if count and name != "several noise levels":
            assert 0 <= result.min()
            assert result.max() <= 1

    def test_one_generator_state_gives_one_batch_and_another_gives_another(self, name: str) -> None:
        clean = pictures(3)
        first = EVERY[name].degrade_batch(clean, seeded(1))
        strided = clean.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert torch.equal(first, EVERY[name].degrade_batch(strided, seeded(1)))
        assert not torch.equal(first, EVERY[name].degrade_batch(clean, seeded(2)))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_type_of_the_images_is_kept(self, name: str, dtype: torch.dtype) -> None:
        result = EVERY[name].degrade_batch(pictures(2).to(dtype), seeded(0))
        assert result.dtype == dtype
        assert torch.isfinite(result).all()

    def test_autocast_changes_no_bit(self, name: str) -> None:
        clean = pictures(2)
        with torch.autocast("cpu", torch.bfloat16):
            result = EVERY[name].degrade_batch(clean, seeded(0))
        assert torch.equal(result, EVERY[name].degrade_batch(clean, seeded(0)))

    def test_a_degradation_without_a_batched_form_takes_the_images_in_turn(self) -> None:
        class Shift(Degradation):
            def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
                return image + torch.rand((), generator=generator)

        clean, generator = pictures(3), seeded(0)
        expected = torch.stack([Shift()(image, generator) for image in clean])
        assert torch.equal(Shift().degrade_batch(clean, seeded(0)), expected)
        assert Shift().degrade_batch(clean[:0], seeded(0)).shape == (0, 3, SIDE, SIDE)
        mixture = Mixture([GaussianNoise(), Shift()])
        assert mixture.degrade_batch(clean, seeded(0)).shape == clean.shape

    def test_the_margin_bounds_what_a_pixel_depends_on(self) -> None:
        for degradation in (
            MotionBlur(length=9),
            DefocusBlur(4.0),
            GaussianBlur(2, size=9),
            SincFilter(size=11),
            RawNoise(1e-3),
            Raindrops(1, radius=(1, 4)),
            Resize(0.4, steps=[DefocusBlur(1)]),
            Resize(1.7),
        ):
            margin = degradation.margin
            side = 4 * margin + 9
            clean, center = pictures(4, side, side).double(), side // 2
            other = torch.zeros_like(clean)
            inside = slice(center - margin, center + margin + 1)
            other[..., inside, inside] = clean[..., inside, inside]
            before, after = (degradation.degrade_batch(x, seeded(0))[..., center, center] for x in (clean, other))
            assert torch.allclose(before, after, atol=1e-9)

    @pytest.mark.parametrize(
        ("images", "generator", "error", "message"),
        [
            ([[0.0]], seeded(0), TypeError, "images must be a torch.Tensor, got list"),
            (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), seeded(0), TypeError, "floating-point .* got torch.uint8"),
            (torch.zeros(3, 4, 4), seeded(0), ValueError, r"\(B, 3, H, W\) or \(B, 1, H, W\), got \(3, 4, 4\)"),
            (torch.zeros(2, 2, 4, 4), seeded(0), ValueError, r"got \(2, 2, 4, 4\)"),
            (torch.zeros(2, 3, 0, 4), seeded(0), ValueError, r"got \(2, 3, 0, 4\)"),
            (torch.zeros(1, 3, 4, 4), 7, TypeError, "generator must be a torch.Generator, got int"),
            (
                torch.zeros(1, 3, 4, 4, device="meta"),
                seeded(0),
                ValueError,
                "on the device of images, meta, got one on cpu",
            ),
        ],
    )
    def test_wrong_arguments_are_named(
        self, images: object, generator: object, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            GaussianNoise().degrade_batch(images, generator)  # type: ignore[arg-type]


# What EVERY holds inside of longer chains only.
ON_DEVICE = {
    **EVERY,
    "jpeg on a shifted grid": JPEG(shifted=True),
    "one of several": OneOf([GaussianBlur(3), SincFilter(0.2), RawNoise()], probabilities=[0.3, 0.3, 0.2]),
    "noise at another size": Resize((0.3, 1.4), steps=[RawNoise(), JPEG(shifted=True)]),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_DEVICE)
class TestDevice:
    def test_it_runs_there_without_waiting_and_is_distributed_alike(self, name: str) -> None:
        clean = clean_samples(name)
        generator = torch.Generator("cuda").manual_seed(0)
        on_device = clean.cuda()
        ON_DEVICE[name].degrade_batch(on_device, generator)  # plans of transforms, modules of kernels
        torch.cuda.set_sync_debug_mode("error")
        try:
            result = ON_DEVICE[name].degrade_batch(on_device, generator)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        reference = features(clean, ON_DEVICE[name].degrade_batch(clean, seeded(4)))
        assert distance(reference, features(clean, result.cpu())) < 0.2

    def test_equal_seeds_give_equal_bits(self, name: str) -> None:
        clean = pictures(8).cuda()
        first, second = (ON_DEVICE[name].degrade_batch(clean, torch.Generator("cuda").manual_seed(3)) for _ in range(2))
        assert torch.equal(first, second)
