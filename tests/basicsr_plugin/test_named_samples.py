"""Errors of BasicSR data sets that name their files."""

from __future__ import annotations

import pickle

import pytest

from basicsr_plugin.data.named_samples import NamedSamples


class Broken:
    paths = ("a.png", "b.png")
    opt = "section"

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 0:
            return "sample"
        if index == 9:
            raise IndexError(index)
        raise AttributeError("'NoneType' object has no attribute 'astype'")


def test_index_files_and_cause_are_named():
    samples = NamedSamples(Broken())
    assert samples[0] == "sample"
    with pytest.raises(RuntimeError, match=r"sample 1 of Broken, files b.png: .*AttributeError: 'NoneType' object"):
        samples[1]
    with pytest.raises(RuntimeError, match=r"sample 2 of Broken, files unknown: "):
        samples[2]


def test_the_end_of_a_data_set_is_no_fault():
    with pytest.raises(IndexError):
        NamedSamples(Broken())[9]


def test_attributes_of_the_data_set_are_readable_also_in_another_process():
    samples = pickle.loads(pickle.dumps(NamedSamples(Broken())))
    assert (len(samples), samples.opt) == (3, "section")
