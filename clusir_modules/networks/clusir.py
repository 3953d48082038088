"""ClusIR: cluster-guided all-in-one image restoration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor, nn

from ..layers.basic.initial import start_small
from ..layers.experts.cluster_moe import expand_routing
from ..layers.multi_stage.supervised_attention import SAM
from ..layers.routing.pcgrm import Routing
from ..ops.checks import check_feature_map, check_not_empty, check_positive
from ..ops.padding import crop, pad_to_multiple
from ..serialization.checkpoints import load_weights
from ..serialization.pretrained import HubMixin
from .clusir_stage import NUM_LEVELS, ClusIRStage, StageFeatures

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "clusir_tiny.safetensors"
"""The weights of ``clusir_tiny(pretrained=True)``."""


class ClusIR(HubMixin, nn.Module, settings_of=ClusIRStage, but_not=("follows",)):
    r"""Restore images of any of the learned degradations, recognized from the image itself.

    .. math:: y = x + W * D(x)

    with the features :math:`D` of :class:`ClusIRStage` and a 3x3 convolution. The residual to the input is this
    project's choice, and so are the stages behind each other: with ``supervised_stages`` above 1, each stage but the
    last restores the image through :class:`SAM`, which a loss of its own supervises, and hands its features on.

    Args:
        dim: channels at full resolution.
        in_channels: channels of the image, in and out.
        supervised_stages: how many times the image is restored, each time by parameters of its own.
        gain: multiply the image too: :math:`y = x \odot (1 + W_g * D(x)) + W * D(x)`. What haze and darkness do to an
            image is undone by a factor and an offset that vary slowly, and the details come with the image.
        settings: the other arguments of :class:`ClusIRStage`.

    Shape:
        Input and output: ``(B, in_channels, H, W)`` in [0, 1], any ``H, W >= 1``. Inside, the image is extended to
        multiples of :attr:`size_multiple` by reflection. The output is not clamped. With ``supervised_stages`` above 1
        the output is a list of images, the final one first, as MPRNet's. With ``return_routing=True`` it is
        ``(output, routings)``, four :class:`Routing` for each stage, those of the first stage first.

    Raises:
        ValueError: sizes that do not fit each other; in ``forward`` a wrong shape or routings that do not fit.
        TypeError: an integer image.

    Note: activations run channels last. In eval an image's output does not depend on its batch mates.

    Example:
        >>> net = clusir_tiny()
        >>> image = torch.rand(1, 3, 37, 50)
        >>> routings = net.route(image)
        >>> net(image, routings=routings).shape, len(routings)
        (torch.Size([1, 3, 37, 50]), 4)

    References: ClusIR, arXiv:2512.10948; Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021.
    """

    size_multiple = 16

    def __init__(
        self,
        dim: int = 48,
        *,
        in_channels: int = 3,
        supervised_stages: int = 1,
        gain: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_positive("supervised_stages", supervised_stages)
        self.in_channels = in_channels
        self.stages = nn.ModuleList(
            ClusIRStage(dim, in_channels=in_channels, follows=number > 0, **settings)
            for number in range(supervised_stages)
        )
        self.attentions = nn.ModuleList(SAM(dim, image_channels=in_channels) for _ in range(supervised_stages - 1))
        self.gain = gain
        self.tail = nn.Conv2d(dim, (2 if gain else 1) * in_channels, 3, padding=1)
        start_small(self.tail)
        self.record_settings("top_k", "num_prompt_heads", "wave", "halved_levels")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations of each block in the backward pass instead of keeping them."""
        for stage in cast(Iterable[ClusIRStage], self.stages):
            stage.grad_checkpointing = enable

    def route(self, x: Tensor) -> tuple[Routing, ...]:
        """Return the routings for images ``(B, in_channels, H, W)`` without decoding the final stage."""
        check_feature_map(x, self.in_channels)
        check_not_empty(x)
        image = self._prepare(x)
        _, used, handed_on = self._run_earlier_stages(image, None)
        return used + cast(ClusIRStage, self.stages[-1]).encode(image, **handed_on)[1]

    def route_parts(self, parts: Sequence[Tensor]) -> tuple[Routing, ...]:
        """Return the routings of pictures too large for :meth:`route`, of which ``parts`` show enough.

        As :meth:`route` with every mean over the picture taken over the parts. Their features are computed one after
        the other, so a picture cut into parts needs less memory; it differs by what the blocks see of a part alone.

        Args:
            parts: of each picture the same number, all of one shape ``(B, in_channels, h, w)``.

        Raises:
            ValueError: there is no part, one has a wrong shape or their shapes differ.
        """
        if not parts or any(part.shape != parts[0].shape for part in parts):
            raise ValueError(f"parts must have one shape, got {[tuple(part.shape) for part in parts]}")
        check_feature_map(parts[0], self.in_channels, "parts")
        images = [self._prepare(part) for part in parts]
        handed_on: list[dict[str, Any]] = [{} for _ in parts]
        used: tuple[Routing, ...] = ()
        for number, stage in enumerate(cast(Iterable[ClusIRStage], self.stages)):
            routings = stage.route_parts(images, handed_on)
            used += routings
            if number < len(self.attentions):
                for part, image in enumerate(images):
                    features: StageFeatures = stage(image, routings=routings, **handed_on[part])
                    attended, _ = self.attentions[number](features.decoded[0], image)
                    handed_on[part] = {"attended": attended, "earlier": features}
        return used

    @overload
    def forward(
        self, x: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[False] = ...
    ) -> Any: ...

    @overload
    def forward(
        self, x: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[True]
    ) -> tuple[Any, tuple[Routing, ...]]: ...

    def forward(self, x: Tensor, *, routings: Sequence[Routing] | None = None, return_routing: bool = False) -> Any:
        check_feature_map(x, self.in_channels)
        check_not_empty(x)
        if routings is not None:
            expected = NUM_LEVELS * len(self.stages)
            if not isinstance(routings, Sequence):
                raise TypeError(f"routings must be a sequence of {expected} Routings, got {type(routings).__name__}")
            if len(routings) != expected:
                raise ValueError(f"routings must hold {expected}, one for each encoder level, got {len(routings)}")
            routings = tuple(expand_routing(routing, x.shape[0]) for routing in routings)
        image = self._prepare(x)
        images, used, handed_on = self._run_earlier_stages(image, routings)
        last = self.stages[-1](image, routings=None if routings is None else routings[-NUM_LEVELS:], **handed_on)
        images.insert(0, self._correct(image, last.decoded[0]))
        images = [crop(y, x.shape[2], x.shape[3]) for y in images]
        output = images if len(self.stages) > 1 else images[0]
        return (output, used + last.routings) if return_routing else output

    def _prepare(self, x: Tensor) -> Tensor:
        return pad_to_multiple(x, self.size_multiple).contiguous(memory_format=torch.channels_last)

    def _correct(self, image: Tensor, features: Tensor) -> Tensor:
        correction: Tensor = self.tail(features)
        if not self.gain:
            return image + correction
        gain, offset = correction.chunk(2, dim=1)
        return torch.addcmul(image + offset, image, gain)

    def _run_earlier_stages(
        self, image: Tensor, routings: Sequence[Routing] | None
    ) -> tuple[list[Tensor], tuple[Routing, ...], dict[str, Any]]:
        """Images that the stages before the last restored, latest first, routings, and what they hand on."""
        images: list[Tensor] = []
        used: tuple[Routing, ...] = ()
        handed_on: dict[str, Any] = {}
        for number, attention in enumerate(self.attentions):
            given = None if routings is None else routings[NUM_LEVELS * number : NUM_LEVELS * (number + 1)]
            features: StageFeatures = self.stages[number](image, routings=given, **handed_on)
            attended, restored = attention(features.decoded[0], image)
            handed_on = {"attended": attended, "earlier": features}
            images.insert(0, restored)
            used += features.routings
        return images, used, handed_on


