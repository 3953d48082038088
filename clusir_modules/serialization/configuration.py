"""Which network a state dict belongs to, and with which settings it was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..networks.clusir import ClusIR
from ..networks.clusir_stage import NUM_LEVELS
from ..networks.mprnet import MPRNet
from .pretrained import RECORD_NAME, HubMixin

__all__ = ["NETWORKS", "Configuration", "infer_configuration", "is_clusir", "is_mprnet"]

NETWORKS: dict[str, type[nn.Module]] = {"ClusIR": ClusIR, "MPRNet": MPRNet}

_SHAPELESS = ("num_heads", "reduction")  # several values may give the same shapes
_STAGE = "stages.0."
_CLUSIR_KEYS = (
    f"{_STAGE}head.weight",
    f"{_STAGE}encoder.0.moe.router.prototypes",
    f"{_STAGE}encoder.3.moe.experts.expand_weight",
    f"{_STAGE}prompt_fusions.0.attention.in_proj_weight",
    f"{_STAGE}decoder.0.frequency.kernel_predictor.weight",
    "tail.weight",
)
_MPRNET_KEYS = (
    "shallow_feat1.0.weight",
    "shallow_feat1.1.body.1.weight",
    "stage1_encoder.encoder_level2.0.body.0.weight",
    "stage3_orsnet.orb1.body.0.body.0.weight",
    "sam12.conv2.weight",
    "concat23.weight",
    "tail.weight",
)


class Configuration(NamedTuple):
    """A network by the name of its class and the arguments of its constructor."""

    architecture: str
    settings: dict[str, Any]

    def build(self) -> nn.Module:
        """Make the network, with random weights.

        Raises:
            ValueError: there is no such network, or it refuses a setting.
        """
        if self.architecture not in NETWORKS:
            raise ValueError(f"architecture must be one of {', '.join(sorted(NETWORKS))}, got {self.architecture!r}")
        try:
            return NETWORKS[self.architecture](**self.settings)
        except TypeError as error:
            raise ValueError(f"the configuration does not fit {self.architecture}: {error}") from error

    def complete(self) -> dict[str, Any]:
        """The settings, and the defaults of those that are left out."""
        network = NETWORKS.get(self.architecture)
        defaults = network.defaults() if network is not None and issubclass(network, HubMixin) else {}
        return {**defaults, **self.settings}

    def require_agreement(self, inferred: Configuration, source: str) -> None:
        """Check a configuration that a file states against what its weights show.

        Raises:
            ValueError: they differ.
        """
        if self.architecture != inferred.architecture:
            raise ValueError(
                f"{source} states the architecture {self.architecture!r}, its weights are of {inferred.architecture!r}"
            )
        for name, value in inferred.settings.items():
            if name in self.settings and self.settings[name] != value and name not in _SHAPELESS:
                raise ValueError(f"{source} states {name}={self.settings[name]!r}, its weights are of {name}={value!r}")


def is_clusir(weights: Mapping[str, Any]) -> bool:
    """Whether a state dict has the entries of :class:`ClusIR`."""
    return all(key in weights for key in _CLUSIR_KEYS)


def is_mprnet(weights: Mapping[str, Any]) -> bool:
    """Whether a state dict has the entries of :class:`MPRNet`."""
    return all(key in weights for key in _MPRNET_KEYS)


def infer_configuration(weights: Mapping[str, Tensor], *, source: str = "the state dict") -> Configuration:
    """Find out the network and its settings from the names and shapes of its weights.

    Settings that no shape shows come from the record that :meth:`HubMixin.record_settings` leaves; where there is none
    they have their defaults. ``noise_std``, which acts in training only, is not found out.

    Raises:
        ValueError: the weights are of none of :data:`NETWORKS`, or damaged; ``source`` stands for them in the message.
    """
    kinds: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Tensor]], dict[str, Any]]]] = {
        "ClusIR": (is_clusir, _clusir_settings),
        "MPRNet": (is_mprnet, _mprnet_settings),
    }
    for architecture, (is_this, find_settings) in kinds.items():
        if is_this(weights):
            try:
                return Configuration(architecture, find_settings(weights))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{source} holds damaged weights of {architecture}: {error!r}") from error
    raise ValueError(
        f"{source} must hold weights of one of {', '.join(sorted(NETWORKS))}, got the entries {sorted(weights)[:5]}"
    )


def _clusir_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    levels = [f"{_STAGE}encoder.{level}." for level in range(NUM_LEVELS)]
    dim, in_channels = weights[f"{_STAGE}head.weight"].shape[:2]
    num_heads = [weights[f"{_STAGE}decoder.{level}.frequency.temperature"].shape[0] // 2 for level in range(3)]
    deepest = weights.get(f"{levels[-1]}blocks.0.attention.temperature")
    settings: dict[str, Any] = {
        "dim": dim,
        "in_channels": in_channels,
        "supervised_stages": _count(weights, "stages."),
        "num_blocks": [_count(weights, f"{level}blocks.") for level in levels],
        "num_decoder_blocks": [_count(weights, f"{_STAGE}decoder.{level}.blocks.") for level in range(NUM_LEVELS - 1)],
        "num_refinement_blocks": _count(weights, f"{_STAGE}refinement."),
        "num_heads": [*num_heads, 1 if deepest is None else deepest.shape[0]],
        "num_experts": weights[f"{levels[0]}moe.experts.expand_weight"].shape[0],
        "num_clusters": [weights[f"{level}moe.router.prototypes"].shape[0] for level in levels],
        "embed_dim": weights[f"{levels[0]}moe.router.prototypes"].shape[1],
        "standardize_evidence": f"{levels[0]}standardization.mean" in weights,
        "gain": weights["tail.weight"].shape[0] == 2 * in_channels,
    }
    return {**settings, **_recorded(weights)}


def _mprnet_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, image_channels, kernel_size = weights["shallow_feat1.0.weight"].shape[:3]
    squeezes = [value.shape[:2] for name, value in weights.items() if name.endswith(".CA.conv_du.0.weight")]
    fitting = [r for r in range(1, dim + 1) if all(width // r == hidden for hidden, width in squeezes)]
    return {
        "dim": dim,
        "image_channels": image_channels,
        "unet_step": weights["stage1_encoder.encoder_level2.0.body.0.weight"].shape[0] - dim,
        "orsnet_step": weights["concat23.weight"].shape[0] - dim,
        "num_cabs": _count(weights, "stage3_orsnet.orb1.body.") - 1,
        "kernel_size": kernel_size,
        "reduction": 4 if 4 in fitting else fitting[0],
        "bias": "shallow_feat1.0.bias" in weights,
    }


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Length of a sequence of modules whose entries start with ``prefix``."""
    return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})


def _recorded(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    record = weights.get(RECORD_NAME)
    if record is None:
        return {}
    settings: dict[str, Any] = json.loads(bytes(record.flatten().tolist()))
    return settings
