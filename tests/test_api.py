"""The public interface. After a wanted change: ``python tests/test_api.py`` records it anew."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import clusir_modules as cm

RECORD = Path(__file__).with_name("api_surface.json")
CONTRACT = {
    "PCGRM", "Routing", "ClusterMoE", "WTB", "dwt2d", "idwt2d", "PromptFusion", "PGB", "DAFMM", "ClusIR",
    "clusir_tiny", "clusir_small", "clusir_base", "load_balance_loss", "orthogonality_loss", "cluster_information_loss",
    "L1MSSSIMLoss",
}  # fmt: skip


def parameters_of(function: object) -> str:
    """Names, kinds and defaults; annotations may be refined freely."""
    signature = inspect.signature(function)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def surface() -> dict[str, str]:
    found = {}
    for name in sorted(cm.__all__):
        value = getattr(cm, name)
        if not callable(value):
            found[name] = type(value).__name__
            continue
        found[name] = parameters_of(value)
        if inspect.isclass(value) and issubclass(value, nn.Module):
            found[f"{name}.forward"] = parameters_of(value.forward)
    return found


class TestSurface:
    def test_is_the_recorded_one(self) -> None:
        assert surface() == json.loads(RECORD.read_text()), "if this is wanted: python tests/test_api.py"

    def test_holds_the_contract(self) -> None:
        assert set(cm.__all__) >= CONTRACT

    def test_every_module_lists_what_it_offers(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("clusir_modules.") and not hasattr(module, "__path__"):
                missing = [entry for entry in module.__all__ if not hasattr(module, entry)]
                assert missing == [], name

    def test_everything_public_is_documented(self) -> None:
        assert [
            name for name in cm.__all__ if callable(getattr(cm, name)) and not inspect.getdoc(getattr(cm, name))
        ] == []


class TestContract:
    """The calls of the contract, word for word."""

    @torch.no_grad()
    def test_modules(self) -> None:
        dim, num_heads, embed_dim = 8, 2, 128
        x = torch.rand(2, dim, 12, 10)
        routing = cm.PCGRM(dim, num_clusters=8, num_experts=4, top_k=2, embed_dim=128)(x)
        assert routing.cluster_probs.shape == (2, 8)
        assert routing.expert_probs.shape == (2, 4)
        assert routing.topk_weights.shape == routing.topk_indices.shape == (2, 2)
        assert routing.prompt.shape == (2, 8, 128)
        moe = cm.ClusterMoE(dim, num_experts=4, num_clusters=8, top_k=2, embed_dim=128)
        assert moe(x).shape == x.shape
        y, routing = moe(x, return_routing=True)
        assert torch.equal(moe(x, routing=routing), y)
        assert cm.WTB(dim, num_heads, wave="haar")(x).shape == x.shape
        ll, details = cm.dwt2d(x, wave="haar", mode="zero")
        assert ll.shape == (2, dim, 6, 5)
        assert details.shape == (2, dim, 3, 6, 5)
        torch.testing.assert_close(cm.idwt2d(ll, details, wave="haar", mode="zero"), x)
        s = cm.PromptFusion(embed_dim, num_heads)(torch.rand(2, 8, embed_dim), torch.rand(2, 4, embed_dim))
        assert s.shape == (2, 8, embed_dim)
        m = cm.PGB(embed_dim, dim, num_components=5, size=16)(s, (12, 10))
        assert m.shape == x.shape
        dafmm = cm.DAFMM(dim, prompt_dim=dim, num_heads=4)
        assert dafmm(x, m).shape == dafmm(x).shape == x.shape
        low, high = dafmm.decompose(x, m)
        torch.testing.assert_close(low + high, x)

    @torch.no_grad()
    def test_network_and_losses(self) -> None:
        net, x = cm.clusir_tiny().eval(), torch.rand(1, 3, 20, 24)
        assert isinstance(net, cm.ClusIR)
        assert net(x).shape == x.shape
        out, routings = net(x, return_routing=True)
        assert len(routings) == 4
        torch.testing.assert_close(net(x, routings=net.route(x)), out)
        for value in (
            cm.load_balance_loss(routings),
            cm.orthogonality_loss(net),
            cm.cluster_information_loss(routings),
            cm.L1MSSSIMLoss(ms_ssim_weight=0.1)(out, x),
        ):
            assert value.shape == ()
            assert torch.isfinite(value)


@pytest.mark.parametrize("extra", ["", "from clusir_modules.data import *"])
def test_importing_is_light(extra: str) -> None:
    """None of these is needed to import; timm alone would take longer than the rest."""
    heavy = ["basicsr", "timm", "pytorch_wavelets", "pytorch_msssim", "skimage", "cv2", "matplotlib", "pywt"]
    script = f"import sys, clusir_modules\n{extra}\nprint([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=RECORD.parents[1], check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


if __name__ == "__main__":
    RECORD.write_text(json.dumps(surface(), indent=1) + "\n")
