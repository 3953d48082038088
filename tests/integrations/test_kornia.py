"""Degradations in kornia's containers."""

from __future__ import annotations

import pytest
import torch

kornia = pytest.importorskip("kornia.augmentation", reason="the extra `kornia` is not installed")

from clusir_modules.data import GaussianNoise, Haze  # noqa: E402 - needs the package above
from clusir_modules.integrations.kornia import RandomDegradation  # noqa: E402 - needs the package above

CLEAN = torch.rand(5, 3, 16, 20, generator=torch.Generator().manual_seed(3))


def test_a_container_makes_pairs_that_are_cropped_alike():
    container = kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomCrop((8, 8)),
        RandomDegradation(GaussianNoise(25)),
        data_keys=["input", "mask"],
    )
    degraded, clean = container(CLEAN, CLEAN.clone())
    assert degraded.shape == clean.shape == (5, 3, 8, 8)
    assert 0.05 < (degraded - clean).std() < 0.15  # 25 / 255, clipped
    places = CLEAN.unfold(2, 8, 1).unfold(3, 8, 1)
    for crop, candidates in zip(clean, places, strict=True):
        wanted = torch.stack((crop, crop.flip(2)))[:, :, None, None]
        assert (candidates - wanted).abs().amax((1, 4, 5)).min() < 1e-5  # it is a piece of its own image
    again, _ = container(CLEAN, CLEAN.clone(), params=container._params)
    assert torch.equal(again, degraded)
    assert not torch.equal(container(CLEAN, CLEAN.clone())[0], degraded)


def test_each_image_is_what_its_seed_makes_of_it():
    degradation = Haze()
    augmentation = RandomDegradation(degradation, p=0.5)
    output = augmentation(CLEAN)
    chosen = augmentation._params["batch_prob"] > 0.5
    assert 0 < chosen.sum() < len(CLEAN)
    assert torch.equal(output[~chosen], CLEAN[~chosen])
    for image, made, seed in zip(
        CLEAN[chosen], output[chosen], augmentation._params["seed"][chosen].tolist(), strict=True
    ):
        assert torch.equal(made, degradation(image, torch.Generator().manual_seed(seed)))


def test_same_on_batch_draws_once():
    output = RandomDegradation(GaussianNoise(25, quantize=False), same_on_batch=True)(CLEAN[:1].expand(3, -1, -1, -1))
    assert torch.equal(output[0], output[1])
    assert torch.equal(output[0], output[2])


def test_what_is_no_degradation_is_refused():
    with pytest.raises(TypeError, match="degradation must be a Degradation, got str"):
        RandomDegradation("noise")
