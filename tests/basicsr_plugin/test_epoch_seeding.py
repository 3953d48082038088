"""Data sets made reproducible."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch

from basicsr_plugin.data.epoch_seeding import EpochSeeded


class Draws:
    """Draws from all generators that BasicSR's data sets use."""

    name = "draws"

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002 - as BasicSR draws


def test_a_sample_depends_on_nothing_that_was_drawn_before():
    data = EpochSeeded(Draws(), seed=1)
    first = [data[2, index] for index in range(4)]
    random.random(), np.random.rand(5), torch.rand(3)  # noqa: NPY002 - as BasicSR draws
    assert [data[2, index] for index in (3, 1, 2, 0)] == [first[index] for index in (3, 1, 2, 0)]


@pytest.mark.parametrize("other", [(2, (0, 1)), (1, (1, 1)), (1, (0, 2))])
def test_every_generator_depends_on_seed_epoch_and_index(other):
    seed, key = other
    for one, another in zip(
        EpochSeeded(Draws(), seed=1)[0, 1][1:], EpochSeeded(Draws(), seed=seed)[key][1:], strict=True
    ):
        assert one != another


def test_a_plain_index_means_epoch_0():
    data = EpochSeeded(Draws(), seed=1)
    assert data[3] == data[0, 3]


def test_length_and_attributes_are_the_wrapped_ones_also_in_a_worker():
    data = pickle.loads(pickle.dumps(EpochSeeded(Draws(), seed=1)))
    assert len(data) == 4
    assert data.name == "draws"
    with pytest.raises(AttributeError):
        _ = data.missing
