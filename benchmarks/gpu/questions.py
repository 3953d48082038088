"""Questions about correctness: each gives an error that has a bound."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import clusir_modules as cm
from clusir_modules import data

from .setting import Setting, training_step

__all__ = ["Question", "capture", "degradations", "networks", "operators"]

WAVES = ("haar", "db2", "db3", "db4", "db8", "bior2.2", "bior4.4", "sym4", "coif1")
SIZES = ((16, 16), (5, 7), (1, 9), (33, 2), (64, 31))
HALVES = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class Question(NamedTuple):
    """Something that must hold.

    Attributes:
        name: What is asked.
        ask: Gives the error.
        bound: Largest error that is right.
        needs_gpu: Whether there is nothing to ask on a CPU.
    """

    name: str
    ask: Callable[[], float]
    bound: float
    needs_gpu: bool = False


def difference(actual: Any, expected: Any) -> float:
    """Largest difference of tensors, over the largest absolute value of what is expected."""
    worst = 0.0
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        if a.numel():
            exact = e.detach().double().cpu()
            worst = max(worst, float((a.detach().double().cpu() - exact).abs().max() / exact.abs().max()))
    return worst


def distance(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Norm of the difference of all tensors together, over the norm of what is expected."""
    a, e = (
        torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors]) for tensors in (actual, expected)
    )
    return float((a - e).norm() / e.norm())


