"""Frames drawn together where nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

import clusir_modules as cm
from clusir_modules.inference.temporal_blend import TemporalBlend


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8)


def clip(pan: int, frames: int = 8, side: int = 96) -> np.ndarray:
    picture = data.chelsea()
    return np.stack([picture[100 : 100 + side, 150 + pan * t : 150 + pan * t + side] for t in range(frames)])


def run(blend: TemporalBlend, frames: np.ndarray) -> np.ndarray:
    return np.stack([blend(frame) for frame in frames])


def flicker(frames: np.ndarray, clean: np.ndarray) -> float:
    """Mean absolute change between neighbors beyond that of the clean clip."""
    return float(np.abs(np.diff(frames.astype(float), axis=0) - np.diff(clean.astype(float), axis=0)).mean())


def error(frames: np.ndarray, clean: np.ndarray) -> float:
    return float(np.square(frames.astype(float) - clean).mean())


def test_the_first_frame_and_a_strength_of_zero_change_nothing() -> None:
    frames = noisy(clip(0), 5)
    np.testing.assert_array_equal(TemporalBlend(0.8)(frames[0]), frames[0])
    np.testing.assert_array_equal(run(TemporalBlend(0), frames), frames)


def test_a_still_scene_flickers_less_than_half_as_much_and_comes_nearer_to_the_clean_one() -> None:
    clean = clip(0)
    frames = noisy(clean, 5)
    blended = run(TemporalBlend(0.8), frames)
    assert flicker(blended, clean) < 0.5 * flicker(frames, clean)
    assert error(blended, clean) < 0.7 * error(frames, clean)


def test_a_scene_that_pans_is_not_smeared() -> None:
    clean = clip(6)
    frames = noisy(clean, 5)
    blended = run(TemporalBlend(0.8), frames)
    assert error(blended, clean) < 1.1 * error(frames, clean)
    assert flicker(blended, clean) < 1.05 * flicker(frames, clean)


def test_nothing_of_the_shot_before_a_cut_is_left() -> None:
    blend = TemporalBlend(0.9)
    blend(np.zeros((20, 30, 3), np.uint8))
    after = noisy(np.full((20, 30, 3), 120), 5)
    np.testing.assert_array_equal(blend(after), after)
    np.testing.assert_array_equal(blend(after[:10]), after[:10])  # another size


def test_the_mixture_of_two_frames_is_the_formula() -> None:
    blend = TemporalBlend(0.5)
    blend(np.full((9, 9, 3), 100, np.uint8))
    weight = 0.5 * np.exp(-((8 / 255 / 0.04) ** 2))
    np.testing.assert_array_equal(blend(np.full((9, 9, 3), 108, np.uint8)), round(108 - 8 * weight))


def test_it_goes_on_from_its_state() -> None:
    frames = noisy(clip(0), 5)
    whole = run(TemporalBlend(0.8), frames)
    first, second = TemporalBlend(0.8), TemporalBlend(0.8)
    run(first, frames[:3])
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(run(second, frames[3:]), whole[3:])


@pytest.mark.parametrize(
    ("strength", "kind"), [(1.0, ValueError), (-0.1, ValueError), (True, TypeError), ("1", TypeError)]
)
def test_a_wrong_strength_is_named(strength: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="temporal must be"):
        TemporalBlend(strength)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_shipped_network_flickers_half_as_much_on_a_still_scene_and_no_more_where_it_pans() -> None:
    net = cm.clusir_tiny(pretrained=True).eval()
    for pan, share, worse in ((0, 0.5, 0.9), (1, 1.0, 1.05)):
        clean = clip(pan, frames=5)
        alone = np.stack([cm.restore(net, frame, progress=False) for frame in noisy(clean, 25)])
        blended = run(TemporalBlend(0.8), alone)
        assert flicker(blended, clean) < share * flicker(alone, clean)
        assert error(blended, clean) < worse * error(alone, clean)


def test_the_state_is_the_frame_before() -> None:
    blend = TemporalBlend(0.5)
    assert blend.state_dict() == {}
    blend(np.zeros((4, 4, 3), np.uint8))
    assert torch.equal(blend.state_dict()["before"], torch.zeros(3, 4, 4))
