"""ClusIR's encoder: an image to features of four levels and the routing of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers.basic.norm import LayerNorm2d
from ..layers.basic.resample import Downsample
from ..layers.experts.cluster_moe import DEFAULT_EXPERTS, ClusterMoE
from ..layers.multi_stage.cross_stage_fusion import CSFF
from ..layers.protocols import BlockFactory, EvidenceFactory, ExpertsFactory, NormFactory, RouterFactory, make_part
from ..layers.routing.moments import RunningStandardization
from ..layers.routing.pcgrm import PCGRM
from ..layers.routing.routing import Routing, expand_routing
from ..layers.routing.wavelet_evidence import WaveletEvidence
from ..layers.transformer.wtb import WTB
from ..ops.checks import check_feature_map, check_positive
from ..ops.precision import cast_once, convolve
from .parts import check_factories, make_blocks

__all__ = ["ClusIREncoder", "check_lengths", "check_routings", "choose_levels", "run_at_half_resolution"]

_Run: TypeAlias = Callable[..., Any]


def run_at_half_resolution(module: nn.Module, x: Tensor, run: _Run, *args: Any, **kwargs: Any) -> Tensor:
    """Add to ``x`` what a residual module changes in its means of 2x2 pixels (its low-pass Haar band)."""
    low = F.avg_pool2d(x, 2)
    return x + F.interpolate(run(module, low, *args, **kwargs) - low, scale_factor=2.0)


class _EncoderLevel(nn.Module):
    """Blocks, then the mixture of experts, routed by what came into the level."""

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        moe: ClusterMoE,
        evidence: EvidenceFactory,
        *,
        halved: bool,
        standardize_evidence: bool,
    ) -> None:
        super().__init__()
        self.evidence = make_part("evidence", evidence, moe.dim)
        self.standardization = RunningStandardization(moe.dim) if standardize_evidence else None
        self.blocks = nn.ModuleList(blocks)
        self.moe = moe
        self.halved = halved

    def forward(self, x: Tensor, routing: Routing | None, run: _Run) -> tuple[Tensor, Routing]:
        if routing is None:
            # what the routers are asked to tell must not shape the features: see docs/design.md
            routing = self.route(run(self.evidence, x.detach()))
        for block in self.blocks:
            x = run_block(run, block, x)
        if self.halved:
            return run_at_half_resolution(self.moe, x, run, routing=routing), routing
        return run(self.moe, x, routing=routing), routing

    def route(self, evidence: Tensor) -> Routing:
        """Routing by the evidence of the map that came in; not recomputed in the backward pass, it counts moments."""
        routing: Routing = self.moe.router(evidence if self.standardization is None else self.standardization(evidence))
        return routing


class ClusIREncoder(nn.Module):
    r"""Features of an image at four resolutions by ClusIR's encoder.

    A 3x3 convolution, then four levels of blocks and one :class:`ClusterMoE`, routed by the evidence of what comes into
    the level; between levels the resolution is halved. Routers learn from the features as they are: no gradient goes
    from them back into the features (this project's choice, ``docs/design.md``).

    Args:
        follows: whether it belongs to a later stage of the same ``dim``, which takes in the features of the stage
            before: those that :class:`SAM` let pass, joined to the first ones by a 3x3 convolution, and those of
            encoder and decoder by :class:`CSFF`. Such an encoder needs the features of the earlier
            stage and cannot be used alone.

    The other arguments are those of :class:`ClusIR`.

    Shape:
        Image ``(B, in_channels, H, W)`` in [0, 1], ``H`` and ``W`` multiples of 16, to a tuple of four maps
        ``(B, dim 2**l, H / 2**l, W / 2**l)``, ``l = 0..3``. With ``return_routing=True``: the tuple, and one
        :class:`Routing` for each level.

    Raises:
        ValueError: settings that do not fit each other; in ``forward`` a wrong shape.
        TypeError: a setting of a wrong type, a finished module as a part; in ``forward`` an integer image.

    Note: fastest channels last.

    Example:
        >>> encoder = ClusIREncoder(8, num_heads=(1, 1, 2, 2), num_blocks=(1, 1, 1, 1))
        >>> [tuple(features.shape[1:]) for features in encoder(torch.rand(2, 3, 32, 48))]
        [(8, 32, 48), (16, 16, 24), (32, 8, 12), (64, 4, 6)]

    Reference: ClusIR, arXiv:2512.10948, method overview.
    """

    num_levels: ClassVar[int] = 4
    size_multiple: ClassVar[int] = 16

    def __init__(
        self,
        dim: int = 48,
        *,
        in_channels: int = 3,
        num_blocks: Sequence[int] = (2, 4, 8, 3),
        num_heads: Sequence[int] = (1, 2, 4, 8),
        num_experts: int = 8,
        num_clusters: Sequence[int] = (16, 12, 8, 4),
        top_k: int = 2,
        embed_dim: int = 128,
        wave: str = "haar",
        noise_std: float = 0.0,
        halved_levels: int = 0,
        standardize_evidence: bool = False,
        follows: bool = False,
        block: BlockFactory = WTB,
        evidence: EvidenceFactory = WaveletEvidence,
        router: RouterFactory = PCGRM,
        experts: ExpertsFactory = DEFAULT_EXPERTS,
        norm_layer: NormFactory = LayerNorm2d,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("in_channels", in_channels)
        levels = self.num_levels
        check_lengths(levels, num_blocks=num_blocks, num_heads=num_heads, num_clusters=num_clusters)
        check_factories(block=block, evidence=evidence, router=router, experts=experts, norm_layer=norm_layer)
        if check_positive("halved_levels", halved_levels, least=0) > levels:
            raise ValueError(f"halved_levels must be at most {levels}, got {halved_levels}")
        self.in_channels = in_channels
        self.grad_checkpointing = False
        dims = [dim * 2**level for level in range(levels)]
        self.head = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.join = nn.Conv2d(2 * dim, dim, 3, padding=1) if follows else None
        self.cross_stage = nn.ModuleList(CSFF(width) for width in dims[:-1]) if follows else None
        self.encoder = nn.ModuleList(
            _EncoderLevel(
                make_blocks(block, dims[level], num_heads[level], num_blocks[level], wave=wave, norm_layer=norm_layer),
                ClusterMoE(
                    dims[level],
                    num_experts=num_experts,
                    num_clusters=num_clusters[level],
                    top_k=top_k,
                    embed_dim=embed_dim,
                    hidden_dim=dims[level] // 2,
                    noise_std=noise_std,
                    router=router,
                    experts=experts,
                    norm_layer=norm_layer,
                ),
                evidence,
                halved=level < halved_levels,
                standardize_evidence=standardize_evidence,
            )
            for level in range(levels)
        )
        self.downs = nn.ModuleList(Downsample(width) for width in dims[:-1])

    @classmethod
    def from_network(cls, net: nn.Module) -> Self:
        """Copy the encoder of a :class:`ClusIR`, of its first stage if it has several; the network is left whole.

        Raises:
            TypeError: it is another network.
        """
        stages = getattr(net, "stages", None)
        stage = stages[0] if isinstance(stages, nn.ModuleList) and len(stages) else None
        if not isinstance(stage, ClusIREncoder):
            raise TypeError(f"net must be a ClusIR, got {type(net).__name__}")
        encoder = cls.__new__(cls)
        nn.Module.__init__(encoder)
        shared: dict[int, Any] = {}  # a module that two of them hold stays one
        for name in ("in_channels", "grad_checkpointing", "head", "join", "cross_stage", "encoder", "downs"):
            setattr(encoder, name, copy.deepcopy(getattr(stage, name), shared))
        return encoder.train(stage.training)

    @overload
    def forward(
        self, image: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[False] = ...
    ) -> tuple[Tensor, ...]: ...

    @overload
    def forward(
        self, image: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[True]
    ) -> tuple[tuple[Tensor, ...], tuple[Routing, ...]]: ...

    def forward(self, image: Tensor, *, routings: Sequence[Routing] | None = None, return_routing: bool = False) -> Any:
        check_feature_map(image, self.in_channels, "image")
        if image.shape[2] % self.size_multiple or image.shape[3] % self.size_multiple:
            raise ValueError(
                f"image must have sides that are multiples of {self.size_multiple}, got {tuple(image.shape)}"
            )
        if routings is not None:
            routings = check_routings(routings, self.num_levels, image.shape[0])
        with cast_once(image, self):
            features, used = self.encode(image, routings=routings)
        return (features, used) if return_routing else features

    def encode(
        self,
        image: Tensor,
        *,
        routings: Sequence[Routing] | None = None,
        attended: Tensor | None = None,
        earlier: Any = None,
    ) -> tuple[tuple[Tensor, ...], tuple[Routing, ...]]:
        """Return the features and the routings of the levels.

        Args:
            image: as for :meth:`forward`.
            routings: to use instead of the routers' own, one for each level.
            attended: features of the earlier stage that :class:`SAM` let pass; with ``follows`` alone.
            earlier: :class:`StageFeatures` of the earlier stage; with ``follows`` alone.
        """
        check_feature_map(image, self.in_channels, "image")
        for name, given in (("attended", attended), ("earlier", earlier)):
            if (given is not None) != (self.join is not None):
                raise ValueError(f"{name} must be given to a stage with follows=True and to no other")
        x = convolve(self.head, image)
        if self.join is not None and attended is not None:
            x = self.join(torch.cat((attended, x), dim=1))
        encoded, used = [], []
        for number, level in enumerate(self.encoder):
            x, routing = level(x, None if routings is None else routings[number], self._run)
            if self.cross_stage is not None and earlier is not None and number < self.num_levels - 1:
                x = self.cross_stage[number](x, earlier.encoded[number], earlier.decoded[number])
            encoded.append(x)
            used.append(routing)
            if number < self.num_levels - 1:
                x = self.downs[number](x)
        return tuple(encoded), tuple(used)

    def route_parts(self, images: Sequence[Tensor], handed_on: Sequence[Mapping[str, Any]]) -> tuple[Routing, ...]:
        """Return the routings of a picture from parts of it: the evidence is the mean of that of the parts.

        One map of each part is kept from level to level: the features behind a level depend on its routing.

        Args:
            images: parts of one size, each as for :meth:`encode`.
            handed_on: for each part the further arguments of :meth:`encode`.
        """
        maps = [self.head(image) for image in images]
        if self.join is not None:
            maps = [self.join(torch.cat((given["attended"], x), dim=1)) for x, given in zip(maps, handed_on)]
        used: list[Routing] = []
        for number, level in enumerate(cast(Iterable[_EncoderLevel], self.encoder)):
            evidence = torch.stack([level.evidence(x) for x in maps]).mean(dim=0)
            used.append(level.route(evidence))
            if number == self.num_levels - 1:
                break
            for part, given in enumerate(handed_on):
                x, _ = level(maps[part], used[-1], self._run)
                if self.cross_stage is not None:
                    earlier = given["earlier"]
                    x = self.cross_stage[number](x, earlier.encoded[number], earlier.decoded[number])
                maps[part] = self.downs[number](x)
        return tuple(used)

    def _run(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False, **kwargs)
        return module(*args, **kwargs)


def run_block(run: _Run, block: nn.Module, x: Tensor) -> Tensor:
    """Run a block, which may be somebody's own.

    Raises:
        ValueError: it returns another shape than it was given.
    """
    y: Tensor = run(block, x)
    if not torch.compiler.is_compiling() and y.shape != x.shape:
        raise ValueError(
            f"block must keep the shape of its map, {tuple(x.shape)}, {type(block).__name__} returned {tuple(y.shape)}"
        )
    return y


def choose_levels(name: str, indices: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return levels counted from 0: the last ``indices`` of them, all for None, or those named, negative from the end.

    Raises:
        ValueError: there is none, or one does not exist.
    """
    if indices is None or isinstance(indices, int):
        indices = range(-(count if indices is None else indices), 0)
    levels = tuple(level + count if level < 0 else level for level in indices)
    if not levels or not all(0 <= level < count for level in levels):
        raise ValueError(f"{name} must be in [{-count}, {count - 1}], got {tuple(indices)}")
    return levels


def check_lengths(length: int, **settings: Sequence[int]) -> None:
    """Refuse settings that are not one integer for each level.

    Raises:
        TypeError: one is not a sequence, or holds something else.
        ValueError: one is of another length, or a value is too small.
    """
    for name, values in settings.items():
        if not isinstance(values, Sequence):
            raise TypeError(f"{name} must be a sequence of {length} ints, got {type(values).__name__} {values!r}")
        if len(values) != length:
            raise ValueError(f"{name} must have {length} entries, got {tuple(values)}")
        for value in values:
            check_positive(name, value, least=0 if name.endswith("blocks") else 1)


def check_routings(routings: Sequence[Routing], expected: int, batch: int) -> tuple[Routing, ...]:
    """Return ``expected`` routings for ``batch`` images.

    Raises:
        TypeError: they are no sequence of :class:`Routing`.
        ValueError: there is another number of them, or one belongs to another number of images.
    """
    if not isinstance(routings, Sequence):
        raise TypeError(f"routings must be a sequence of {expected} Routings, got {type(routings).__name__}")
    if len(routings) != expected:
        raise ValueError(f"routings must hold {expected}, one for each encoder level, got {len(routings)}")
    return tuple(expand_routing(routing, batch) for routing in routings)