@contextmanager
def no_waiting(at: Setting) -> Iterator[None]:
    """Make every operator raise for which the host would wait."""
    if at.cpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def networks(at: Setting) -> Iterator[Question]:
    """Networks on the device against the same on the CPU in float32."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 3, 75, 101, generator=generator)
    # what trained weights make of white noise alone says little of pictures
    smooth = F.interpolate(torch.rand(3, 3, 6, 8, generator=generator), size=noise.shape[2:], mode="bilinear")
    built: dict[str, Callable[[], nn.Module]] = {
        **at.networks,
        "clusir_tiny pretrained": partial(cm.clusir_tiny, pretrained=True),
        **({} if at.cpu else {"clusir_small": cm.clusir_small, "mprnet_deraining": cm.mprnet_deraining}),
    }
    for name, build in built.items():
        torch.manual_seed(0)
        net = build().eval()
        there = copy.deepcopy(net).to(at.device)
        pictures = 0.8 * smooth + 0.2 * noise if "pretrained" in name else noise
        x = pictures[:, :, :33, :50] if at.cpu else pictures
        with torch.no_grad():
            expected = net(x)

        def run(there: nn.Module = there, x: Tensor = x, half: torch.dtype | None = None) -> Any:
            with torch.no_grad(), torch.autocast(at.device.type, dtype=half, enabled=half is not None):
                return there(x.to(at.device))

        def one_by_one(there: nn.Module = there, x: Tensor = x) -> list[Any]:
            with torch.no_grad():
                return [tree_leaves(there(picture.to(at.device)[None])) for picture in x]

        def mates(run: Callable[[], Any] = run, alone: Callable[[], list[Any]] = one_by_one) -> float:
            return difference([torch.cat(parts) for parts in zip(*alone(), strict=True)], tree_leaves(run()))

        yield Question(f"{name}: float32 is the CPU's", lambda run=run, e=expected: difference(run(), e), 1e-5)
        for half, label in HALVES.items():
            bound = 0.1 if "pretrained" in name else 0.02
            yield Question(
                f"{name}: autocast {label} is near it",
                lambda run=run, e=expected, half=half: difference(run(half=half), e),
                bound,
                needs_gpu=half is torch.float16,
            )
        yield Question(f"{name}: a picture does not see its batch mates", mates, 1e-5)
        yield Question(f"{name}: gradients are the CPU's", partial(_gradient_error, net, there, x[:1]), 1e-3)


def _gradient_error(net: nn.Module, there: nn.Module, x: Tensor) -> float:
    gradients = []
    for module, picture in ((there, x.to(next(there.parameters()).device)), (net, x)):
        module.zero_grad()
        sum(output.square().mean() for output in tree_leaves(module(picture))).backward()
        gradients.append([p.grad for p in module.parameters()])
        module.zero_grad()
    return distance(*gradients)


def operators(at: Setting) -> Iterator[Question]:
    """Wavelets, tiles, and that nothing waits."""
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 1e-2)):
        yield Question(f"wavelets and back in {str(dtype)[6:]}", partial(_wavelet_error, at, dtype), bound)
    net = cm.clusir_tiny(pretrained=True).eval()

    def tiled() -> float:
        picture = torch.rand(3, 100, 140, generator=torch.Generator().manual_seed(0))
        settings = {"tile": 64, "overlap": 16, "progress": False}
        return difference(cm.restore(net, picture, device=at.device, **settings), cm.restore(net, picture, **settings))

    yield Question("restore in tiles is the CPU's", tiled, 1e-4)

    def unwaited() -> float:
        there = at.build()
        step, batch = training_step(there, capture=False, average=copy.deepcopy(there)), at.draw_batch()
        step.accumulate(batch, 0, first=True)
        step.update()
        with no_waiting(at):
            step.accumulate(batch, 1, first=True)
            step.update()
        return 0.0

    yield Question("no operator of a training step waits for the device", unwaited, 0.0, needs_gpu=True)

    def repeated() -> float:
        there, results = at.build(), []
        torch.use_deterministic_algorithms(True)
        try:
            for _ in range(2):
                there.zero_grad()
                there(at.draw_batch()["lq"]).square().mean().backward()
                results.append([p.grad.clone() for p in there.parameters()])
        finally:
            torch.use_deterministic_algorithms(False)
        return distance(*results)

    yield Question("use_deterministic_algorithms gives equal gradients", repeated, 0.0)


def _wavelet_error(at: Setting, dtype: torch.dtype) -> float:
    worst = 0.0
    for wave, (height, width) in itertools.product(WAVES, SIZES):
        x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))
        expected = cm.dwt2d(x, wave)
        bands = cm.dwt2d(x.to(at.device, dtype), wave)
        worst = max(worst, difference(bands, expected), difference(cm.idwt2d(*bands, wave), cm.idwt2d(*expected, wave)))
    return worst


def capture(at: Setting) -> Iterator[Question]:
    """A captured training step against the same without a graph; on a CPU both are without."""
    for amp, accum_iter in ((None, 1), (torch.bfloat16, 1), (torch.bfloat16, 2)):
        label = f"{'float32' if amp is None else 'bf16'}, {accum_iter} batches a step"
        trained = partial(_train, at, amp, accum_iter)

        def gradient(trained: Callable[..., tuple[list[Tensor], ...]] = trained) -> float:
            return distance(trained(True, 1)[0], trained(False, 1)[0])

        def weights(trained: Callable[..., tuple[list[Tensor], ...]] = trained) -> float:
            """Over the difference of two runs without a graph, which atomic additions make."""
            captured, once, again = trained(True, 6), trained(False, 6), trained(False, 6)
            own = max(distance(a, b) for a, b in zip(again[1:], once[1:], strict=True))
            return max(distance(a, b) for a, b in zip(captured[1:], once[1:], strict=True)) / max(own, 1e-5)

        bound = 1e-5 if amp is None else 1e-2
        yield Question(f"captured gradient is that without a graph ({label})", gradient, bound)
        yield Question(f"captured weights, average and losses differ as two runs do ({label})", weights, 10.0)
    yield Question("a captured step with a damaged batch changes nothing", partial(_damaged, at), 0.0)
    yield Question("a captured step makes the host wait only for its report", partial(_unwaited_replay, at), 0.0, True)


def _train(
    at: Setting, amp: torch.dtype | None, accum_iter: int, captured: bool, count: int
) -> tuple[list[Tensor], ...]:
    """Gradients of the last batch, weights, averages and losses after some batches."""
    net = at.build()
    average, losses = copy.deepcopy(net), []
    step = training_step(net, capture=captured and not at.cpu, amp=amp, average=average, accum_iter=accum_iter)
    for number in range(count):
        step.accumulate(at.draw_batch(number), number, first=number % accum_iter == 0)
        gradients = [p.grad.clone() for p in net.parameters()]
        if (number + 1) % accum_iter == 0:
            step.update()
        step.send_report()
        losses.append(torch.tensor(list(step.read_report().terms.values())))
    return gradients, list(net.parameters()), list(average.parameters()), losses


def _damaged(at: Setting) -> float:
    net = at.build()
    step, batch = training_step(net, capture=not at.cpu), at.draw_batch()
    step.accumulate(batch, 0, first=True)
    step.update()
    before = [p.detach().clone() for p in net.parameters()]
    batch["lq"][0, 0, 0, 0] = math.nan
    step.accumulate(batch, 1, first=True)
    step.update()
    step.send_report()
    if step.read_report().batch_is_finite:
        return math.inf
    return distance(list(net.parameters()), before)


def _unwaited_replay(at: Setting) -> float:
    net = at.build()
    step, batch = training_step(net, capture=True), at.draw_batch()
    step.accumulate(batch, 0, first=True)
    with no_waiting(at):
        for seed in range(2):
            step.accumulate(batch, seed, first=True)
            step.update()
            step.send_report()
    return 0.0 if math.isfinite(step.read_report().norm) else math.inf


def degradations(at: Setting) -> Iterator[Question]:
    """Degradations of whole batches on the device, against the CPU's by the mean change of many patches."""
    for name, degradation in data.TASK_DEGRADATIONS.items():
        if hasattr(degradation, "degrade_batch"):
            yield Question(
                f"{name} on the device changes pictures as on the CPU", partial(_degrade, at, degradation), 5.0
            )


def _degrade(at: Setting, degradation: Any) -> float:
    """Difference of the mean change of a picture, in standard errors."""
    count, side = (32, 32) if at.cpu else (512, 64)
    clean = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    clean = torch.nn.functional.interpolate(clean, size=side, mode="bicubic").clamp(0, 1)
    changes = []
    for device in (at.device, torch.device("cpu")):
        here, generator = clean.to(device), torch.Generator(device).manual_seed(1 if device == at.device else 2)
        degradation.degrade_batch(here[:2], generator)
        with no_waiting(at):
            degraded = degradation.degrade_batch(here, generator)
        changes.append((degraded - here).abs().mean(dim=(1, 2, 3)).double().cpu())
    if not all(torch.isfinite(change).all() and change.mean() > 0 for change in changes):
        return math.inf
    a, b = changes
    return float((a.mean() - b.mean()).abs() / ((a.var() + b.var()) / count).sqrt())
