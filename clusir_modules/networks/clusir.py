"""ClusIR: cluster-guided all-in-one image restoration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, overload

import torch
from torch import Tensor, nn

from ..layers.basic.norm import LayerNorm2d
from ..layers.basic.small_conv import SmallConv2d
from ..layers.experts.cluster_moe import DEFAULT_EXPERTS
from ..layers.frequency.dafmm import DAFMM
from ..layers.multi_stage.supervised_attention import SAM
from ..layers.protocols import (
    BlockFactory,
    EvidenceFactory,
    ExpertsFactory,
    FrequencyFactory,
    NormFactory,
    RouterFactory,
)
from ..layers.routing.pcgrm import PCGRM
from ..layers.routing.routing import Routing
from ..layers.routing.wavelet_evidence import WaveletEvidence
from ..layers.transformer.wtb import WTB
from ..ops.checks import check_feature_map, check_not_empty, check_positive
from ..ops.padding import channels_last, crop, pad_to_multiple
from ..serialization.checkpoints import load_weights
from ..serialization.registry import NETWORKS
from .clusir_encoder import ClusIREncoder, check_routings, choose_levels
from .clusir_stage import ClusIRStage, StageFeatures
from .clusir_state_dict import PretrainedClusIR
from .parts import Prompts

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "clusir_tiny.safetensors"
"""The weights of ``clusir_tiny(pretrained=True)``."""


@NETWORKS.register
class ClusIR(PretrainedClusIR, nn.Module):
    r"""Restore images of any of the learned degradations, recognized from the image itself.

    .. math:: y = x + W * D(x)

    with the features :math:`D` of :class:`ClusIRStage` and a 3x3 convolution. The residual to the input is this
    project's choice, and so are the stages behind each other: with ``supervised_stages`` above 1, each stage but the
    last restores the image through :class:`SAM`, which a loss of its own supervises, and hands its features on.

    Its parts can be exchanged by keyword. A part is given as a factory: a class, a function, or a ``functools.partial``
    of one, which makes the module of each level. ``clusir_modules.layers.protocols`` says what each factory and each
    module is called with; :data:`PARTS` has the names that files may use.

    Args:
        dim: channels at full resolution; level ``l`` has ``dim * 2**l`` at ``1 / 2**l`` of it.
        in_channels: channels of the image, in and out.
        num_blocks: blocks of the four encoder levels.
        num_decoder_blocks: those of the three decoder levels, full resolution first.
        num_refinement_blocks: those behind the decoder, at full resolution.
        num_heads: heads of the channel attentions of the four levels; each keeps at least 2 channels.
        num_experts: experts of a level.
        num_clusters: prototypes of the four levels.
        top_k: experts that an image runs in each level.
        embed_dim: width of embeddings, prototypes and prompt tokens.
        num_prompt_heads: heads of the prompt fusion.
        wave: wavelet of the blocks, handed to them only where it is not "haar".
        noise_std: routing noise in training, see :class:`PCGRM`; handed to the routers only where it is not 0.
        halved_levels: levels, from the finest, whose experts and frequency module work at half of the level's
            resolution.
        standardize_evidence: center the evidence of each router by its running mean, see
            :class:`~clusir_modules.layers.routing.moments.RunningStandardization`.
        supervised_stages: how many times the image is restored, each time by parameters of its own. A *stage* is a
            whole encoder and decoder, as in MPRNet; a *level* is one of its four resolutions (the paper says stage).
        gain: multiply the image too: :math:`y = x \odot (1 + W_g * D(x)) + W * D(x)`. What haze and darkness do to an
            image is undone by a factor and an offset that vary slowly, and the details come with the image.
        block: makes the blocks.
        evidence: makes what a router sees of a map; ``torch.nn.Identity`` lets it see the map itself.
        router: makes the routers. One that makes no prompt tokens needs ``prompts=None``.
        experts: makes the experts of a level.
        prompts: makes the prompts of the frequency modules. None: those run without.
        frequency: makes the frequency modules of the decoder. None: there are none, and no prompts either.
        norm_layer: makes the norms before the experts and in the blocks; handed to these only where it is not
            :class:`~clusir_modules.layers.basic.norm.LayerNorm2d`.

    Shape:
        Input and output: ``(B, in_channels, H, W)`` in [0, 1], any ``H, W >= 1``. Inside, the image is extended to
        multiples of :attr:`size_multiple` by reflection. The output is not clamped. With ``supervised_stages`` above 1
        the output is a list of images, the final one first, as MPRNet's. With ``return_routing=True`` it is
        ``(output, routings)``, four :class:`Routing` for each stage, those of the first stage first.

    Raises:
        ValueError: sizes that do not fit each other; in ``forward`` a wrong shape or routings that do not fit.
        TypeError: an integer image, a setting of a wrong type, or a finished module as a part.

    Note: activations run channels last. In eval an image's output does not depend on its batch mates.

    Example:
        >>> net = clusir_tiny()
        >>> image = torch.rand(1, 3, 37, 50)
        >>> routings = net.route(image)
        >>> net(image, routings=routings).shape, len(routings)
        (torch.Size([1, 3, 37, 50]), 4)

    References: ClusIR, arXiv:2512.10948; Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021.
    """

    num_levels: ClassVar[int] = ClusIREncoder.num_levels
    size_multiple: ClassVar[int] = ClusIREncoder.size_multiple

    def __init__(
        self,
        dim: int = 48,
        *,
        in_channels: int = 3,
        num_blocks: Sequence[int] = (2, 4, 8, 3),
        num_decoder_blocks: Sequence[int] = (2, 4, 4),
        num_refinement_blocks: int = 2,
        num_heads: Sequence[int] = (1, 2, 4, 8),
        num_experts: int = 8,
        num_clusters: Sequence[int] = (16, 12, 8, 4),
        top_k: int = 2,
        embed_dim: int = 128,
        num_prompt_heads: int = 4,
        wave: str = "haar",
        noise_std: float = 0.0,
        halved_levels: int = 0,
        standardize_evidence: bool = False,
        supervised_stages: int = 1,
        gain: bool = False,
        block: BlockFactory = WTB,
        evidence: EvidenceFactory = WaveletEvidence,
        router: RouterFactory = PCGRM,
        experts: ExpertsFactory = DEFAULT_EXPERTS,
        prompts: Prompts | None = Prompts(),  # noqa: B008 - frozen
        frequency: FrequencyFactory | None = DAFMM,
        norm_layer: NormFactory = LayerNorm2d,
    ) -> None:
        super().__init__()
        check_positive("supervised_stages", supervised_stages)
        self.in_channels = in_channels
        self.stages = nn.ModuleList(
            ClusIRStage(
                dim,
                in_channels=in_channels,
                num_blocks=num_blocks,
                num_decoder_blocks=num_decoder_blocks,
                num_refinement_blocks=num_refinement_blocks,
                num_heads=num_heads,
                num_experts=num_experts,
                num_clusters=num_clusters,
                top_k=top_k,
                embed_dim=embed_dim,
                num_prompt_heads=num_prompt_heads,
                wave=wave,
                noise_std=noise_std,
                halved_levels=halved_levels,
                standardize_evidence=standardize_evidence,
                follows=number > 0,
                block=block,
                evidence=evidence,
                router=router,
                experts=experts,
                prompts=prompts,
                frequency=frequency,
                norm_layer=norm_layer,
            )
            for number in range(supervised_stages)
        )
        self.attentions = nn.ModuleList(SAM(dim, in_channels=in_channels) for _ in range(supervised_stages - 1))
        self.gain = gain
        self.tail = SmallConv2d(dim, (2 if gain else 1) * in_channels, 3, padding=1)

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
        """Return the routings of pictures that are too large for :meth:`route`, from parts of them.

        It does what :meth:`route` does, but takes each mean over the parts instead of the whole picture. The features
        of one part are computed at a time, which needs less memory. The result differs a little, because the blocks
        see each part alone.

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
            routings = check_routings(routings, self.num_levels * len(self.stages), x.shape[0])
        image = self._prepare(x)
        images, used, handed_on = self._run_earlier_stages(image, routings)
        last = self.stages[-1](image, routings=None if routings is None else routings[-self.num_levels :], **handed_on)
        images.insert(0, self._correct(image, last.decoded[0]))
        images = [crop(y, x.shape[2], x.shape[3]).contiguous() for y in images]
        output = images if len(self.stages) > 1 else images[0]
        return (output, used + last.routings) if return_routing else output

    def forward_features(self, x: Tensor) -> Tensor:
        """Features that the last output convolution reads, ``(B, dim, ceil(H / 16) 16, ceil(W / 16) 16)``."""
        final, _ = self.forward_intermediates(x)
        return final

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Features of the encoder's levels, under the name and with the arguments that timm gives them.

        Args:
            x: images ``(B, in_channels, H, W)`` in [0, 1].
            indices: levels, from 0, full resolution, to 3; negative ones count from the end, a number means the last
                so many, None all.
            norm: False; the levels have no norm behind them.
            stop_early: no difference here: the decoder runs only where its features are asked for.
            output_fmt: "NCHW".
            intermediates_only: leave the decoder out.

        Returns:
            The features of :meth:`forward_features` and the list of maps ``(B, dim 2**l, ceil(H / 16) 16 / 2**l, ...)``
            of the last supervised stage; with ``intermediates_only`` the list alone.

        Raises:
            ValueError: a level that does not exist, another ``norm`` or ``output_fmt``; a wrong shape.
            TypeError: an integer tensor.
        """
        if norm or output_fmt != "NCHW":
            raise ValueError(f"norm and output_fmt must be False and 'NCHW', got {norm!r} and {output_fmt!r}")
        levels = choose_levels("indices", indices, self.num_levels)
        check_feature_map(x, self.in_channels)
        check_not_empty(x)
        image = self._prepare(x)
        _, _, handed_on = self._run_earlier_stages(image, None)
        last = cast(ClusIRStage, self.stages[-1])
        if intermediates_only:
            encoded, _ = last.encode(image, **handed_on)
            return [encoded[level] for level in levels]
        features: StageFeatures = last(image, **handed_on)
        return features.decoded[0], [features.encoded[level] for level in levels]

    def _prepare(self, x: Tensor) -> Tensor:
        return channels_last(pad_to_multiple(x, self.size_multiple))

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
            given = None if routings is None else routings[self.num_levels * number : self.num_levels * (number + 1)]
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

    Example:
        >>> f"{sum(p.numel() for p in clusir_tiny().parameters()):,} parameters"
        '1,338,233 parameters'
    """
    settings: dict[str, Any] = {
        "dim": 16,
        "num_blocks": (1, 2, 4, 1),
        "num_decoder_blocks": (1, 2, 2),
        "num_refinement_blocks": 1,
        "num_experts": 4,
        "embed_dim": 64,
        "halved_levels": 1,
        "standardize_evidence": True,
        "gain": True,
    }
    net = ClusIR(**{**settings, **overrides})
    if pretrained:
        load_weights(net, SHIPPED_WEIGHTS)
    return net


