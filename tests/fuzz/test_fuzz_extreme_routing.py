"""Images that tell a router nothing, or the same of all, in every type: finite values and gradients."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from factories import smallest_clusir
from fuzzing import fuzz
from hypothesis import strategies as st
from torch import Tensor, nn

import clusir_modules as cm

CONTENTS = {
    "identical": lambda shape: torch.rand(1, *shape[1:]).expand(shape).clone(),
    "black": torch.zeros,
    "white": torch.ones,
    "constant": lambda shape: torch.full(shape, 0.3),
    "constant each": lambda shape: torch.rand(shape[0], 1, 1, 1).expand(shape).clone(),
    "one bright pixel": lambda shape: torch.zeros(shape).index_fill_(3, torch.tensor([0]), 1.0),
    "denormal": lambda shape: torch.full(shape, 1e-40),
}
PRECISIONS = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast bfloat16": (torch.float32, torch.bfloat16),
    "autocast float16": (torch.float32, torch.float16),
}


def check_finite(module: nn.Module, x: Tensor, autocast: torch.dtype | None) -> None:
    x = x.requires_grad_()
    context = nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast)
    with context:
        if isinstance(module, cm.PCGRM):
            routings = (module(x),)
            outputs: tuple[Tensor, ...] = ()
        else:
            output, routing = module(x, return_routing=True)
            routings = (routing,) if isinstance(routing, cm.Routing) else routing
            outputs = (output,)
        total = sum(output.float().square().mean() for output in outputs)
        total = total + cm.load_balance_loss(routings) + cm.cluster_information_loss(routings)
        total = total + cm.orthogonality_loss(module)
    total = total + sum(routing.prompt.square().mean() + routing.topk_weights.square().mean() for routing in routings)
    for routing in routings:
        torch.testing.assert_close(routing.topk_weights.sum(1), torch.ones(x.shape[0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(routing.cluster_probs.sum(1), torch.ones(x.shape[0]), atol=1e-5, rtol=0)
        assert all(torch.isfinite(value).all() for value in routing)
    assert all(torch.isfinite(output).all() for output in outputs)
    total.backward()
    wrong = [name for name, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    assert wrong == []
    assert torch.isfinite(x.grad).all()


common = {
    "content": st.sampled_from(sorted(CONTENTS)),
    "precision": st.sampled_from(sorted(PRECISIONS)),
    "shape": st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 24), st.integers(1, 24)),
    "seed": st.integers(0, 2**31),
    "training": st.booleans(),
}


@pytest.mark.parametrize("kind", ["PCGRM", "ClusterMoE"])
@fuzz(**common, plain=st.booleans())
def test_routers_stay_finite(
    kind: str, content: str, precision: str, shape: tuple[int, ...], seed: int, training: bool, plain: bool
) -> None:
    torch.manual_seed(seed)
    module: nn.Module = (cm.PCGRM if kind == "PCGRM" else cm.ClusterMoE)(
        3, num_clusters=4, num_experts=3, top_k=2, embed_dim=4, noise_std=0.0 if plain else 1.0
    )
    if plain:  # a black image then has a zero embedding
        nn.init.zeros_((module if kind == "PCGRM" else module.router).embed.bias)
    dtype, autocast = PRECISIONS[precision]
    check_finite(module.to(dtype).train(training), CONTENTS[content](shape).to(dtype), autocast)


@fuzz(share=0.4, **common)
def test_a_whole_network_stays_finite(
    content: str, precision: str, shape: tuple[int, ...], seed: int, training: bool
) -> None:
    torch.manual_seed(seed)
    dtype, autocast = PRECISIONS[precision]
    check_finite(smallest_clusir().to(dtype).train(training), CONTENTS[content](shape).to(dtype), autocast)
