"""What a run writes to TensorBoard, read back from the event file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_parts import SoftmaxRouter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import clusir_modules as cm

NETWORK = {
    "type": "ClusIR", "dim": 8, "num_blocks": [0, 0, 0, 0], "num_decoder_blocks": [0, 0, 0], "num_refinement_blocks": 0,
    "num_heads": [1, 1, 1, 1], "num_experts": 3, "num_clusters": [4, 3, 2, 2], "embed_dim": 8,
}  # fmt: skip


@pytest.fixture
def logged(options, pictures, make_paired):
    """Options of a run of 4 iterations that logs every second one, and validates at the end of it."""
    options["datasets"]["train"] = {
        "name": "train",
        "type": "AllInOneDataset",
        "tasks": [
            {"name": "noise", "dataroot_gt": str(pictures / "gt"), "degradation": "noise"},
            {"name": "low_light", "dataroot_gt": str(pictures / "gt"), "degradation": "low_light"},
        ],
        "gt_size": 16,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": 4,
    }
    options["datasets"]["val"] = make_paired("val", pictures)
    options["network_g"] = dict(NETWORK)
    options["train"].update(total_iter=4, losses=[{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.01}])
    del options["train"]["pixel_opt"]
    options["val"] = {
        "val_freq": 4,
        "save_img": False,
        "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}},
    }
    options["logger"].update(use_tb_logger=True, print_freq=2)
    return options


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tb_logger" / "run"), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def scalars(accumulator: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


class TestRun:
    def test_losses_routing_and_pictures_are_in_the_event_file(self, logged, train, tmp_path):
        seen: list[Any] = []
        import basicsr_plugin.models.tensorboard as module

        original = module.summarize_routing
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "summarize_routing", lambda *a: seen.append(original(*a)) or seen[-1])
            record = train(logged)
        found = events(tmp_path)
        tags = found.Tags()

        assert {"losses/l_pix", "losses/l_balance", "losses/l_total"} <= set(tags["scalars"])
        totals = scalars(found, "losses/l_total")
        assert [step for step, _ in totals] == [2, 4]
        assert [value for _, value in totals] == pytest.approx(record.losses[1::2], rel=1e-6)

        assert len(seen) == 2
        for step, summary in zip((2, 4), seen, strict=True):
            for tag, value in summary.items():
                assert dict(scalars(found, tag))[step] == pytest.approx(value, abs=1e-6)
        for level, (experts, clusters) in enumerate(zip([3] * 4, NETWORK["num_clusters"], strict=True), start=1):
            for task in ("noise", "low_light"):
                used = [scalars(found, f"experts/level{level}/{task}/{e}")[-1][1] for e in range(experts)]
                posterior = [scalars(found, f"clusters/level{level}/{task}/{c}")[-1][1] for c in range(clusters)]
                assert sum(used) == pytest.approx(2, abs=1e-5), "every image runs two experts"
                assert sum(posterior) == pytest.approx(1, abs=1e-5)

        shown = [tag for tag in tags["images"] if tag.startswith("examples/val/")]
        assert len(shown) == 4
        event = found.Images(shown[0])[-1]
        assert event.step == 4
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert picture.shape == (32, 3 * 32, 3), "input, result and ground truth side by side"
        inputs = [np.asarray(Image.open(file)) for file in Path(logged["datasets"]["val"]["dataroot_lq"]).iterdir()]
        assert min(np.abs(picture[:, :32].astype(int) - image).max() for image in inputs) <= 1

    def test_logging_does_not_change_the_training(self, logged, train, tmp_path):
        with_log = train(logged, root=tmp_path / "with").losses
        logged["logger"]["use_tb_logger"] = False
        assert train(logged, root=tmp_path / "without").losses == with_log

    def test_a_network_without_routing_has_losses_only(self, logged, train, tmp_path):
        logged["network_g"] = {"type": "PluginTestNet"}
        del logged["train"]["losses"][1]
        train(logged)
        tags = events(tmp_path).Tags()["scalars"]
        assert "losses/l_pix" in tags
        assert [tag for tag in tags if tag.startswith(("experts", "clusters"))] == []

    def test_a_router_of_ones_own_is_shown_too(self, logged, train, tmp_path, monkeypatch):
        monkeypatch.setattr(cm.PARTS["router"], "_objects", dict(cm.PARTS["router"]._objects))
        cm.PARTS["router"].register(SoftmaxRouter)
        logged["network_g"]["router"] = "SoftmaxRouter"
        train(logged)
        found = events(tmp_path)
        for task in ("noise", "low_light"):
            assert scalars(found, f"clusters/level2/{task}/0") == [(2, 1), (4, 1)], "it has one cluster"
            used = [scalars(found, f"experts/level2/{task}/{e}")[-1][1] for e in range(3)]
            assert sum(used) == pytest.approx(2, abs=1e-5)
        assert "clusters/level2/noise/1" not in found.Tags()["scalars"]
