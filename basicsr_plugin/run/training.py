"""A whole training, from its options to the last checkpoint: BasicSR's loop, written out with its own functions."""

from __future__ import annotations

import datetime
import logging
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch

from basicsr_plugin.compat.seeds import fold_seed
from basicsr_plugin.run.context import RunContext
from basicsr_plugin.run.data import build_sampler, build_seeded_dataset
from basicsr_plugin.run.folders import fit_name, make_folders, put_aside
from basicsr_plugin.run.lock import RunLock
from basicsr_plugin.run.resume import load_resume_state
from basicsr_plugin.run.writer import ForgivingWriter
from clusir_modules.serialization.atomic import written_whole

__all__ = ["TrainingRun"]


class TrainingRun:
    """Trains the plugin's own model as an option file says.

    It continues a run of the same name with ``auto_resume``, or the one of ``path.resume_state``. SIGTERM and SIGINT
    end it in good order, with exit code 143 and 130: while it waits for data at once, else after the iteration.

    Args:
        options: Options as BasicSR's ``parse_options`` returns them.
        option_file: Is copied into the run's folder.
        force: Take the run's folder from its owner.

    Attributes:
        context: What the model shares.
        model: The training model, once :meth:`run` has built it.
    """

    def __init__(
        self, options: dict[str, Any], *, option_file: str | os.PathLike[str] | None = None, force: bool = False
    ) -> None:
        self.opt = options
        self.option_file = option_file
        self.force = force
        self.context = RunContext()
        self.model: Any = None
        self.lock: RunLock | None = None

    def run(self) -> None:
        """Train.

        Raises:
            RuntimeError: Another run holds the folder.
            SystemExit: A signal has ended it.
        """
        signals = self.context.signals
        signals.watch()
        try:
            try:
                with signals.interrupting():
                    self._set_up()
            except SystemExit:
                name = signal.Signals(signals.asked).name
                logging.getLogger("basicsr").warning(f"{name}: the run ends while it starts")
                raise
            self._loop()
        finally:
            _end_workers()
            signals.forget()
            if self.context.tb_logger is not None:
                self.context.tb_logger.close()
            if self.lock is not None:
                self.lock.release()

    def _set_up(self) -> None:
        from basicsr.models import build_model

        opt = self.opt
        torch.backends.cudnn.benchmark = True
        if opt["rank"] == 0:
            self.lock = RunLock(opt["path"]["experiments_root"], force=self.force)
        state = load_resume_state(opt)
        if state is None:
            make_folders(opt, force=self.force)
        if self.option_file is not None and opt["rank"] == 0:
            _copy_option_file(Path(self.option_file), Path(opt["path"]["experiments_root"]))
        self.logger = _start_log(opt)
        self.logger.info(f"{opt['name']}: {opt['model_type']} on {opt['world_size']} x {_device_name(opt)}")
        self.context.tb_logger = _start_tensorboard(opt, anew=state is None)
        self._build_loaders(state)
        self.model = build_model(opt)
        self.model.join(self.context)
        if opt["rank"] == 0:
            _write_settings(opt, self.model.get_bare_model(self.model.net_g))
        self.epoch, self.iteration = 0, 0
        if state is not None:
            self.model.resume_training(state)
            self.epoch, self.iteration = state["epoch"], state["iter"]
            self.logger.info(f"Resuming training from epoch: {self.epoch}, iter: {self.iteration}.")

    def _build_loaders(self, state: dict[str, Any] | None) -> None:
        from basicsr.data import build_dataloader

        opt = self.opt
        resumed = {}
        if state is not None:
            resumed = {
                "start_epoch": state["epoch"],
                "start_iteration": state["iter"],
                "interrupted": state.get("sampler"),
            }
        for phase, section in opt["datasets"].items():
            dataset = build_seeded_dataset(section, opt)
            shared = {"num_gpu": opt["num_gpu"], "dist": opt["dist"], "seed": fold_seed(opt["manual_seed"])}
            if phase == "train":
                sampler = build_sampler(dataset, opt, self.context, resumed)
                self.train_loader = build_dataloader(dataset, section, sampler=sampler, **shared)
                epoch = len(sampler) // sampler.batch_size
                repeated = f", each {sampler.ratio} times an epoch" if sampler.ratio != 1 else ""
                self.logger.info(
                    f"{len(dataset):,} training images{repeated}, {section['batch_size_per_gpu']} a step and process; "
                    f"{self.total:,} iterations, {math.ceil(self.total / epoch):,} epochs of {epoch:,}"
                )
            else:
                self.context.val_loaders.append(build_dataloader(dataset, section, sampler=None, **shared))
                self.logger.info(f"{len(dataset):,} validation images in {section['name']}")

    @property
    def total(self) -> int:
        """Iterations of the whole training."""
        return int(self.opt["train"]["total_iter"])

    def _prefetch(self) -> Any:
        from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher

        if self.opt["datasets"]["train"].get("prefetch_mode") == "cuda":
            return CUDAPrefetcher(self.train_loader, self.opt)
        return CPUPrefetcher(self.train_loader)

    def _loop(self) -> None:
        from basicsr.utils import AvgTimer, MessageLogger

        prefetcher = self._prefetch()
        report = MessageLogger(self.opt, self.iteration, self.context.tb_logger)
        self.logger.info(f"Start training from epoch: {self.epoch}, iter: {self.iteration}")
        timers = AvgTimer(), AvgTimer()
        began = time.time()
        while self.iteration < self.total:
            self.context.sampler.set_epoch(self.epoch)
            prefetcher.reset()
            while self.iteration < self.total and (batch := self._wait_for(prefetcher)) is not None:
                timers[0].record()
                self.iteration += 1
                self._iterate(batch, report, timers)
                for timer in timers:
                    timer.start()
            self.epoch += 1
        seconds = datetime.timedelta(seconds=int(time.time() - began))
        self.logger.info(f"End of training. Time consumed: {seconds}")
        self.logger.info("Save the latest model.")
        self.model.save(epoch=-1, current_iter=-1)
        if self.model.progress.validated != (self.total, len(self.context.val_loaders)):
            self._validate()

    def _wait_for(self, prefetcher: Any) -> Any:
        """The next batch, or None at the end of the epoch; a signal ends the waiting where the state can be saved."""
        waits_alone = not self.opt["dist"] and self.model.can_stop(self.iteration)
        try:
            with self.context.signals.interrupting(waits_alone):
                return prefetcher.next()
        except SystemExit:
            if not waits_alone:
                raise
            self.model.stop_if_asked(self.iteration)
            raise

    def _iterate(self, batch: Any, report: Any, timers: tuple[Any, Any]) -> None:
        train, number = self.opt["train"], self.iteration
        self.model.update_learning_rate(number, warmup_iter=train.get("warmup_iter", -1))
        self.model.feed_data(batch)
        self.model.optimize_parameters(number)
        timers[1].record()
        if number == 1:
            report.reset_start_time()
        if number % self.opt["logger"]["print_freq"] == 0:
            row = {"epoch": self.epoch, "iter": number, "lrs": self.model.get_current_learning_rate()}
            row |= {"time": timers[1].get_avg_time(), "data_time": timers[0].get_avg_time()}
            report(row | self.model.get_current_log())
        if number % self.opt["logger"]["save_checkpoint_freq"] == 0:
            self.logger.info("Saving models and training states.")
            self.model.save(self.epoch, number)
        if self.opt.get("val") is not None and number % self.opt["val"]["val_freq"] == 0:
            self._validate()

    def _validate(self) -> None:
        if self.opt.get("val") is not None:
            for loader in self.context.val_loaders:
                self.model.validation(loader, self.iteration, self.context.tb_logger, self.opt["val"]["save_img"])


