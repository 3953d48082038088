"""Every public module and function has a property test."""

from __future__ import annotations

import test_fuzz_data
import test_fuzz_extreme_routing
import test_fuzz_files
import test_fuzz_functions
import test_fuzz_modules
from fuzzing import COVERED

import clusir_modules
from clusir_modules import data, metrics

FILES = (test_fuzz_data, test_fuzz_extreme_routing, test_fuzz_files, test_fuzz_functions, test_fuzz_modules)
SIZES = {"clusir_tiny", "clusir_small", "clusir_base", "mprnet_deraining", "mprnet_denoising", "mprnet_deblurring"}
"""ClusIR and MPRNet with other settings, too large to run hundreds of times."""
INSIDE = {"ClusIREncoder", "ClusIRStage"}
"""Run as part of ClusIR."""
FRAMES = {"restore_video"}
"""Hands each frame to restore, which is here; a codec writes what it reads."""


def test_nothing_public_is_left_out() -> None:
    assert all(FILES)
    public = {*clusir_modules.__all__, *data.__all__, *metrics.__all__}
    assert sorted(public - COVERED - SIZES - INSIDE - FRAMES) == []
    assert sorted((SIZES | INSIDE | FRAMES) - public) == []
