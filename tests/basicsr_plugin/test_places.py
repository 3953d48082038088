"""Whole runs in places that file systems allow and programs forget: long names, brackets, bytes that are no text."""

from __future__ import annotations

import os

import pytest
import torch

from basicsr_plugin.run.writer import ForgivingWriter


@pytest.fixture
def options(options, pictures, make_paired):
    options["train"]["total_iter"] = 4
    options["logger"] |= {"save_checkpoint_freq": 2, "use_tb_logger": True, "print_freq": 1}
    options["datasets"]["val"] = make_paired("val", pictures)
    metric = {"type": "calculate_psnr", "crop_border": 0}
    options["val"] = {"val_freq": 4, "save_img": True, "metrics": {"psnr": metric}}
    return options


@pytest.mark.parametrize("name", ["n" * 255, "with blank [1] *", "ü/é"])
@pytest.mark.parametrize("place", ["plain", "with blank [x] *", os.fsdecode(b"caf\xe9")])
def test_a_run_is_trained_put_aside_resumed_and_its_files_are_there(train, options, tmp_path, name, place):
    options["name"] = name
    root = tmp_path / place
    train(options, root=root)
    train(options, root=root)
    folder = root / "experiments" / name
    assert len([item for item in folder.parent.iterdir() if "_archived_" in item.name]) == 1
    (folder / "training_states/4.state").unlink()
    resumed = train(options, "--auto_resume", root=root)
    assert len(resumed.losses) == 2
    assert torch.load(folder / "models/net_g_latest.pth", weights_only=True)
    assert len(list((folder / "visualization").rglob("*_4.png"))) == 5
    assert any((root / "tb_logger" / name).iterdir()) == place.isprintable()


def test_a_writer_whose_disk_is_full_is_given_up_with_one_message(messages):
    class Writer:
        calls = 0

        def add_scalar(self, tag, value, step):
            self.calls += 1
            if step > 1:
                raise OSError(28, "No space left on device")

    writer = Writer()
    forgiving = ForgivingWriter(lambda: writer)
    for step in range(5):
        forgiving.add_scalar("loss", 0.0, step)
    assert writer.calls == 3
    assert len(messages()) == 1
    assert "No space left on device; the run goes on" in messages()[0]
