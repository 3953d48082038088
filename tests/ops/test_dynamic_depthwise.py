from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules.ops.dynamic_depthwise import dynamic_depthwise


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
def test_convolves_each_image_with_its_own_kernels(batch: int, channels_last: bool, padding: int) -> None:
    x = torch.randn(batch, 4, 6, 7, dtype=torch.float64)
    kernels = torch.randn(batch, 4, 3, 3, dtype=torch.float64)
    bias = torch.randn(batch, 4, dtype=torch.float64)
    laid_out = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    y = dynamic_depthwise(laid_out, kernels, bias, padding=padding)
    for b in range(batch):
        expected = F.conv2d(x[b : b + 1], kernels[b].unsqueeze(1), bias[b], padding=padding, groups=4)
        torch.testing.assert_close(y[b : b + 1], expected, atol=1e-12, rtol=0)
    plain = dynamic_depthwise(laid_out, kernels, padding=padding) + bias[..., None, None]
    torch.testing.assert_close(plain, y, atol=1e-12, rtol=0)


@pytest.mark.parametrize("padding", [0, 1])
def test_the_form_for_export_computes_the_same(monkeypatch: pytest.MonkeyPatch, padding: int) -> None:
    x, kernels, bias = torch.randn(2, 4, 6, 7), torch.randn(2, 4, 3, 3), torch.randn(2, 4)
    expected = dynamic_depthwise(x, kernels, bias, padding=padding)
    monkeypatch.setattr("clusir_modules.ops.dynamic_depthwise.exporting", lambda: True)
    torch.testing.assert_close(dynamic_depthwise(x, kernels, bias, padding=padding), expected)
