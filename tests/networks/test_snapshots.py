"""State dicts, seeded values and outputs of the networks are those that were recorded.

After a wanted change: ``python tests/networks/test_snapshots.py`` records them anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from network_fixtures import FACTORIES, disturbed

import clusir_modules as cm

SHAPES = Path(__file__).with_name("state_dicts.json")
NUMBERS = Path(__file__).with_name("golden.safetensors")
SIZES = {
    name: getattr(cm, name)
    for name in (
        "clusir_tiny",
        "clusir_small",
        "clusir_base",
        "mprnet_deraining",
        "mprnet_denoising",
        "mprnet_deblurring",
    )
}


def shapes_of(make):
    """Names and shapes of a state dict, in order."""
    with torch.device("meta"):
        state = make().state_dict()
    return {name: "x".join(map(str, value.shape)) for name, value in state.items()}


def photograph():
    """A smooth picture ``(1, 3, 37, 50)`` in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 37), torch.linspace(0, 4, 50), indexing="ij")
    return torch.stack((x.sin(), (x + y).cos(), (x * y).sin())).add(1).div(2).unsqueeze(0)


@torch.no_grad()
def numbers_of(net):
    """The sum of each parameter, the final image, and the routing of each level."""
    image = photograph()[:, : getattr(net, "in_channels", 3)]
    found = {"parameters": torch.stack([parameter.double().sum() for parameter in net.parameters()])}
    output = net(image)
    found["image"] = output[0] if isinstance(output, list) else output
    if isinstance(net, cm.ClusIR):
        for level, routing in enumerate(net.route(image)):
            found[f"clusters{level}"], found[f"experts{level}"] = routing.cluster_probs, routing.expert_probs
    return {name: value.contiguous() for name, value in found.items()}


def made(name):
    torch.manual_seed(0)
    if name == "shipped":
        return cm.clusir_tiny(pretrained=True).eval()
    return SIZES[name]().eval() if name in SIZES else disturbed(FACTORIES[name]())


@pytest.mark.parametrize("name", [*SIZES, *FACTORIES])
def test_names_and_shapes_of_the_state_dict(name):
    recorded = json.loads(SHAPES.read_text())[name]
    assert list(shapes_of({**SIZES, **FACTORIES}[name]).items()) == list(recorded.items())


@pytest.mark.parametrize("name", ["clusir_tiny", "shipped", *FACTORIES])
def test_values_outputs_and_routing(name):
    recorded = {key.partition("/")[2]: value for key, value in load_file(NUMBERS).items() if key.startswith(f"{name}/")}
    found = numbers_of(made(name))
    assert found.keys() == recorded.keys()
    for key, value in recorded.items():
        torch.testing.assert_close(found[key], value, atol=2e-4, rtol=2e-4, msg=lambda text, key=key: f"{key}: {text}")


if __name__ == "__main__":
    SHAPES.write_text(json.dumps({n: shapes_of(make) for n, make in {**SIZES, **FACTORIES}.items()}, indent=0) + "\n")
    numbers = {name: numbers_of(made(name)) for name in ("clusir_tiny", "shipped", *FACTORIES)}
    save_file({f"{name}/{key}": value for name, found in numbers.items() for key, value in found.items()}, NUMBERS)
