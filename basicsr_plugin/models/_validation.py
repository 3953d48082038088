"""Validation on one or several data sets, with or without ground truth."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from basicsr.utils import get_root_logger, tensor2img
from tqdm import tqdm

from basicsr_plugin.models._metrics import ValidationMetrics
from clusir_modules.imaging.picture_files import Picture
from clusir_modules.imaging.writing import write_picture

__all__ = ["ValidationMixin"]


class ValidationMixin:
    """Validation part of ``RestorationModel``; relies on SRModel's attributes."""

    opt: dict[str, Any]
    best_metric_results: dict[str, dict[str, dict[str, Any]]]
    validated: tuple[int, int] = (-1, 0)
    """Iteration of the last validation, and how many data sets are done."""

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Restore all pictures of a data set, evaluate the metrics and write the pictures.

        Args:
            dataloader: Gives one picture at a time.
            current_iter: Iteration, or in a test the run's name.
            tb_logger: TensorBoard writer or None.
            save_img: Whether to write the pictures: ``visualization/<data set>/<image>/<image>_<iteration>.png`` in
                training, ``visualization/<data set>/<image>_<suffix or name>.png`` in a test.
        """
        if isinstance(current_iter, int) and "train" in self.opt:
            # BasicSR labels the validation after the end of training with one iteration more.
            current_iter = min(current_iter, int(self.opt["train"]["total_iter"]))
        dataset_name = dataloader.dataset.opt["name"]
        val_opt = self.opt["val"]
        metrics = ValidationMetrics(val_opt.get("metrics") or {})
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        used_names: dict[str, int] = {}
        for number, data in enumerate(
            tqdm(dataloader, unit="image", desc=dataset_name, disable=not val_opt.get("pbar", False))
        ):
            # Other processes wait for the first one, which alone cannot end the run.
            if isinstance(current_iter, int) and not self.opt["dist"]:
                self.stop_if_asked(current_iter)
            self.feed_data(data)
            self.test()
            visuals = self.get_current_visuals()
            self.show_example(tb_logger, dataset_name, number, visuals, current_iter)
            for metric, value in metrics(visuals["result"], visuals.get("gt")).items():
                sums[metric] = sums.get(metric, 0.0) + value
                counts[metric] = counts.get(metric, 0) + 1
            if save_img:
                name = _unique_name(PurePath(data["lq_path"][0]).stem, used_names)
                path = Path(self._picture_path(dataset_name, name, current_iter))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_picture(Picture(tensor2img(visuals["result"], rgb2bgr=False)), path)
        skipped = [metric for metric in metrics.needing_target() if metric not in sums]
        if skipped:
            get_root_logger().warning(f"{dataset_name} has no ground truth: {', '.join(skipped)} left out")
        self.metric_results = {metric: total / counts[metric] for metric, total in sums.items()}
        if self.metric_results:
            self._record(dataset_name, current_iter, tb_logger)
        if isinstance(current_iter, int):
            self._finish(current_iter)

    def _record(self, dataset_name: str, current_iter: int | str, tb_logger: Any) -> None:
        """Update and log the best values."""
        self._initialize_best_metric_results(dataset_name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(dataset_name, metric, value, current_iter)
        self._log_validation_metric_values(current_iter, dataset_name, tb_logger)

    def _finish(self, current_iter: int) -> None:
        """Count a data set as done; after the last one bring a training state of this very iteration up to date."""
        done = self.validated[1] + 1 if self.validated[0] == current_iter else 1
        self.validated = current_iter, done
        # BasicSR saves before it validates.
        saved_now = self.saved_at is not None and self.saved_at[1] == current_iter
        if saved_now and done == self._count_val_sets():
            self.save_training_state(*self.saved_at)

    def _count_val_sets(self) -> int:
        return sum(phase.split("_")[0] == "val" for phase in self.opt["datasets"])

    def validation_due(self, current_iter: int) -> bool:
        """Whether this iteration has a validation that is not finished yet."""
        val_opt, sets = self.opt.get("val"), self._count_val_sets()
        if not val_opt or not sets or current_iter % val_opt["val_freq"]:
            return False
        return self.validated[0] != current_iter or self.validated[1] < sets

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Make sure that there is a record for each metric, also for one that was added before resuming."""
        if not hasattr(self, "best_metric_results"):
            self.best_metric_results = {}
        records = self.best_metric_results.setdefault(dataset_name, {})
        for metric, options in self.opt["val"]["metrics"].items():
            better = options.get("better", "higher")
            worst = float("-inf") if better == "higher" else float("inf")
            records.setdefault(metric, {"better": better, "val": worst, "iter": -1})

    def get_current_visuals(self) -> dict[str, Any]:
        """Input, result and if there is one ground truth of the current picture, on the CPU."""
        visuals = {"lq": self.lq.detach().cpu(), "result": self.output.detach().cpu()}
        if self.gt is not None:
            visuals["gt"] = self.gt.detach().cpu()
        return visuals

    def _picture_path(self, dataset_name: str, name: str, current_iter: int | str) -> str:
        folder = PurePath(self.opt["path"]["visualization"]) / dataset_name
        if self.opt["is_train"]:
            return str(folder / name / f"{name}_{current_iter}.png")
        return str(folder / f"{name}_{self.opt['val'].get('suffix') or self.opt['name']}.png")


def _unique_name(name: str, used: dict[str, int]) -> str:
    """The name, numbered from its second use on: pictures of different folders may be called alike.

    Dots alone would name a folder.
    """
    name = name if name.strip(".") else "image"
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}_{used[name]}"
