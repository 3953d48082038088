"""The training model of the plugin, as BasicSR calls it."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.optim import Optimizer

from basicsr_plugin.compat.registration import register_once
from basicsr_plugin.data.degrading import build_degrader
from basicsr_plugin.data.progressive_patches import ProgressivePatches
from basicsr_plugin.losses.objective import Objective
from basicsr_plugin.models.inference import restore
from basicsr_plugin.models.placement import place_network
from basicsr_plugin.models.tensorboard import Board
from basicsr_plugin.models.validation import Validator
from basicsr_plugin.options.schema import ValOptions
from basicsr_plugin.run import captured_stepper, states
from basicsr_plugin.run.average import Average
from basicsr_plugin.run.captured_stepper import CapturedStepper
from basicsr_plugin.run.checkpoints import Checkpoints
from basicsr_plugin.run.context import RunContext
from basicsr_plugin.run.optimizers import find_optimizer
from basicsr_plugin.run.preflight import read_options
from basicsr_plugin.run.progress import Progress
from basicsr_plugin.run.schedulers import build_scheduler
from basicsr_plugin.run.stepper import Stepper, eagerly
from basicsr_plugin.run.training_state import collect_state, take_up_state
from clusir_modules.data import DeviceDegrader

__all__ = ["RestorationModel"]


class RestorationModel(SRModel):
    """Trains a restoration network, with or without routing, single- or multi-stage.

    A thin adapter: the work is done by ``stepper``, ``average``, ``validator``, ``board`` and ``checkpoints``. A run is
    reproducible: one resumed from a training state ends with the same bits as one that was never interrupted, on GPUs
    as far as their kernels are deterministic. With ``datasets.train.degrade: device`` the model degrades the batches.

    Args:
        opt: Options as BasicSR's ``parse_options`` returns them.

    Raises:
        ValueError: An option is unknown or not accepted, or does not fit the others or the network.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options = read_options(opt)
        self.train_options = self.options.train if opt["is_train"] else None
        self.progress = Progress(self.options)
        self.average: Average | None = None
        self.degrader: DeviceDegrader | None = None
        super().__init__(opt)
        self.board = Board(None, self.get_bare_model(self.net_g))
        path, val = self.options.path, self.options.val or ValOptions()
        file_format = self.options.logger.save_checkpoint_format if self.options.logger else "pth"
        self.states = states.States(path.models or "", path.training_states or "", file_format)
        self.checkpoints = Checkpoints(
            self.states, self.progress, nets=self._nets, content=partial(collect_state, self), rank=self.options.rank
        )
        self.validator = Validator(
            val,
            path.visualization or "",
            label=None if self.is_train else val.suffix or self.options.name,
            rank=self.options.rank,
            world_size=self.options.world_size,
            group=self.progress.group,
            file=Path(path.visualization).parent / "validation.json" if path.visualization else None,
        )

    def join(self, context: RunContext) -> None:
        """Share what the loop knows."""
        self.progress.context = context
        self.board.writer = context.tb_logger
        self.stepper.wants_routing = self.board.wants_routing

    def print_network(self, net: nn.Module) -> None:
        """Log the kind and the size of a network in one line; its modules are in ``settings.txt``."""
        kind, parameters = type(self.get_bare_model(net)).__name__, sum(p.numel() for p in net.parameters())
        logging.getLogger("basicsr").info(f"Network: {kind}, with parameters: {parameters:,d}")

    def init_training_settings(self) -> None:
        """Set up everything that only training needs."""
        train, net = self.options.train, self.get_bare_model(self.net_g)
        states.require_reproducible(net)
        self.net_g.train()
        objective = Objective(list(train.loss_options().values()), net).to(self.device)
        if train.cuda_graph:
            captured_stepper.check_capturable(self.options, net, self.device)
        self.patches = ProgressivePatches.from_options(self.options)
        self.degrader = build_degrader(self.opt, self.device)
        self.ema_decay = train.ema_decay
        if self.ema_decay > 0:
            self._start_average(net)
        self.setup_optimizers()
        self.setup_schedulers()
        stepper = partial(CapturedStepper, average=self.average) if train.cuda_graph else Stepper
        self.stepper = stepper(
            self.net_g,
            self.optimizer_g,
            objective,
            train,
            seed=self.options.manual_seed or 0,
            rank=self.options.rank,
            asked=lambda: self.progress.context.signals.asked,
        )
        if train.accum_iter > 1 or train.amp == "fp16":
            # The schedule counts iterations, some of which take no optimizer step.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")

    def _start_average(self, net: nn.Module) -> None:
        logging.getLogger("basicsr").info(f"Use Exponential Moving Average with decay: {self.ema_decay}")
        self.average = Average(build_network(self.opt["network_g"]).to(self.device), self.ema_decay)
        self.net_g_ema = self.average.net
        path = self.options.path
        if path.pretrain_network_g is None:
            self.average.copy(net)
        else:
            self.load_network(self.net_g_ema, path.pretrain_network_g, path.strict_load_g, "params_ema")

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the device, compile it if asked to, and wrap it for several GPUs or processes."""
        return place_network(net, self.device, self.options, self.train_options, num_gpu=self.opt["num_gpu"])

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
        """Any optimizer of ``torch.optim`` that needs no closure."""
        return find_optimizer(optim_type)(params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        """BasicSR's schedules, and a linear warm-up followed by a cosine."""
        settings, total = self.opt["train"]["scheduler"], self.options.train.total_iter
        self.schedulers.extend(build_scheduler(optimizer, settings, total) for optimizer in self.optimizers)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Advance the schedules; the first thing in an iteration, and so a place where a run may end."""
        self.stop_if_asked(current_iter - 1)
        self.progress.iteration = current_iter
        super().update_learning_rate(current_iter, warmup_iter)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: "lq", and if there is a ground truth "gt"; "lq_path" is used in messages, "task_id" by losses.

        A batch without "lq" waits to be degraded until its iteration is known.
        """
        self.lq_paths = list(data.get("lq_path", ()))
        self.tasks = list(data.get("task", ()))
        self.task_ids = data.get("task_id")
        self.clean = data if self.degrader is not None and "lq" not in data else None
        if self.clean is None:
            self._take_pictures(data["lq"], data.get("gt"))

    def _take_pictures(self, lq: Tensor, gt: Tensor | None) -> None:
        # Copies from pinned memory (datasets.train.pin_memory) overlap with what the device still computes.
        self.lq = lq.to(self.device, non_blocking=True)
        if self.train_options is not None and self.train_options.channels_last:
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)
        self.gt = None if gt is None else gt.to(self.device, non_blocking=True)

    def optimize_parameters(self, current_iter: int) -> None:
        """Train on the batch, see :class:`Stepper`.

        Raises:
            FloatingPointError: The batch is not finite, or too many steps in a row were left out.
            ValueError: The batch has no ground truth.
        """
        if self.degrader is not None and self.clean is not None:
            batch = self.degrader(self.clean, current_iter)
            self._take_pictures(batch["lq"], batch["gt"])
        if self.gt is None:
            raise ValueError(f"training needs a ground truth, got none for {self.lq_paths}")
        crop = self.patches.crop if self.patches is not None else None
        tasks = None if self.task_ids is None else self.task_ids.to(self.device, non_blocking=True)
        step = self.stepper.take(self.lq, self.gt, current_iter, tasks=tasks, paths=self.lq_paths, crop=crop)
        if step.taken and self.average is not None:
            self.average.update(self.get_bare_model(self.net_g))
        self.output = step.output
        self.board.watch_routing(step.routings, self.tasks)
        if step.terms:
            self.log_dict = self.reduce_loss_dict(step.terms)

    def _settle(self) -> None:
        """Learn how the latest iteration went, if that is not known yet."""
        terms = self.stepper.settle()
        if terms is not None:
            self.log_dict = OrderedDict(terms)

    def get_current_log(self) -> Mapping[str, float]:
        """Losses by name; what the routers chose since the last call goes to TensorBoard."""
        self._settle()
        self.board.write_routing(self.progress.iteration)
        return super().get_current_log()

    def test(self) -> None:
        """Restore ``self.lq``, with the averaged network if there is one."""
        net = self.average.net if self.average is not None else self.get_bare_model(self.net_g)
        val = self.validator.options
        with eagerly(self.train_options is not None and bool(self.train_options.compile)):
            self.output = restore(
                net, self.lq, size_multiple=val.size_multiple or 1, tile=val.tile, overlap=val.overlap or 0
            )

    def get_current_visuals(self) -> dict[str, Tensor]:
        """Input, result and if there is one ground truth of the current picture, on the CPU."""
        visuals = {"lq": self.lq.detach().cpu(), "result": self.output.detach().cpu()}
        return visuals if self.gt is None else {**visuals, "gt": self.gt.detach().cpu()}

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Restore and measure a data set, see :class:`Validator`; after the last one the training state is renewed."""
        training = isinstance(current_iter, int)
        if training and self.train_options is not None:
            # BasicSR labels the validation after the end of training with one iteration more.
            current_iter = min(current_iter, self.train_options.total_iter)

        def restored(sample: Mapping[str, Any]) -> dict[str, Tensor]:
            self.feed_data(sample)
            self.test()
            return self.get_current_visuals()

        def stop() -> None:
            if training:
                self.stepper.stop_agreed = self.progress.ask_all()
                self.stop_if_asked(current_iter)

        name = dataloader.dataset.opt["name"]
        self.validator(
            dataloader,
            current_iter,
            restored,
            save_img=save_img,
            before_each=stop,
            watch=lambda number, visuals: self.board.show_example(name, number, visuals, current_iter),
            writer=tb_logger,
        )
        if training:
            for column, label in self.validator.options.best_labels().items():
                if column in self.validator.table.improved:
                    self.checkpoints.save_best(label)
            # BasicSR saves before it validates.
            if self.progress.count_validated(current_iter) and self.progress.is_saved(current_iter):
                self.checkpoints.renew_state()

    def can_stop(self, done: int) -> bool:
        """Whether the state after an iteration can be saved: no gradient is half accumulated."""
        return done % self.stepper.accum_iter == 0

    def stop_if_asked(self, done: int) -> None:
        """Save and end the process if SIGTERM or SIGINT has come.

        Args:
            done: Iterations of the run that are done.

        Raises:
            SystemExit: With 128 and the number of the signal.
        """
        # Several processes stop at the iteration that they agreed on, a single one at once.
        asked = self.stepper.stop_agreed if self.options.dist else self.progress.context.signals.asked
        if asked and self.can_stop(done):
            if done > self.progress.resumed_at and not self.progress.is_saved(done):
                self.save(self.progress.context.epoch, done, required=True)
            self.progress.end(asked, done)

    def save(self, epoch: int, current_iter: int, *, required: bool = False) -> None:
        """Write weights and training state, see :meth:`Checkpoints.save`."""
        self._settle()
        self.checkpoints.save(epoch, current_iter, required=required)

    def _nets(self) -> dict[str, nn.Module]:
        """The networks of a checkpoint by kind."""
        average = {} if self.average is None else {"params_ema": self.average.net}
        return {"params": self.get_bare_model(self.net_g), **average}

    def save_network(
        self, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = "params"
    ) -> None:
        """Write weights in ``logger.save_checkpoint_format``, see :meth:`Checkpoints.save_weights`."""
        nets = [self.get_bare_model(n) for n in (net if isinstance(net, list) else [net])]
        keys = param_key if isinstance(param_key, list) else [param_key]
        self.checkpoints.save_weights(dict(zip(keys, nets, strict=True)), net_label, current_iter)

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write what resuming needs besides the weights, see :meth:`Checkpoints.save_state`."""
        self.checkpoints.save_state(epoch, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a training state, see :func:`take_up_state`.

        A validation that was due when the state was written, and that the run did not live to finish, is made up for;
        a state of the run's own is then renewed.
        """
        take_up_state(self, resume_state)
        if self.options.rank == 0:
            self.states.clean()
            self.validator.clean()
        if resume_state.get("validation_due") and self.options.val is not None:
            for loader in self.progress.context.val_loaders:
                self.validation(
                    loader, self.progress.resumed_at, self.progress.context.tb_logger, self.options.val.save_img
                )

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool | None = True, param_key: str | None = "params"
    ) -> None:
        """Load weights from a .pth or .safetensors file, whatever wrapped them.

        Raises:
            ValueError: The file is refused or damaged, or does not fit the network.
        """
        states.load_into(self.get_bare_model(net), Path(load_path), strict=bool(strict), param_key=param_key)


register_once(MODEL_REGISTRY, RestorationModel)
