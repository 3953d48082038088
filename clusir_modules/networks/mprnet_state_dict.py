"""What a state dict of MPRNet tells of the network, and how the authors' checkpoints become one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..serialization.checkpoints import WRAPPINGS
from ..serialization.configuration import count_modules
from ..serialization.pretrained import Pretrained

__all__ = ["PretrainedMPRNet", "convert_mprnet_state_dict"]

_SKELETON = (
    "shallow_feat1.0.weight",
    "shallow_feat1.1.body.1.weight",
    "stage1_encoder.encoder_level2.0.body.0.weight",
    "stage3_orsnet.orb1.body.0.body.0.weight",
    "sam12.conv2.weight",
    "concat23.weight",
    "tail.weight",
)
_SLOPE_SUFFIX = ".body.1.weight"
_PUBLISHED_REDUCTION = 4


class PretrainedMPRNet(Pretrained):
    """Base class of MPRNet: recognizes its state dicts and reads the settings from their shapes."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({"image_channels": "in_channels"})
    skeleton: ClassVar[tuple[str, ...]] = _SKELETON

    @classmethod
    def settings_of(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings of the network; of several reductions that give the same shapes, the published one or the smallest.

        Raises:
            KeyError: an entry is missing.
            ValueError: no settings give these shapes.
        """
        dim, in_channels, kernel_size = weights[_SKELETON[0]].shape[:3]
        squeezes = {value.shape[:2] for name, value in weights.items() if name.endswith(".CA.conv_du.0.weight")}
        # width // r == hidden for whole r: width / (hidden + 1) < r <= width / hidden
        least = max((width // (hidden + 1) + 1 for hidden, width in squeezes), default=1)
        most = min((width // hidden for hidden, width in squeezes), default=dim)
        if least > most:
            raise ValueError(f"no reduction gives channel attentions of {sorted(squeezes)}")
        return {
            "dim": dim,
            "in_channels": in_channels,
            "unet_step": weights["stage1_encoder.encoder_level2.0.body.0.weight"].shape[0] - dim,
            "orsnet_step": weights["concat23.weight"].shape[0] - dim,
            "num_cabs": count_modules(weights, "stage3_orsnet.orb1.body.") - 1,
            "kernel_size": kernel_size,
            "reduction": _PUBLISHED_REDUCTION if least <= _PUBLISHED_REDUCTION <= most else least,
            "bias": "shallow_feat1.0.bias" in weights,
        }

    @classmethod
    def convert(cls, weights: Mapping[str, Any]) -> dict[str, Tensor]:
        """See :func:`convert_mprnet_state_dict`."""
        return convert_mprnet_state_dict(weights)


def convert_mprnet_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a released MPRNet checkpoint, ready for ``MPRNet.load_state_dict(..., strict=True)``.

    Takes what ``torch.load`` returns: the bare weights, or wrapped under ``state_dict`` (the authors' files),
    ``params_ema`` or ``params`` (BasicSR's), with or without the ``module.`` prefix of data-parallel training. The
    tensors are those of the checkpoint, not copies; the checkpoint is left as it is.

    Raises:
        TypeError: ``checkpoint`` is not a mapping.
        ValueError: it holds no MPRNet weights, or its activation slopes differ, which one shared slope cannot hold.

    Example:
        >>> from clusir_modules import MPRNet
        >>> net = MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1)
        >>> released = {"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}
        >>> net.load_state_dict(convert_mprnet_state_dict(released))
        <All keys matched successfully>
    """
    weights = checkpoint
    if isinstance(checkpoint, Mapping):
        weights = next((checkpoint[key] for key in WRAPPINGS if key in checkpoint), checkpoint)
    if not isinstance(weights, Mapping):
        raise TypeError(f"checkpoint must be a mapping of names to tensors, got {type(weights).__name__}")
    strange = [
        str(name) for name, value in weights.items() if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if strange:
        raise ValueError(f"checkpoint must hold tensors by name only, got the entries {strange[:5]}")
    converted = {name.removeprefix("module."): value for name, value in weights.items()}
    if "shallow_feat1.1" + _SLOPE_SUFFIX not in converted:
        raise ValueError(f"checkpoint must hold MPRNet weights, got the entries {sorted(converted)[:5]}")
    slope = converted["shallow_feat1.1" + _SLOPE_SUFFIX]
    for name, value in converted.items():
        if name.endswith(_SLOPE_SUFFIX) and value.numel() == 1 and not torch.equal(value, slope):
            raise ValueError(
                f"checkpoint must have one activation slope, got {name} = {value.item()}, not {slope.item()}"
            )
    return converted
