"""What a validation says: a row for each task, with input, result, gain and the best so far of each metric."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr_plugin.options.schema import MetricOptions
from clusir_modules.serialization.atomic import write_whole

__all__ = ["Measured", "Row", "ValidationTable"]

_PREFIXES = {"result": "metrics", "input": "metrics_input", "gain": "metrics_gain", "best": "metrics_best"}
"""Of the tags in TensorBoard, by column."""


@dataclass(frozen=True)
class Measured:
    """Values of one picture.

    Attributes:
        result: Of the restored picture, by metric.
        input: Of the degraded picture; empty if it has another size.
        task: The picture's task if its sample says one.
    """

    result: Mapping[str, float]
    input: Mapping[str, float]
    task: str | None = None


@dataclass(frozen=True)
class Row:
    """Means over the pictures of a set or of one of its tasks.

    Attributes:
        dataset: Name of the set.
        task: Name of the task; None for all pictures of the set.
        pictures: How many there are.
        values: By metric, "input" and "gain" (positive where the result is better; both None without an input of that
            size), "result", "best" (the best result so far) and "best_iteration".
    """

    dataset: str
    task: str | None
    pictures: int
    values: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """As in TensorBoard and ``val.save_best``: the set, or ``<set>/<task>``."""
        return self.dataset if self.task is None else f"{self.dataset}/{self.task}"


class ValidationTable:
    """Makes rows of measured pictures, and keeps the best values.

    Args:
        metrics: By name of the column.
        file: JSON file with all rows of the run, or None.

    Attributes:
        best: Best result so far, and its iteration, by name of the row and by metric.
        improved: ``<row>/<metric>`` of the results that the last rows made the best.
    """

    def __init__(self, metrics: Mapping[str, MetricOptions], file: Path | None = None) -> None:
        self.metrics = metrics
        self.file = file
        self.best: dict[str, dict[str, dict[str, Any]]] = {}
        self.improved: set[str] = set()

    def add(self, dataset: str, iteration: int | str, pictures: Sequence[Measured]) -> list[Row]:
        """Rows of a set: of all its pictures, then of each task if there are several; the best values are renewed."""
        self.improved = set()
        groups: dict[str | None, Sequence[Measured]] = {None: pictures}
        tasks = dict.fromkeys(picture.task for picture in pictures if picture.task is not None)
        if len(tasks) > 1:
            groups |= {task: [picture for picture in pictures if picture.task == task] for task in tasks}
        rows = [Row(dataset, task, len(group), self._means(group)) for task, group in groups.items()]
        for row in rows:
            for metric, values in row.values.items():
                self._compare(f"{row.name}/{metric}", self.best.setdefault(row.name, {}), metric, values, iteration)
        return rows

    def _means(self, pictures: Sequence[Measured]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for metric, options in self.metrics.items():
            results = [picture for picture in pictures if metric in picture.result]
            if not results:
                continue
            result, before, gain = _mean(picture.result[metric] for picture in results), None, None
            if all(metric in picture.input for picture in results):
                before = _mean(picture.input[metric] for picture in results)
                gain = result - before if options.better == "higher" else before - result
            found[metric] = {"input": before, "result": result, "gain": gain}
        return found

    def _compare(
        self, column: str, records: dict[str, dict[str, Any]], metric: str, values: dict[str, Any], iteration: int | str
    ) -> None:
        better = self.metrics[metric].better
        worst = -math.inf if better == "higher" else math.inf
        record = records.setdefault(metric, {"better": better, "val": worst, "iter": -1})
        if values["result"] >= record["val"] if better == "higher" else values["result"] <= record["val"]:
            record.update(val=values["result"], iter=iteration)
            self.improved.add(column)
        values |= {"best": record["val"], "best_iteration": record["iter"]}

    def write(self, rows: Sequence[Row], iteration: int | str, writer: Any) -> None:
        """Write rows of one set to the log, to TensorBoard if there is a writer, and to the JSON file."""
        width = max(len(row.name) for row in rows)
        lines = [f"{row.name:<{width}}  {'  '.join(_say(*item) for item in row.values.items())}" for row in rows]
        logging.getLogger("basicsr").info("\n    ".join([f"Validation {rows[0].dataset}", *lines]) + "\n")
        if writer is not None:
            for row in rows:
                for metric, values in row.values.items():
                    for column, prefix in _PREFIXES.items():
                        if values[column] is not None:
                            writer.add_scalar(f"{prefix}/{row.name}/{metric}", values[column], iteration)
        if self.file is not None:
            try:
                self._write_json(self.file, rows, iteration)
            except OSError as error:
                logging.getLogger("basicsr").error(f"the table cannot be written: {error}; the run goes on")

    def _write_json(self, file: Path, rows: Sequence[Row], iteration: int | str) -> None:
        """Add rows; what a run that was resumed from an older state had already written of these iterations goes."""
        try:
            former = json.loads(file.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            former = []
        kept = [
            row
            for row in former
            if (row["iteration"], row["set"]) != (iteration, rows[0].dataset)
            and (isinstance(iteration, str) or row["iteration"] <= iteration)
        ]
        kept += [
            {
                "iteration": iteration,
                "set": row.dataset,
                "task": row.task,
                "pictures": row.pictures,
                "metrics": {metric: _finite(values) for metric, values in row.values.items()},
            }
            for row in rows
        ]
        text = "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in kept) + "\n]\n"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(lambda stream: stream.write(text.encode()), file)


def _say(metric: str, values: Mapping[str, Any]) -> str:
    change = "" if values["gain"] is None else f" (input {values['input']:.4f}, gain {values['gain']:+.4f})"
    return f"# {metric}: {values['result']:.4f}{change}  best: {values['best']:.4f} @ {values['best_iteration']}"


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON has: null for infinities and NaN."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def _mean(values: Iterable[float]) -> float:
    total = count = 0.0
    for value in values:
        total, count = total + value, count + 1
    return total / count