def clusir_tiny(*, pretrained: bool = False, **overrides: Any) -> ClusIR:
    """ClusIR of at most 1.5 M parameters, for CPUs, demonstrations and tests.

    Args:
        pretrained: load the weights that come with the package, trained on noise, rain, haze, blur, low light and
            mixtures; ``clusir_modules/weights/README.md`` says how, and how good they are.
        overrides: arguments of :class:`ClusIR`.

    Raises:
        ValueError: the pretrained weights do not fit the overrides.
    """
    settings: dict[str, Any] = {
        "dim": 16,
        "num_blocks": (1, 2, 3, 1),
        "num_decoder_blocks": (1, 1, 1),
        "num_refinement_blocks": 1,
        "num_experts": 4,
        "embed_dim": 64,
    }
    net = ClusIR(**{**settings, **overrides})
    if pretrained:
        load_weights(net, SHIPPED_WEIGHTS)
    return net


def clusir_small(**overrides: Any) -> ClusIR:
    """ClusIR of at most 10 M parameters; ``overrides`` go to :class:`ClusIR`."""
    settings: dict[str, Any] = {
        "dim": 32,
        "num_blocks": (1, 2, 4, 3),
        "num_decoder_blocks": (1, 1, 1),
        "num_refinement_blocks": 0,
    }
    return ClusIR(**{**settings, **overrides})


def clusir_base(**overrides: Any) -> ClusIR:
    """ClusIR of at most 26 M parameters, the size of the field's networks; ``overrides`` go to :class:`ClusIR`."""
    return ClusIR(**overrides)
