"""Networks that know their configuration, and folders in the layout of the Hugging Face Hub."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import clusir_modules as cm
from clusir_modules.serialization.pretrained import RECORD_NAME, Pretrained


class TestConfig:
    def test_makes_the_same_network_again(self, net):
        again = type(net)(**json.loads(json.dumps(net.config)))
        assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
        assert again.config == net.config

    def test_holds_every_argument_with_its_default(self):
        config = cm.clusir_tiny(top_k=1).config
        assert config["top_k"] == 1
        assert config["dim"] == 16
        assert config["num_clusters"] == [16, 12, 8, 4]
        assert config["supervised_stages"] == 1
        assert cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1).config == {
            "dim": 8, "in_channels": 3, "unet_step": 4, "orsnet_step": 4, "num_cabs": 1, "kernel_size": 3,
            "reduction": 4, "bias": False,
        }  # fmt: skip

    def test_survives_copies(self, net):
        assert copy.deepcopy(net).config == pickle.loads(pickle.dumps(net)).config == net.config

    def test_of_a_subclass_is_its_own_arguments(self):
        class Fixed(cm.MPRNet):
            def __init__(self, width: int = 8) -> None:
                super().__init__(width, unet_step=4, orsnet_step=4, num_cabs=1)

        class Open(cm.MPRNet):
            def __init__(self, **settings: int) -> None:
                super().__init__(**{"unet_step": 4, "orsnet_step": 4, "num_cabs": 1, **settings})

        assert Fixed(12).config == {"width": 12}
        assert Open(dim=8).config["dim"] == 8
        assert Open(dim=8).config["kernel_size"] == 3

    @pytest.mark.parametrize("network", [cm.ClusIR, cm.MPRNet])
    def test_wrong_arguments_are_refused_by_the_constructor(self, network):
        with pytest.raises(TypeError, match="unexpected keyword argument 'dims'"):
            network(dims=3)


class TestRecord:
    """Settings that no shape shows."""

    def test_is_absent_from_a_network_with_default_settings(self):
        assert RECORD_NAME not in cm.ClusIR(8).state_dict()
        assert RECORD_NAME not in cm.ClusIR(8, num_experts=3, noise_std=0.5).state_dict()

    def test_says_what_differs_from_the_defaults(self):
        record = cm.ClusIR(8, top_k=3, wave="db2").state_dict()[RECORD_NAME]
        assert json.loads(bytes(record.tolist())) == {"top_k": 3, "wave": "db2"}

    def test_keeps_weights_from_a_network_with_other_settings(self):
        net = cm.ClusIR(8, top_k=3)
        with pytest.raises(ValueError, match=r'belong to a network with \{"top_k": 1\}, this one has \{"top_k": 3\}'):
            net.load_state_dict(cm.ClusIR(8, top_k=1).state_dict())
        net.load_state_dict(cm.ClusIR(8, top_k=3).state_dict())

    def test_keeps_its_type_in_half_precision(self):
        assert cm.clusir_tiny(top_k=3).half().state_dict()[RECORD_NAME].dtype == torch.uint8


class TestPretrained:
    def test_from_pretrained_gives_the_network_that_was_saved(self, net, tmp_path, final_image):
        net.save_pretrained(tmp_path / "net")
        again = type(net).from_pretrained(tmp_path / "net")
        assert not again.training
        assert torch.equal(final_image(again), final_image(net))

    def test_the_model_card_is_one_that_the_hub_reads(self, net, tmp_path):
        from huggingface_hub import ModelCard

        net.save_pretrained(tmp_path)
        card = ModelCard.load(tmp_path / "README.md")
        assert card.data.library_name == "clusir"
        assert card.data.pipeline_tag == "image-to-image"
        count = sum(p.numel() for p in net.parameters())
        assert f"# {type(net).__name__}" in card.text
        assert f"{count:,} parameters" in card.text
        for name, value in net.config.items():
            assert f"| `{name}` | `{json.dumps(value)}` |" in card.text

    def test_a_model_card_that_is_there_is_kept(self, clusir, tmp_path):
        (tmp_path / "README.md").write_text("mine")
        clusir.save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == "mine"

    def test_the_hubs_own_mixin_reads_the_folder(self, tmp_path, final_image):
        """Another program, with Hugging Face's class instead of ours, needs no more than the folder."""
        from huggingface_hub import PyTorchModelHubMixin

        class Theirs(nn.Module, PyTorchModelHubMixin):
            def __init__(self, dim: int, num_cabs: int, unet_step: int, orsnet_step: int) -> None:
                super().__init__()
                self.net = cm.MPRNet(dim, num_cabs=num_cabs, unet_step=unet_step, orsnet_step=orsnet_step)
                self.load_state_dict = self.net.load_state_dict

            def forward(self, x):
                return self.net(x)

        ours = cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1).eval()
        ours.save_pretrained(tmp_path)
        assert torch.equal(final_image(Theirs.from_pretrained(tmp_path, strict=True)), final_image(ours))

    def test_another_architecture_is_refused(self, clusir, tmp_path):
        clusir.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="must hold a MPRNet, got a ClusIR"):
            cm.MPRNet.from_pretrained(tmp_path)

    def test_a_missing_file_is_named(self, clusir, tmp_path):
        clusir.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
            cm.ClusIR.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is no JSON"),
            ("[1]", "must be an object"),
            ('{"dim": 8}', "must name an architecture"),
            ('{"architecture": "MPRNet"}', "states the architecture 'MPRNet', its weights are of 'ClusIR'"),
            ('{"architecture": "ClusIR", "dim": 10000000}', "states dim=10000000, its weights are of dim=8"),
            ('{"architecture": "ClusIR", "dims": 8}', "ClusIR has no setting 'dims'; did you mean 'dim'"),
        ],
    )
    def test_a_damaged_configuration_is_refused(self, clusir, tmp_path, content, message):
        clusir.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            cm.ClusIR.from_pretrained(tmp_path)

    def test_a_repository_is_downloaded_by_the_hubs_client(self, clusir, tmp_path, monkeypatch, final_image):
        import huggingface_hub

        clusir.save_pretrained(tmp_path)
        asked = {}

        def snapshot_download(repo_id, **options):
            asked.update(repo_id=repo_id, **options)
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        again = cm.ClusIR.from_pretrained("owner/name", revision="v1")
        assert torch.equal(final_image(again), final_image(clusir))
        assert asked["repo_id"] == "owner/name"
        assert asked["revision"] == "v1"
        assert set(asked["allow_patterns"]) == {"config.json", "model.safetensors"}

    def test_push_to_hub_uploads_the_folder(self, clusir, monkeypatch):
        import huggingface_hub

        class Api:
            def create_repo(self, repo_id, **_):
                assert repo_id == "owner/name"

            def file_exists(self, repo_id, name):
                return True

            def upload_folder(self, *, folder_path, ignore_patterns, **_):
                self.names = sorted(path.name for path in Path(folder_path).iterdir())
                assert ignore_patterns == ["README.md"]
                assert self.names == ["README.md", "config.json", "model.safetensors"]
                return type("Commit", (), {"commit_url": "https://example.org/commit"})

        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        assert clusir.push_to_hub("owner/name") == "https://example.org/commit"


def test_networks_do_not_import_the_hubs_client():
    script = "import sys, clusir_modules as cm; cm.MPRNet(8, num_cabs=1); print('huggingface_hub' in sys.modules)"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert run.stdout.strip() == "False"


def test_a_module_without_the_base_class_saves_its_weights_alone(tmp_path):
    from clusir_modules.serialization.network_files import read_configuration, save_network

    save_network(nn.Conv2d(1, 1, 1), tmp_path / "a.safetensors")
    assert read_configuration(tmp_path / "a.safetensors") is None
    assert not isinstance(nn.Conv2d(1, 1, 1), Pretrained)