def clusir_small(*, pretrained: bool = False, **overrides: Any) -> ClusIR:
    """ClusIR of at most 10 M parameters; ``overrides`` are arguments of :class:`ClusIR`.

    Raises:
        ValueError: ``pretrained``, which :func:`clusir_tiny` alone has.

    Example:
        >>> f"{sum(p.numel() for p in clusir_small().parameters()):,} parameters"
        '7,498,799 parameters'
    """
    _refuse_pretrained(pretrained)
    settings: dict[str, Any] = {
        "dim": 32,
        "num_blocks": (1, 2, 4, 3),
        "num_decoder_blocks": (1, 1, 1),
        "num_refinement_blocks": 0,
    }
    return ClusIR(**{**settings, **overrides})


def clusir_base(*, pretrained: bool = False, **overrides: Any) -> ClusIR:
    """ClusIR of at most 26 M parameters, the size of the field's networks; ``overrides`` are arguments of it.

    Raises:
        ValueError: ``pretrained``, which :func:`clusir_tiny` alone has.

    Example:
        >>> f"{sum(p.numel() for p in clusir_base().parameters()):,} parameters"
        '21,823,097 parameters'
    """
    _refuse_pretrained(pretrained)
    return ClusIR(**overrides)


def _refuse_pretrained(pretrained: bool) -> None:
    if pretrained:
        raise ValueError("pretrained weights come with clusir_tiny alone")
