"""Strategies for maps of any size, type, layout and value, and the decorator of the property tests."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
EXAMPLES = os.environ.get("CLUSIR_FUZZ_EXAMPLES")  # set by `make fuzz`
settings.register_profile("clusir-quick", max_examples=5, derandomize=True, **COMMON)
settings.register_profile("clusir-fuzz", max_examples=int(EXAMPLES or 500), print_blob=True, **COMMON)
PROFILE = settings.get_profile("clusir-fuzz" if EXAMPLES else "clusir-quick")


@dataclass
class Count:
    """Cases that this process ran."""

    cases: int = 0


COUNT = Count()
COVERED: set[str] = set()
"""Public names that some property test is about."""


def fuzz(*about: str, share: float = 1, **strategies: st.SearchStrategy[Any]) -> Callable[..., Callable[..., None]]:
    """Run a test on drawn arguments, as many as the profile says.

    Args:
        about: public names that it tests.
        share: part of the profile's number, in the long run, for what is slow; the argument ``spec`` of a test may have
            an attribute ``share`` too.
        strategies: for its arguments.
    """
    COVERED.update(about)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            def one(**drawn: Any) -> None:
                COUNT.cases += 1
                torch.manual_seed(0)
                test(*args, **kwargs, **drawn)

            part = share * getattr(kwargs.get("spec"), "share", 1)
            examples = max(min(5, PROFILE.max_examples), round(PROFILE.max_examples * part))
            settings(PROFILE, max_examples=examples)(given(**strategies)(one))()

        kept = [parameter for name, parameter in signature.parameters.items() if name not in strategies]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return run

    return decorate


FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
VALUES = (
    "normal", "unit", "zeros", "negative zeros", "ones", "constant", "identical", "impulse", "checkerboard", "denormal",
    "smallest",
)  # fmt: skip
LAYOUTS = ("contiguous", "channels last", "every second", "transposed", "flipped", "expanded", "offset")


@dataclass(frozen=True)
class Recipe:
    """How to make a map: drawn by hypothesis, filled by torch."""

    batch: int
    height: int
    width: int
    values: str
    layout: str
    dtype: torch.dtype
    seed: int

    def make(self, *shape: int, salt: int = 0) -> Tensor:
        """A tensor of another shape than a map's, in the same way."""
        generator = torch.Generator().manual_seed(self.seed + 7919 * salt)
        return lay_out(fill(shape, self.values, self.dtype, generator), self.layout)

    def map(self, channels: int, *, salt: int = 0) -> Tensor:
        """``(batch, channels, height, width)``."""
        return self.make(self.batch, channels, self.height, self.width, salt=salt)

    def image(self, channels: int = 3, *, salt: int = 0) -> Tensor:
        """A map in [0, 1]."""
        return lay_out(torch.clamp(self.map(channels, salt=salt).abs(), 0, 1), self.layout)


def fill(shape: tuple[int, ...], values: str, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A contiguous tensor with one kind of content."""
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    match values:
        case "normal":
            made = normal
        case "unit":
            made = torch.rand(shape, generator=generator, dtype=torch.float64)
        case "zeros":
            made = torch.zeros_like(normal)
        case "negative zeros":
            made = -torch.zeros_like(normal)
        case "ones":
            made = torch.ones_like(normal)
        case "constant":
            made = torch.full_like(normal, float(torch.randn((), generator=generator)))
        case "identical":
            made = normal[:1].expand_as(normal)
        case "impulse":
            made = torch.zeros_like(normal)
            made.view(-1)[: made.numel() // 2 + 1][-1:] = 1
        case "checkerboard":
            made = (torch.arange(normal.numel()) % 2).double().view(shape)
        case "denormal":
            made = normal * torch.finfo(dtype).tiny / 4
        case "smallest":
            made = normal.sign() * torch.finfo(dtype).smallest_normal
        case _:
            raise AssertionError(values)
    return made.to(dtype).contiguous()


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values at other places in memory; "expanded" repeats the first row of the first dimension."""
    match layout:
        case "channels last" if x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        case "every second":
            return x.repeat_interleave(2, -1)[..., ::2]
        case "transposed" if x.dim() > 1:
            return x.transpose(-1, -2).contiguous().transpose(-1, -2)
        case "flipped":  # torch has no negative strides: the other order of the batch in memory
            return x.movedim(0, -1).contiguous().movedim(-1, 0)
        case "expanded" if x.shape[0] > 0:
            return x[:1].expand_as(x)
        case "offset":
            return torch.cat((x.new_ones(3), x.flatten()))[3:].view(x.shape)
        case _:
            return x


SOME = st.integers(1, 3)


def recipes(
    *,
    batch: st.SearchStrategy[int] = SOME,
    most: int = 12,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    values: tuple[str, ...] = VALUES,
    multiple: int = 1,
) -> st.SearchStrategy[Recipe]:
    """Recipes of maps with sides up to ``most`` times ``multiple``; every third side or so is the smallest."""
    side = st.one_of(st.just(1), st.integers(1, most), st.integers(1, most)).map(lambda n: n * multiple)
    return st.builds(
        Recipe,
        batch=batch,
        height=side,
        width=side,
        values=st.sampled_from(values),
        layout=st.sampled_from(LAYOUTS),
        dtype=st.sampled_from(dtypes),
        seed=st.integers(0, 2**31),
    )


def tensors(tree: Any) -> list[Tensor]:
    """The floating-point tensors in a structure."""
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor) and t.is_floating_point()]


def to_double(tree: Any) -> Any:
    """The structure with contiguous float64 copies."""
    return pytree.tree_map(
        lambda t: t.detach().double().contiguous().clone() if isinstance(t, Tensor) and t.is_floating_point() else t,
        tree,
    )


def tolerance(dtype: torch.dtype, factor: float = 1.0) -> float:
    """Relative error that a small network may have in a type; unlike eps it is what was seen, with room."""
    return factor * {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}[dtype]


def assert_near(actual: Tensor, expected: Tensor, relative: float, scale: float = 0.0) -> None:
    """Compare norms: the error may be ``relative`` of what is expected, or of ``scale`` a number if that is more."""
    actual, expected = actual.double(), expected.double()
    assert torch.isfinite(expected).all(), "the reference is not finite"
    assert torch.isfinite(actual).all(), "not finite"
    bound = relative * max(float(expected.norm()), scale * expected.numel() ** 0.5)
    error = float((actual - expected).norm())
    assert error <= bound + 1e-300, f"error {error:.3g} exceeds {bound:.3g}"
