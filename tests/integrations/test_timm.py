"""ClusIR in timm's registry."""

from __future__ import annotations

import pytest
import timm
import timm.data
import torch
from PIL import Image

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


class TestConfiguration:
    def test_says_what_timms_transforms_must_do(self):
        with torch.device("meta"):
            net = timm.create_model("clusir_tiny", **SMALL)
        found = timm.data.resolve_model_data_config(net)
        assert (found["mean"], found["std"]) == ((0, 0, 0), (1, 1, 1))
        transform = timm.data.create_transform(**{**found, "input_size": (3, 8, 8)})
        assert transform(Image.new("RGB", (8, 8), (255, 0, 51))).amax((1, 2)).tolist() == pytest.approx([1, 0, 0.2])
        assert net.default_cfg["num_classes"] == 0

    def test_the_shipped_weights_have_a_tag(self):
        assert timm.list_models("clusir_*", pretrained=True) == ["clusir_tiny.all_in_one"]
        net = timm.create_model("clusir_tiny.all_in_one", pretrained=True)
        assert torch.equal(net.tail.weight, cm.clusir_tiny(pretrained=True).tail.weight)
        assert net.pretrained_cfg["tag"] == "all_in_one"

    def test_other_weights_by_an_overlay(self, tmp_path):
        net = cm.clusir_tiny(**SMALL)
        torch.save(net.state_dict(), tmp_path / "net.pth")
        overlay = {"file": str(tmp_path / "net.pth"), "mean": (0.5,) * 3}
        made = timm.create_model("clusir_tiny", pretrained=True, pretrained_cfg_overlay=overlay, **SMALL)
        assert all(torch.equal(a, b) for a, b in zip(made.parameters(), net.parameters(), strict=True))
        assert timm.data.resolve_model_data_config(made)["mean"] == (0.5,) * 3

    @pytest.mark.parametrize("name", ["clusir_tiny.in1k", "clusir_base.all_in_one"])
    def test_unknown_tags_are_refused(self, name):
        with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
            timm.create_model(name)

    def test_sizes_without_weights_say_so(self):
        with pytest.raises(ValueError, match="pretrained weights come with clusir_tiny alone"):
            timm.create_model("clusir_small", pretrained=True)


class TestIntermediates:
    @torch.no_grad()
    @pytest.mark.parametrize("stages", [1, 2])
    def test_are_what_the_network_computes(self, stages):
        net, seen = cm.clusir_tiny(supervised_stages=stages, **SMALL).eval(), []
        net.stages[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
        image = torch.rand(1, 3, 20, 31)
        net(image)
        final, levels = net.forward_intermediates(image)
        assert torch.equal(final, seen[0].decoded[0])
        assert torch.equal(net.forward_features(image), final)
        assert all(torch.equal(a, b) for a, b in zip(levels, seen[0].encoded, strict=True))
        last, first = net.forward_intermediates(image, indices=(-1, 0), intermediates_only=True)
        assert torch.equal(last, levels[3])
        assert torch.equal(first, levels[0])
        assert [m.shape[1] for m in net.forward_intermediates(image, 2, intermediates_only=True)] == [64, 128]

    def test_bad_arguments_are_named(self):
        net = cm.clusir_tiny(**SMALL)
        for arguments in ({"indices": 5}, {"indices": [4]}, {"norm": True}, {"output_fmt": "NLC"}):
            with pytest.raises(ValueError, match=f"{next(iter(arguments))}.* must be"):
                net.forward_intermediates(torch.rand(1, 3, 16, 16), **arguments)


class TestFeatures:
    def test_leave_the_network_whole(self):
        net = cm.clusir_tiny(**SMALL)
        before = {name: p.clone() for name, p in net.named_parameters()}
        features = ours.ClusIRFeatures(net)
        with torch.no_grad():
            for parameter in features.parameters():
                parameter.zero_()
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())

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
