"""Stopping at numbers that are not finite, before they reach the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

__all__ = [
    "SkippedSteps",
    "find_nonfinite_entry",
    "find_nonfinite_gradient",
    "find_nonfinite_module",
    "find_nonfinite_numbers",
    "find_nonfinite_terms",
    "require_finite_batch",
]


class SkippedSteps:
    """Counts the optimizer steps in a row that were left out, and ends the run at too many.

    Args:
        allowed: How many may be left out in a row.
    """

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.in_a_row = 0

    def add(self, message: str) -> None:
        """Count one more.

        Args:
            message: What was not finite, and where.

        Raises:
            FloatingPointError: That is one too many.
        """
        self.in_a_row += 1
        if self.in_a_row > self.allowed:
            raise FloatingPointError(
                f"{message}; {self.in_a_row} steps in a row could not be taken, and train.max_skipped_steps is "
                f"{self.allowed}: the run ends, its last checkpoint is good"
            )
        # BasicSR silences all but errors of other processes than the first.
        get_root_logger().error(
            f"{message}; the step is left out ({self.in_a_row} in a row, train.max_skipped_steps is {self.allowed})"
        )

    def clear(self) -> None:
        """A step was taken."""
        self.in_a_row = 0


def require_finite_batch(batch: Mapping[str, Tensor], paths: Sequence[str], where: str) -> None:
    """Check the pictures of a batch.

    Args:
        batch: Tensors of shape (B, C, H, W) by name.
        paths: File of each of the B samples.
        where: For the message, such as "at iteration 5".

    Raises:
        FloatingPointError: One holds NaN or infinity; the message names tensor, place and files.
    """
    finite = torch.stack([torch.isfinite(tensor).flatten(1).all(1) for tensor in batch.values()])
    if finite.all():
        return
    for name, row in zip(batch, finite.tolist(), strict=True):
        bad = [str(path) for path, good in zip(paths, row, strict=False) if not good]
        if not all(row):
            raise FloatingPointError(f"{name} holds NaN or infinite values {where}, in {bad or 'a file without name'}")


def find_nonfinite_terms(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Those of the loss's terms, scalars by name, that are NaN or infinite."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    return find_nonfinite_numbers(dict(zip(terms, values.tolist(), strict=True)))


def find_nonfinite_numbers(numbers: Mapping[str, float]) -> dict[str, float]:
    """Those of some numbers that are NaN or infinite."""
    return {name: number for name, number in numbers.items() if not abs(number) < float("inf")}


def find_nonfinite_gradient(gradients: Mapping[str, Tensor]) -> str:
    """Name the first of some gradients (or of their norms), by parameter, that is not finite, and say how many are."""
    bad = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    if not bad:
        return "of the whole network, though each parameter's is finite"
    return f"of {bad[0]}" + (f" and {len(bad) - 1} more of {len(gradients)} parameters" if len(bad) > 1 else "")


def find_nonfinite_entry(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first entry of a state dict that is not finite, or None."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def find_nonfinite_module(net: nn.Module, forward: Callable[[], object]) -> str:
    """Run a network once more and name the first of its modules that puts out NaN or infinity.

    Args:
        net: The bare network. Its buffers are as before afterwards.
        forward: Runs it, with the randomness of the first time.

    Returns:
        Name and class, or that there was none this time.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(module: nn.Module, inputs: object, output: object) -> None:
            if not found and not all(bool(torch.isfinite(tensor).all()) for tensor in _floating(output)):
                found.append(f"{name or 'the network'} ({type(module).__name__})")

        return look

    buffers = [buffer.clone() for buffer in net.buffers()]
    # A module's hook runs after those of the modules inside, so the first that is found is the innermost.
    hooks = [module.register_forward_hook(watch(name)) for name, module in net.named_modules()]
    try:
        with torch.no_grad():
            forward()
            for buffer, value in zip(net.buffers(), buffers, strict=True):
                buffer.copy_(value)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "none, the outputs of all modules are finite"


def _floating(output: object) -> Iterator[Tensor]:
    """All floating-point tensors in what a module returned."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _floating(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _floating(value)
