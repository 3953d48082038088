"""ClusIR in timm's registry: importing this module registers ``clusir_tiny``, ``clusir_small`` and ``clusir_base``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import (
    FeatureInfo,
    generate_default_cfgs,
    is_model,
    load_pretrained,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor, nn

from ..networks import clusir as _networks
from ..networks.clusir import ClusIR
from ..networks.clusir_encoder import ClusIREncoder, choose_levels
from ..ops.padding import channels_last, pad_to_multiple

__all__ = ["ClusIRFeatures", "clusir_base", "clusir_small", "clusir_tiny", "default_cfgs", "register"]

_SHIPPED = str(_networks.SHIPPED_WEIGHTS)


def _default_cfg(**entries: Any) -> dict[str, Any]:
    """What timm's transforms and loaders should know: images in [0, 1], no classifier."""
    return {
        "input_size": (3, 128, 128),
        "min_input_size": (3, 1, 1),
        "crop_pct": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "num_classes": 0,
        "first_conv": "stages.0.head",
        "classifier": None,
        "license": "apache-2.0",
        "paper_ids": "arXiv:2512.10948",
        **entries,
    }


default_cfgs = generate_default_cfgs(
    {
        "clusir_tiny.all_in_one": _default_cfg(file=_SHIPPED),
        "clusir_small": _default_cfg(),
        "clusir_base": _default_cfg(),
    }
)
"""Configurations by timm's tags; ``all_in_one`` are the weights that come with the package."""


class ClusIRFeatures(nn.Module):
    """Feature pyramid of ClusIR's encoder, as timm's ``features_only`` networks give it.

    The parameters are those of the network's first stage without the decoder, under the same names.

    Args:
        net: the network whose encoder is copied.
        out_indices: levels to give, from 0, full resolution, to 3; negative ones count from the end.

    Shape:
        ``(B, in_channels, H, W)`` in [0, 1] to a list of ``(B, dim 2**l, ceil(H / 16) 16 / 2**l, ...)``, channels last.

    Attributes:
        feature_info: channels, reduction and module of each level, for timm's decoders.

    Raises:
        ValueError: a level that does not exist.
    """

    def __init__(self, net: ClusIR, out_indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        count = net.num_levels
        self.out_indices = choose_levels("out_indices", out_indices, count)
        self.stages = nn.ModuleList([ClusIREncoder.from_network(net)])
        self.size_multiple = net.size_multiple
        info = [
            {"num_chs": net.config["dim"] * 2**level, "reduction": 2**level, "module": f"stages.0.encoder.{level}"}
            for level in range(count)
        ]
        self.feature_info = FeatureInfo(info, self.out_indices)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations of each block in the backward pass instead of keeping them."""
        stage: Any = self.stages[0]
        stage.grad_checkpointing = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        stage: Any = self.stages[0]
        image = channels_last(pad_to_multiple(x, self.size_multiple))
        encoded, _ = stage.encode(image)
        return [encoded[level] for level in self.out_indices]


def clusir_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """:func:`clusir_modules.clusir_tiny` with timm's arguments, see :func:`register`."""
    return _create(_networks.clusir_tiny, pretrained, **kwargs)


def clusir_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """:func:`clusir_modules.clusir_small` with timm's arguments, see :func:`register`."""
    return _create(_networks.clusir_small, pretrained, **kwargs)


def clusir_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """:func:`clusir_modules.clusir_base` with timm's arguments, see :func:`register`."""
    return _create(_networks.clusir_base, pretrained, **kwargs)


def _create(
    size: Callable[..., ClusIR],
    pretrained: bool,
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    features_only: bool = False,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    in_chans: int = 3,
    **settings: Any,
) -> nn.Module:
    cfg: Any = resolve_pretrained_cfg(size.__name__, pretrained_cfg, pretrained_cfg_overlay)
    elsewhere = cfg.url or cfg.hf_hub_id or cfg.state_dict or cfg.file not in (None, _SHIPPED)
    if pretrained and not elsewhere:
        settings["pretrained"] = True
    net = size(in_channels=in_chans, **settings)
    if pretrained and elsewhere:
        load_pretrained(net, cfg.to_dict(), num_classes=0, in_chans=in_chans, cache_dir=cache_dir)
    made: Any = ClusIRFeatures(net, out_indices) if features_only else net
    made.pretrained_cfg = made.default_cfg = cfg.to_dict()
    return made


def register() -> None:
    """Make ``timm.create_model("clusir_base")`` work; calling it again does nothing.

    Arguments of ``create_model``: ``in_chans``, ``features_only`` and ``out_indices`` as for timm's own networks
    (:class:`ClusIRFeatures`), and those of :class:`ClusIR`. Without ``features_only`` the network restores images.
    ``pretrained=True`` loads the weights of the tag, ``pretrained_cfg_overlay`` others; an unknown tag is refused.
    """
    for function in (clusir_tiny, clusir_small, clusir_base):
        if not is_model(function.__name__):
            register_model(function)


register()