def _copy_option_file(source: Path, folder: Path) -> None:
    target = folder / source.name
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def _device_name(opt: dict[str, Any]) -> str:
    return torch.cuda.get_device_name() if opt["num_gpu"] else "CPU"


def _write_settings(opt: dict[str, Any], net: torch.nn.Module) -> None:
    """What would fill pages of the log, beside it: versions, every option as it is used, the modules of the network."""
    from basicsr.utils import get_env_info
    from basicsr.utils.options import dict2str

    target = Path(opt["path"]["log"]) / "settings.txt"
    with written_whole(target) as file:
        text = f"{get_env_info()}\n{dict2str(opt)}\n{net}\n"
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    logging.getLogger("basicsr").info(f"All options, versions and modules: {target}")


def _start_log(opt: dict[str, Any]) -> logging.Logger:
    """BasicSR's logger, with a file in the run's folder."""
    from basicsr.utils import get_root_logger, get_time_str

    name = fit_name(f"train_{opt['name'].replace('/', '_')}", f"_{get_time_str()}.log")
    logger = get_root_logger(log_level=logging.INFO, log_file=os.path.join(opt["path"]["log"], name))
    for handler in logger.handlers:
        stream = getattr(handler, "stream", None)
        if hasattr(stream, "reconfigure") and not stream.closed:
            stream.reconfigure(errors="backslashreplace")  # names of files that are no text
    return logger


def _start_tensorboard(opt: dict[str, Any], *, anew: bool) -> Any:
    """TensorBoard writer, and Weights and Biases beside it, in the first process, or None."""
    from basicsr.utils import init_tb_logger, init_wandb_logger

    settings = opt["logger"]
    if not settings.get("use_tb_logger") or "debug" in opt["name"]:
        return None
    if (settings.get("wandb") or {}).get("project") is not None:
        init_wandb_logger(opt)
    folder = os.path.join(opt["root_path"], "tb_logger", opt["name"])
    if anew and opt["rank"] == 0:
        put_aside(folder)
    return ForgivingWriter(lambda: init_tb_logger(log_dir=folder)) if opt["rank"] == 0 else None


def _end_workers() -> None:
    """End the loader workers that are left: signals do not reach them, and one may be busy for long."""
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if not workers or threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler calls the end of a worker an error
    try:
        for process in workers:
            process.kill()
        for process in workers:
            process.join(1)
    finally:
        signal.signal(signal.SIGCHLD, before)
