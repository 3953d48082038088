"""A training step recorded as CUDA graphs: two launches replace thousands, so the GPU does not wait for the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.utils._pytree import tree_map_only

__all__ = ["CapturedStep", "StepReport"]

_WARM_UP = 3
"""Runs before a capture: libraries choose algorithms and allocate workspaces, compilers compile (as torch's notes on
CUDA graphs do)."""

Evaluate = Callable[..., tuple[Tensor, Mapping[str, Tensor], Any]]


class StepReport(NamedTuple):
    """What the host wants to know of an iteration, once the device is done with it.

    Attributes:
        terms: Terms of the loss.
        batch_is_finite: Whether the batch held neither NaN nor infinity.
        norm: Norm of the gradient, as far as a step was taken.
    """

    terms: dict[str, float]
    batch_is_finite: bool
    norm: float


class CapturedStep:
    """Forward pass, losses, backward pass, clipping, optimizer and average of a fixed batch size, as CUDA graphs.

    The first batch is copied into tensors that stay, with which everything is run a few times and recorded; weights,
    buffers and optimizer are then as before. Each iteration copies its batch there and replays. Whether a step is left
    out since batch, loss or gradient is not finite is decided on the device; the host can ask for it later
    (:meth:`read_report`), so it need not wait for one iteration before it launches the next.

    Random numbers in the network come from torch's default generator, seeded before each replay: they are those of the
    same code without graphs.

    Args:
        evaluate: Called with the batch's tensors by name; returns the loss, its terms as scalars by name, and anything
            made of tensors that :attr:`kept` shall hold. May neither wait for the device nor look at values.
        net: The network. Its gradients belong to this object: nobody else may clear them.
        optimizer: Optimizer of its parameters.
        accum_iter: Batches whose gradients are averaged into one step.
        max_grad_norm: Bound of the gradient's norm; infinity does not clip.
        average: Called after a step with a scalar tensor, 1 if it was taken and 0 if not.
        capture: Whether to record graphs, which needs CUDA; otherwise the same code runs as it is, on any device.

    Attributes:
        takes_steps: Whether :meth:`update` works: with Adam and AdamW, whose fused form can leave a step out without
            asking the host.
        kept: What ``evaluate`` returned besides loss and terms in the latest iteration; the next overwrites it.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        net: nn.Module,
        optimizer: Optimizer,
        *,
        accum_iter: int = 1,
        max_grad_norm: float = float("inf"),
        average: Callable[[Tensor], None] | None = None,
        capture: bool = True,
    ) -> None:
        self.takes_steps = type(optimizer) in (Adam, AdamW)
        self.kept: Any = None
        self._evaluate = evaluate
        self._net = net
        self._optimizer = optimizer
        self._accum_iter = accum_iter
        self._max_grad_norm = max_grad_norm
        self._average = average
        self._capture = capture
        device = next(net.parameters()).device
        self._skipped = torch.zeros((), device=device)
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._batch: dict[str, Tensor] = {}
        self._term_names: tuple[str, ...] = ()
        self._gradient_names: list[str] = []
        self._gradient_norms = self._skipped
        self._report = self._received = torch.empty(0)
        if capture:
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
            self._arrival = torch.cuda.Event()

    def accumulate(self, batch: Mapping[str, Tensor], seed: int, *, first: bool) -> None:
        """Compute the gradient of a batch.

        Args:
            batch: Tensors by name, of the same shapes in all calls.
            seed: Seed of torch's default generators.
            first: Whether the gradient replaces that of earlier batches or adds to it.

        Raises:
            ValueError: A shape or type differs from the first batch's.
            RuntimeError: The step cannot be captured.
        """
        if not self._batch:
            self._prepare(batch)
        for name, tensor in batch.items():
            static = self._batch[name]
            if (tensor.shape, tensor.dtype) != (static.shape, static.dtype):
                raise ValueError(
                    f"the step was captured with {name} of shape {tuple(static.shape)} and {static.dtype}, got "
                    f"{tuple(tensor.shape)} and {tensor.dtype}: all batches must be alike"
                )
            static.copy_(tensor, non_blocking=True)
        torch.manual_seed(seed)
        self.kept = (self._run_first if first else self._run_next)()

    def update(self) -> None:
        """Clip, take the optimizer's step at its present learning rates, and move the average, all if finite."""
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._run_update()

    def send_report(self) -> None:
        """Start the transfer of the report to the host; it is overwritten by the next call."""
        self._received.copy_(self._report, non_blocking=True)
        if self._capture:
            self._arrival.record()

    def read_report(self) -> StepReport:
        """Wait for the report that was sent last."""
        if self._capture:
            self._arrival.synchronize()
        batch_is_finite, norm, *values = self._received.tolist()
        return StepReport(dict(zip(self._term_names, values, strict=True)), bool(batch_is_finite), norm)

    def gradient_norms(self) -> dict[str, Tensor]:
        """Norm of each parameter's gradient in the latest :meth:`update`, by the parameter's name."""
        return dict(zip(self._gradient_names, self._gradient_norms, strict=True))

    def _prepare(self, batch: Mapping[str, Tensor]) -> None:
        """Allocate what stays, and record the graphs."""
        self._batch = {name: tensor.clone() for name, tensor in batch.items()}
        buffers = [buffer.clone() for buffer in self._net.buffers()]
        self._run_first = self._record(lambda: self._compute_gradient(first=True))
        self._run_next = (
            self._run_first if self._accum_iter == 1 else self._record(lambda: self._compute_gradient(first=False))
        )
        with torch.no_grad():
            for buffer, before in zip(self._net.buffers(), buffers, strict=True):
                buffer.copy_(before)
        if self.takes_steps:
            for state in self._optimizer.state.values():  # of a resumed run, where it may be on the CPU
                state["step"] = state["step"].to(self._skipped)
            self._skipped.fill_(1)  # so that nothing moves while the step is recorded
            self._run_update = self._record(self._take_step)

    def _record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Run a function a few times, and return what runs it again: a graph's replay, or the function itself."""
        if not self._capture:
            function()
            return function
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                function()
        graph = torch.cuda.CUDAGraph()
        try:
            # Loaders' threads pin memory meanwhile, which only a capture of this thread alone allows.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                result = function()
        except RuntimeError as error:
            # The end of a capture that something broke fails too, and leaves its stream in place.
            torch.cuda.set_stream(current)
            raise RuntimeError(
                f"the training step of {type(self._net).__name__} cannot be captured in a CUDA graph, most likely "
                f"since something in it waits for the device or depends on values: {error.__context__ or error}"
            ) from error
        current.wait_stream(self._stream)

        def replay() -> Any:
            graph.replay()
            return result

        return replay

    def _compute_gradient(self, *, first: bool) -> Any:
        if first:
            for parameter in self._net.parameters():
                parameter.grad = None
        loss, terms, kept = self._evaluate(**self._batch)
        (loss / self._accum_iter).backward()
        values = torch.stack([term.detach().float() for term in terms.values()])
        batch_is_finite = torch.stack([torch.isfinite(tensor).all() for tensor in self._batch.values()]).all()
        bad = ~(batch_is_finite & torch.isfinite(values).all())
        self._skipped.copy_(bad if first else bad | (self._skipped > 0))
        report = torch.cat((batch_is_finite.float().view(1), values.new_zeros(1), values))
        if not self._term_names:
            self._term_names = tuple(terms)
            self._report = torch.empty_like(report)
            self._received = torch.empty(report.shape, pin_memory=self._capture)
        self._report.copy_(report)
        return tree_map_only(Tensor, Tensor.detach, kept)

    def _take_step(self) -> None:
        named = {name: p for name, p in self._net.named_parameters() if p.grad is not None}
        norms = torch.stack(torch._foreach_norm([p.grad for p in named.values()]))
        norm = torch.linalg.vector_norm(norms)
        self._gradient_names, self._gradient_norms = list(named), norms
        self._skipped.copy_((self._skipped > 0) | ~torch.isfinite(norm))
        self._report[1].copy_(norm)
        nn.utils.clip_grads_with_norm_(named.values(), self._max_grad_norm, norm)
        with self._optimizer_on_device():
            self._optimizer.step()
        if self._average is not None:
            self._average(1 - self._skipped)

    @contextmanager
    def _optimizer_on_device(self) -> Iterator[None]:
        """Let the optimizer read learning rates and the reason to leave a step out from the device.

        Outside, its options are those of an ordinary run, and so are its checkpoints.
        """
        groups = self._optimizer.param_groups
        given = [dict(group) for group in groups]
        capturing = self._capture and torch.cuda.is_current_stream_capturing()
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, fused=True, foreach=False, capturable=capturing)
        self._optimizer.found_inf = self._skipped
        try:
            yield
        finally:
            del self._optimizer.found_inf
            for group, before in zip(groups, given, strict=True):
                group.update(before)
