from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import clusir_modules as cm


@pytest.mark.parametrize("image", [255 * torch.rand(3, 8, 8), 255 * np.random.default_rng(0).random((8, 8, 3))])
def test_values_up_to_255_in_floating_point_are_named(image: object) -> None:
    with pytest.raises(ValueError, match=r"image must hold values in \[0, 1\].*divide them by 255"):
        cm.restore(nn.Identity(), image)


def test_what_noise_adds_beyond_1_is_taken() -> None:
    image = torch.rand(3, 8, 8) + 0.5 * torch.randn(3, 8, 8)
    torch.testing.assert_close(cm.restore(nn.Identity(), image), image)
