"""MPRNet: three stages on quarters, halves and the whole image (a port with the authors' parameter names)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.multi_stage.cab_encoder_decoder import CABDecoder, CABEncoder
from ..layers.multi_stage.channel_attention import CAB
from ..layers.multi_stage.original_resolution import ORSNet
from ..layers.multi_stage.supervised_attention import SAM
from ..ops.checks import check_feature_map, check_positive
from ..ops.padding import channels_last, pad_to_multiple
from ..serialization.registry import NETWORKS
from .mprnet_state_dict import PretrainedMPRNet

__all__ = ["MPRNet", "mprnet_deblurring", "mprnet_denoising", "mprnet_deraining"]

_SIZE_MULTIPLE = 8


@NETWORKS.register
class MPRNet(PretrainedMPRNet, nn.Module):
    r"""Multi-stage progressive restoration: every stage restores the image, each on larger parts of it than the last.

    .. math:: X_s = I + R_s,\qquad s = 1, 2, 3

    Stage 1 encodes the four quarters and decodes the two halves, stage 2 encodes the halves and decodes the whole, both
    with a U-Net of channel attention blocks; stage 3 works on the whole at full resolution (:class:`ORSNet`). Between
    stages go supervised attention (:class:`SAM`) and cross-stage feature fusion (:class:`CSFF`). Parameter names and
    shapes are the authors'. Deviations, all equal to float rounding: the quarters and the halves run as one batch, 1x1
    convolutions run before upsampling, and on a CPU the features are laid out channels-last.

    Args:
        dim: width ``C`` of the first U-Net level.
        in_channels: channels ``N`` of input and outputs (paper: 3).
        unet_step: channels the U-Nets gain at each level.
        orsnet_step: stage 3 is ``dim + orsnet_step`` wide.
        num_cabs: channel attention blocks in each of the three blocks of stage 3.
        kernel_size: odd kernel size.
        reduction: bottleneck ratio of the channel attention.
        bias: give the convolutions a bias (the published nets have none).

    Shape:
        - Input: image ``(B, N, H, W)``, values in [0, 1], any size from 1x1 up. Inside it is padded at the bottom and
          right to a multiple of ``size_multiple = 8`` (reflection; replication along an axis too short for it), as the
          authors' demo does, and then cut in the middle; the outputs are cropped.
        - Output: list ``[stage 3, stage 2, stage 1]`` of images ``(B, N, H, W)``, not clamped, in training and in eval.

    Raises:
        TypeError: an integer option is not an integer; the input is not a floating-point tensor.
        ValueError: an option is out of range; the input has another rank or channel count.

    Note:
        One PReLU slope is shared by all blocks, as in the authors' net. Checkpoints list it once per block, and so does
        ``state_dict()``; there only the first entry is the live parameter and the others are copies, because formats
        such as safetensors refuse entries that share memory. Stages 1 and 2 see only their part of the image: the
        middle lines are borders to them, and the channel attention averages over a part, so tiles give other numbers.
        Training and eval do the same. 279 GFLOPs (2 per multiply-add) at 256x256 with the defaults.

    Example:
        >>> net = MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1)
        >>> [tuple(stage.shape) for stage in net(torch.rand(1, 3, 30, 17))]
        [(1, 3, 30, 17), (1, 3, 30, 17), (1, 3, 30, 17)]

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021.
    """

    size_multiple = _SIZE_MULTIPLE

    def __init__(
        self,
        dim: int = 40,
        *,
        in_channels: int = 3,
        unet_step: int = 20,
        orsnet_step: int = 16,
        num_cabs: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.in_channels = check_positive("in_channels", in_channels)
        check_positive("orsnet_step", orsnet_step)
        check_positive("kernel_size", kernel_size)
        act = nn.PReLU()
        conv = partial(nn.Conv2d, kernel_size=kernel_size, padding=kernel_size // 2, bias=bias)
        block = partial(CAB, dim, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act)
        encoder = partial(
            CABEncoder, dim, unet_step=unet_step, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act
        )
        decoder = partial(
            CABDecoder, dim, unet_step=unet_step, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act
        )
        self.shallow_feat1 = nn.Sequential(conv(in_channels, dim), block())
        self.shallow_feat2 = nn.Sequential(conv(in_channels, dim), block())
        self.shallow_feat3 = nn.Sequential(conv(in_channels, dim), block())
        self.stage1_encoder = encoder()
        self.stage1_decoder = decoder()
        self.stage2_encoder = encoder(fuse=True)
        self.stage2_decoder = decoder()
        self.stage3_orsnet = ORSNet(
            dim,
            unet_step=unet_step,
            orsnet_step=orsnet_step,
            num_cabs=num_cabs,
            kernel_size=kernel_size,
            reduction=reduction,
            bias=bias,
            act=act,
        )
        self.sam12 = SAM(dim, in_channels=in_channels, bias=bias)
        self.sam23 = SAM(dim, in_channels=in_channels, bias=bias)
        self.concat12 = conv(2 * dim, dim)
        self.concat23 = conv(2 * dim, dim + orsnet_step)
        self.tail = conv(dim + orsnet_step, in_channels)
        self.register_state_dict_post_hook(_copy_repeated_entries)  # type: ignore[no-untyped-call]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every channel attention block in the backward pass: less memory, about a third more time."""
        for module in self.modules():
            if isinstance(module, CAB):
                module.grad_checkpointing = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the restored images ``[stage 3, stage 2, stage 1]``."""
        check_feature_map(x, self.in_channels)
        height, width = x.shape[2:]
        image = pad_to_multiple(x, self.size_multiple)
        if image.device.type == "cpu":
            # oneDNN convolves channels-last about 1.5 times as fast; on a GPU the layout stays the caller's choice.
            image = channels_last(image)
        halves = _stack_halves(image, dim=2)

        encoded = self.stage1_encoder(self.shallow_feat1(_stack_halves(halves, dim=3)))
        encoded = [_join_halves(feature, dim=3) for feature in encoded]
        decoded = self.stage1_decoder(encoded)
        supervised, stage1 = self.sam12(decoded[0], halves)

        fused = self.concat12(torch.cat((self.shallow_feat2(halves), supervised), dim=1))
        encoded = self.stage2_encoder(fused, encoded, decoded)
        encoded = [_join_halves(feature, dim=2) for feature in encoded]
        decoded = self.stage2_decoder(encoded)
        supervised, stage2 = self.sam23(decoded[0], image)

        fused = self.concat23(torch.cat((self.shallow_feat3(image), supervised), dim=1))
        stage3 = self.tail(self.stage3_orsnet(fused, encoded, decoded)) + image

        stages = (stage3, stage2, _join_halves(stage1, dim=2))
        return [_crop(stage, height, width) for stage in stages]


def mprnet_deraining(**overrides: Any) -> MPRNet:
    """MPRNet as published for deraining: 3.64 M parameters; ``overrides`` go to :class:`MPRNet`.

    Example:
        >>> f"{sum(p.numel() for p in mprnet_deraining().parameters()):,} parameters"
        '3,637,249 parameters'
    """
    return MPRNet(**{"dim": 40, "unet_step": 20, "orsnet_step": 16, **overrides})


def mprnet_denoising(**overrides: Any) -> MPRNet:
    """MPRNet as published for real-noise removal: 15.74 M parameters; ``overrides`` go to :class:`MPRNet`.

    Example:
        >>> f"{sum(p.numel() for p in mprnet_denoising().parameters()):,} parameters"
        '15,741,025 parameters'
    """
    return MPRNet(**{"dim": 80, "unet_step": 48, "orsnet_step": 32, **overrides})


def mprnet_deblurring(**overrides: Any) -> MPRNet:
    """MPRNet as published for deblurring: 20.13 M parameters; ``overrides`` go to :class:`MPRNet`.

    Example:
        >>> f"{sum(p.numel() for p in mprnet_deblurring().parameters()):,} parameters"
        '20,127,073 parameters'
    """
    return MPRNet(**{"dim": 96, "unet_step": 48, "orsnet_step": 32, **overrides})


def _crop(x: Tensor, height: int, width: int) -> Tensor:
    """Keep the top left part; unlike a slice, negative padding leaves no guard on the size in a dynamic export."""
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2])).contiguous()


def _stack_halves(x: Tensor, dim: int) -> Tensor:
    """Cut ``x`` in the middle of ``dim`` and stack the halves along the batch, ``(B, ...) -> (2 B, ...)``."""
    return torch.cat(_halves(x, dim), dim=0)


def _join_halves(x: Tensor, dim: int) -> Tensor:
    """Undo :func:`_stack_halves`."""
    return torch.cat(_halves(x, 0), dim=dim)


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    half = x.shape[dim] // 2
    return x.narrow(dim, 0, half), x.narrow(dim, half, half)


def _copy_repeated_entries(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Give every repeated entry of a shared parameter memory of its own, except the first, which stays live.

    Entries that are parameters themselves (``state_dict(keep_vars=True)``) are left alone.
    """
    seen: set[nn.Parameter] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        value = state_dict.get(prefix + name)
        if parameter in seen and isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            state_dict[prefix + name] = value.clone()
        seen.add(parameter)
