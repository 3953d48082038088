"""ClusIR in timm's registry."""

from __future__ import annotations

import pytest
import timm
import torch

import clusir_modules as cm
from clusir_modules.integrations import timm as ours

SMALL = {"num_experts": 2, "num_clusters": (3, 3, 3, 3), "embed_dim": 16}


def test_the_sizes_are_listed():
    assert set(timm.list_models("clusir_*")) == {"clusir_tiny", "clusir_small", "clusir_base"}


def test_registering_twice_changes_nothing(recwarn):
    ours.register()
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["clusir_tiny", "clusir_small", "clusir_base"])
def test_create_model_makes_the_network_of_that_size(name):
    with torch.device("meta"):
        created, own = timm.create_model(name), getattr(cm, name)()
    assert isinstance(created, cm.ClusIR)
    assert created.config == own.config


def test_create_model_takes_the_networks_settings_and_timms_input_channels():
    net = timm.create_model("clusir_tiny", in_chans=1, **SMALL)
    assert net.config["in_channels"] == 1
    assert net.config["num_experts"] == 2


def test_create_model_loads_a_checkpoint(tmp_path, final_image):
    net = cm.clusir_tiny(**SMALL).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    created = timm.create_model("clusir_tiny", checkpoint_path=str(tmp_path / "net.pth"), **SMALL)
    assert torch.equal(final_image(created.eval()), final_image(net))


class TestFeatures:
    @torch.no_grad()
    def test_are_those_of_the_encoder(self):
        net = cm.clusir_tiny(**SMALL).eval()
        features = timm.create_model("clusir_tiny", features_only=True, **SMALL).eval()
        missing, unexpected = features.load_state_dict(net.state_dict(), strict=False)
        assert missing == []
        assert all(
            name.startswith(("stages.0.decoder", "stages.0.prompt", "stages.0.refinement", "tail", "settings_record"))
            for name in unexpected
        )
        seen = []
        for level in net.stages[0].encoder:
            level.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
        image = torch.rand(2, 3, 32, 48)
        net(image)
        found = features(image)
        assert len(found) == 4
        assert all(torch.equal(a, b) for a, b in zip(found, seen, strict=True))

    @torch.no_grad()
    def test_have_the_channels_and_reductions_that_feature_info_states(self):
        features = timm.create_model("clusir_tiny", features_only=True, out_indices=(0, -1), **SMALL)
        assert features.feature_info.channels() == [16, 128]
        assert features.feature_info.reduction() == [1, 8]
        maps = features(torch.rand(1, 3, 30, 47))
        assert [tuple(m.shape) for m in maps] == [(1, 16, 32, 48), (1, 128, 4, 6)]
        named = dict(features.named_modules())
        assert all(name in named for name in features.feature_info.module_name())

    def test_give_a_gradient_to_every_parameter(self):
        features = timm.create_model("clusir_tiny", features_only=True, **SMALL)
        features.set_grad_checkpointing(True)
        sum(m.square().mean() for m in features(torch.rand(2, 3, 32, 32))).backward()
        without = [name for name, p in features.named_parameters() if p.grad is None]
        assert without == []

    @pytest.mark.parametrize("indices", [(), (4,), (-5,)])
    def test_of_levels_that_do_not_exist_are_refused(self, indices):
        with pytest.raises(ValueError, match="out_indices must be in"):
            timm.create_model("clusir_tiny", features_only=True, out_indices=indices, **SMALL)
