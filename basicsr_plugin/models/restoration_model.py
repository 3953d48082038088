"""The training model of the plugin: BasicSR's SRModel with what training of restoration networks needs today."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from basicsr_plugin import checkpoints
from basicsr_plugin.averaging import move_average
from basicsr_plugin.models import _captured, _inference, _objective, _optimizers, _schedulers
from basicsr_plugin.models._captured import CapturedMixin
from basicsr_plugin.models._degrading import build_degrader
from basicsr_plugin.models._guards import (
    SkippedSteps,
    find_nonfinite_gradient,
    find_nonfinite_module,
    find_nonfinite_terms,
    require_finite_batch,
)
from basicsr_plugin.models._lifecycle import LifecycleMixin
from basicsr_plugin.models._progressive import ProgressivePatches
from basicsr_plugin.models._settings import TrainSettings, iteration_seed
from basicsr_plugin.models._tensorboard import TensorBoardMixin
from basicsr_plugin.models._validation import ValidationMixin
from basicsr_plugin.option_schema import check_options
from basicsr_plugin.registration import register_once
from clusir_modules.data import DeviceDegrader

__all__ = ["RestorationModel"]


class RestorationModel(CapturedMixin, TensorBoardMixin, LifecycleMixin, ValidationMixin, SRModel):
    """Trains a restoration network, with or without routing, single- or multi-stage.

    Every iteration seeds torch from (manual_seed, iteration, rank), so that a run is reproducible and one resumed from
    a training state ends with the same bits as one that was never interrupted (on GPUs as far as their kernels are
    deterministic). With ``datasets.train.degrade: device`` the model degrades the batches itself, by the same rule.

    A step whose loss or gradient is not finite is left out, with a message that names the iteration, the images and the
    module or parameter where it shows first; more than ``train.max_skipped_steps`` in a row end the run. With fp16 the
    gradient of a loss that is scaled too far is the loss scaler's affair. SIGTERM ends a run after the running
    iteration, with a checkpoint.

    Args:
        opt: Options as BasicSR's ``parse_options`` returns them.

    Raises:
        ValueError: An option is unknown or does not fit the others or the network.
    """

    degrader: DeviceDegrader | None = None

    def __init__(self, opt: dict[str, Any]) -> None:
        check_options(opt)
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Set up everything that only training needs."""
        train_opt = self.opt["train"]
        self.net_g.train()
        self.settings = TrainSettings.from_options(self.opt)
        self.skipped = SkippedSteps(self.settings.max_skipped_steps)
        self.objective = _objective.Objective(train_opt, self.get_bare_model(self.net_g), self.device)
        if train_opt.get("cuda_graph"):
            _captured.check_capturable(self.opt, self.get_bare_model(self.net_g), self.device)
        self.patches = self._build_patches()
        self.degrader = build_degrader(self.opt, self.device)
        half = self.settings.amp_dtype is torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.ema_decay = train_opt.get("ema_decay", 0)
        if self.ema_decay > 0:
            self.net_g_ema = self._build_average()
        self.setup_optimizers()
        self.setup_schedulers()
        if self.settings.accum_iter > 1 or half:
            # The schedule counts iterations, some of which take no optimizer step.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")

    def _build_patches(self) -> ProgressivePatches | None:
        data_opt = self.opt["datasets"]["train"]
        stages = {name: data_opt.get(name) for name in ("mini_batch_sizes", "iters", "gt_sizes")}
        if all(value is None for value in stages.values()):
            return None
        missing = [name for name in (*stages, "gt_size") if data_opt.get(name) is None]
        if missing:
            raise ValueError(f"datasets.train: progressive patches also need {', '.join(missing)}")
        replicas = 1 if self.opt["dist"] else max(self.opt["num_gpu"], 1)
        stages["mini_batch_sizes"] = [size * replicas for size in stages["mini_batch_sizes"]]
        return ProgressivePatches(
            **stages,
            gt_size=data_opt["gt_size"],
            batch_size=data_opt["batch_size_per_gpu"] * replicas,
            scale=self.opt.get("scale", 1),
        )

    def _build_average(self) -> nn.Module:
        get_root_logger().info(f"Use Exponential Moving Average with decay: {self.ema_decay}")
        self.net_g_ema = build_network(self.opt["network_g"]).to(self.device)
        path = self.opt["path"].get("pretrain_network_g")
        if path is None:
            self.net_g_ema.load_state_dict(self.get_bare_model(self.net_g).state_dict())
        else:
            self.load_network(self.net_g_ema, path, self.opt["path"].get("strict_load_g", True), "params_ema")
        return self.net_g_ema.eval()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the device, compile it if asked to, and wrap it for several GPUs or processes."""
        train_opt = self.opt.get("train") or {}
        net = net.to(self.device)
        if train_opt.get("channels_last"):
            net = net.to(memory_format=torch.channels_last)
        if self.is_train and train_opt.get("grad_checkpointing"):
            if not hasattr(net, "set_grad_checkpointing"):
                raise ValueError(f"train.grad_checkpointing: {type(net).__name__} has no set_grad_checkpointing")
            net.set_grad_checkpointing(True)
        if self.is_train and train_opt.get("compile"):
            net.compile()
        if self.opt["dist"]:
            devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
            unused = self.opt.get("find_unused_parameters", False)
            return DistributedDataParallel(net, device_ids=devices, find_unused_parameters=unused)
        return DataParallel(net) if self.opt["num_gpu"] > 1 else net

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
        """Any optimizer of ``torch.optim`` that needs no closure."""
        return _optimizers.find_optimizer(optim_type)(params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        """BasicSR's schedules, and a linear warm-up followed by a cosine."""
        options = dict(self.opt["train"]["scheduler"])
        scheduler = _schedulers.find_scheduler(options.pop("type"))
        if scheduler is _schedulers.LinearWarmupCosineLR:
            options.setdefault("total_iter", self.opt["train"]["total_iter"])
            if self.opt["train"].get("warmup_iter", -1) > 0:
                raise ValueError("train.warmup_iter must be -1 with LinearWarmupCosineLR, which has its own")
        self.schedulers.extend(scheduler(optimizer, **options) for optimizer in self.optimizers)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: "lq", and if there is a ground truth "gt"; "lq_path" is used in messages.

        A batch without "lq" waits to be degraded until its iteration is known.
        """
        self.lq_paths = list(data.get("lq_path", ()))
        self.tasks = list(data.get("task", ()))
        waits = self.degrader is not None and "lq" not in data
        self.clean = data if waits else None
        if not waits:
            self._take_pictures(data["lq"], data.get("gt"))

    def _take_pictures(self, lq: Tensor, gt: Tensor | None) -> None:
        # Copies from pinned memory (datasets.train.pin_memory) overlap with what the device still computes.
        self.lq = lq.to(self.device, non_blocking=True)
        if (self.opt.get("train") or {}).get("channels_last"):
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)
        self.gt = None if gt is None else gt.to(self.device, non_blocking=True)

    def optimize_parameters(self, current_iter: int) -> None:
        """Forward and backward pass; with ``train.accum_iter`` n, one optimizer step in n iterations.

        Args:
            current_iter: Counted from 1.

        Raises:
            FloatingPointError: The batch is not finite, or too many steps in a row were left out since loss or gradient
                was not; the weights are as before.
            ValueError: The batch has no ground truth.
        """
        if self.degrader is not None and self.clean is not None:
            batch = self.degrader(self.clean, current_iter)
            self._take_pictures(batch["lq"], batch["gt"])
        if self.gt is None:
            raise ValueError(f"training needs a ground truth, got none for {self.lq_paths}")
        seed = iteration_seed(self.opt["manual_seed"], current_iter, self.opt["rank"])
        if self.opt["train"].get("cuda_graph"):
            self.optimize_captured(current_iter, seed)
            return
        torch.manual_seed(seed)
        where = f"at iteration {current_iter}"
        require_finite_batch({"lq": self.lq, "gt": self.gt}, self.lq_paths, where)
        lq, gt, paths = self.lq, self.gt, self.lq_paths
        if self.patches is not None:
            lq, gt = self.patches.crop(lq, gt, current_iter, torch.Generator().manual_seed(seed))
            paths = paths[: len(lq)]

        accum_iter = self.settings.accum_iter
        steps_now = current_iter % accum_iter == 0
        if (current_iter - 1) % accum_iter == 0:
            self.optimizer_g.zero_grad()
            self.step_paths: list[str] = []
            self.leaves_step_out = False
        self.step_paths += paths
        with self._gradient_exchange(steps_now):
            total, terms, routings = self._evaluate(lq, gt)
            self.watch_routing(routings)
            bad = find_nonfinite_terms(terms)
            # All processes leave out the same step: gradients are exchanged in the backward pass.
            if self.agree(bool(bad)) and not self.leaves_step_out:
                self.leaves_step_out = True
                self.skipped.add(self._describe_loss(bad, lq, seed, paths, where))
            if not self.leaves_step_out:
                self.grad_scaler.scale(total / accum_iter).backward()
        if steps_now and not self.leaves_step_out:
            self._step(where)
        self.log_dict = self.reduce_loss_dict(terms)

    def _forward(self, net: nn.Module, lq: Tensor) -> tuple[Any, Any]:
        """Outputs and, if the objective or TensorBoard wants them, routings."""
        amp_dtype = self.settings.amp_dtype
        with torch.autocast(self.device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            if self.objective.needs_routing or self.watches_routing:
                outputs, routings = net(lq, return_routing=True)
            else:
                outputs, routings = net(lq), None
        return outputs, routings

    def _evaluate(self, lq: Tensor, gt: Tensor) -> tuple[Tensor, dict[str, Tensor], Any]:
        """The loss, its terms by name, and the routings if anybody wants them."""
        outputs, routings = self._forward(self.net_g, lq)
        if self.settings.amp_dtype is not None:
            outputs = outputs.float() if isinstance(outputs, Tensor) else [stage.float() for stage in outputs]
        self.output = _objective.final_stage(outputs).detach()
        return *self.objective(outputs, gt, routings, self.get_bare_model(self.net_g)), routings

    def _describe_loss(self, bad: dict[str, float], lq: Tensor, seed: int, paths: list[str], where: str) -> str:
        """Say what is wrong with this process's loss, after a second forward pass that looks for the place."""
        if not bad:
            return f"the loss of another process is not finite {where}"
        net = self.get_bare_model(self.net_g)
        torch.manual_seed(seed)
        with self._eagerly():
            module = find_nonfinite_module(net, lambda: self._forward(net, lq))
        return (
            f"the loss is not finite {where}: {bad}, for the images {list(map(str, paths))}; first module with a "
            f"non-finite output: {module}"
        )

    def _gradient_exchange(self, steps_now: bool) -> AbstractContextManager[None]:
        """Let the processes average gradients in the last iteration before a step only."""
        if isinstance(self.net_g, DistributedDataParallel) and not steps_now:
            return self.net_g.no_sync()
        return nullcontext()

    def _step(self, where: str) -> None:
        self.grad_scaler.unscale_(self.optimizer_g)
        parameters = list(self.net_g.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm))
        if finite:
            nn.utils.clip_grads_with_norm_(parameters, self.settings.max_grad_norm, norm)
        # A scaler starts from a factor that is too large, and leaves such steps out by itself until it has a lower one.
        if not finite and self.grad_scaler.get_scale() <= 1:
            named = self.get_bare_model(self.net_g).named_parameters()
            gradient = find_nonfinite_gradient({name: p.grad for name, p in named if p.grad is not None})
            self.skipped.add(self._describe_gradient(gradient, where))
        if finite or self.grad_scaler.is_enabled():
            self.grad_scaler.step(self.optimizer_g)
            self.grad_scaler.update()
        if finite:
            self.skipped.clear()
            if self.ema_decay > 0:
                self.model_ema(self.ema_decay)

    def _describe_gradient(self, gradient: str, where: str) -> str:
        return (
            f"the gradient {gradient} is not finite {where}, though the loss is, for the images "
            f"{list(map(str, self.step_paths))}"
        )

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged network towards the trained one: parameters by 1 - ``decay``, buffers entirely."""
        move_average(self.net_g_ema, self.get_bare_model(self.net_g), 1 - decay)

    def test(self) -> None:
        """Restore ``self.lq``, with the averaged network if there is one; see ``val.window_size`` and ``tile_size``."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        val_opt = self.opt.get("val") or {}
        window, tile = val_opt.get("window_size") or 1, val_opt.get("tile_size") or 0

        def restore(image: Tensor) -> Tensor:
            return _inference.run_padded(lambda padded: _objective.final_stage(net(padded)), image, window)

        was_training = net.training
        net.eval()
        with torch.no_grad(), self._eagerly():
            if tile:
                self.output = _inference.run_tiled(
                    restore, self.lq, tile=tile, overlap=val_opt.get("tile_overlap") or 0
                )
            else:
                self.output = restore(self.lq)
        net.train(was_training)

    def _eagerly(self) -> AbstractContextManager[Any]:
        """Run a compiled network uncompiled: it would be compiled anew for every image size."""
        compiled = (self.opt.get("train") or {}).get("compile")
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights from a .pth or .safetensors file, whatever wrapped them.

        Raises:
            ValueError: The file is refused or damaged, or does not fit the network.
        """
        net = self.get_bare_model(net)
        path = Path(load_path)
        loaded = checkpoints.read_weights(path, param_key=param_key)
        weights, differences = checkpoints.fit_weights(loaded, net.state_dict(), strict=strict, source=path)
        logger = get_root_logger()
        logger.info(f"Loading {type(net).__name__} from {path}.")
        for difference in differences:
            logger.warning(f"{path}: {difference}")
        net.load_state_dict(weights, strict=strict)


register_once(MODEL_REGISTRY, RestorationModel)
