"""Finding out which network weights belong to."""

from __future__ import annotations

import pytest
import torch

import clusir_modules as cm
from clusir_modules.serialization.configuration import Configuration, infer_configuration

TRAINING_ONLY = {"noise_std"}


def test_the_settings_are_those_the_network_was_made_with(net):
    found = infer_configuration(net.state_dict())
    assert found.architecture == type(net).__name__
    assert {k: v for k, v in found.complete().items() if k not in TRAINING_ONLY} == {
        k: v for k, v in net.config.items() if k not in TRAINING_ONLY
    }


@pytest.mark.parametrize(
    "make",
    [cm.clusir_tiny, cm.clusir_small, cm.clusir_base, cm.mprnet_deraining, cm.mprnet_denoising, cm.mprnet_deblurring],
)
def test_named_sizes_are_recognized(make):
    with torch.device("meta"):
        net = make()
    assert infer_configuration(net.state_dict()).complete() == net.config


def test_a_network_that_does_not_exist_is_not_built():
    with pytest.raises(ValueError, match=r"architecture must be one of ClusIR, MPRNet, got 'os\.system'"):
        Configuration("os.system", {}).build()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="top_k"):
        Configuration("ClusIR", {"dim": 8, "num_experts": 2, "top_k": 3}).build()
