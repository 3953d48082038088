"""Can a router be believed? Its confidence beside how often its cluster names the degradation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clusir_modules.inspection.calibration import fit_temperature

from .clusters import kind_of
from .known import Evaluation
from .reports import write_report

__all__ = ["calibration", "confidence_report"]

_BINS = 10
_DOUBT = 0.002  # how often a cluster may stand for a degradation that it was never seen for


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error, and of each bin of equal width that is not empty: confidence, share right, images.

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    bins: dict[int, list[tuple[float, bool]]] = {}
    for pair in zip(confidences, right, strict=True):
        bins.setdefault(min(int(pair[0] * _BINS), _BINS - 1), []).append(pair)
    rows = [
        (sum(c for c, _ in pairs) / len(pairs), sum(r for _, r in pairs) / len(pairs), len(pairs))
        for _, pairs in sorted(bins.items())
    ]
    return sum(abs(c - r) * n for c, r, n in rows) / len(confidences), rows


def _calibrated(named: Sequence[Evaluation], rest: Sequence[Evaluation], level: int) -> tuple[float, float, float]:
    """Temperature that ``named`` fit, and the calibration errors of ``rest`` without and with it.

    Of each cluster, the mean posterior in the images of a degradation says how often it stands for this one.
    """
    kinds = list(dict.fromkeys(kind_of(e.task) for e in named))

    def read(evaluations: Sequence[Evaluation]) -> tuple[Tensor, Tensor]:
        clusters = torch.cat([e.routings[level].cluster_probs for e in evaluations]).double()
        return clusters, torch.tensor([kinds.index(kind_of(e.task)) for e in evaluations])

    clusters, labels = read(named)
    frequency = torch.stack([clusters[labels == kind].mean(dim=0) for kind in range(len(kinds))], dim=1) + _DOUBT
    meaning = frequency / frequency.sum(dim=1, keepdim=True)
    temperature = fit_temperature(clusters @ meaning, labels)
    clusters, labels = read(rest)
    probs = clusters @ meaning
    errors = []
    for given in (probs, (probs.log() / temperature).softmax(dim=1)):
        sure, guess = given.max(dim=1)
        errors.append(calibration(sure.tolist(), (guess == labels).tolist())[0])
    return temperature, errors[0], errors[1]


def confidence_report(evaluations: Sequence[Evaluation], results: Path) -> None:
    """Write ``quality_confidence`` (JSON, table, reliability diagrams), for single degradations.

    Every other image of a degradation says which one a cluster stands for, and by which temperature the posterior over
    degradations is too sure; the figures are of the rest.
    """
    single = [e for e in evaluations if "+" not in e.task]
    named, rest = single[0::2], single[1::2]
    levels = len(single[0].routings)
    rows = []
    figure = Figure(figsize=(3.2 * levels, 3.4), layout="constrained")
    for level, axis in enumerate(figure.subplots(1, levels)):
        votes: dict[int, Counter[str]] = {}
        for e in named:
            votes.setdefault(e.cluster(level), Counter())[kind_of(e.task)] += 1
        meaning = {cluster: count.most_common(1)[0][0] for cluster, count in votes.items()}
        sure = [float(e.routings[level].confidence) for e in rest]
        right = [meaning.get(e.cluster(level)) == kind_of(e.task) for e in rest]
        error, bins = calibration(sure, right)
        temperature, before, after = _calibrated(named, rest, level)
        rows.append(
            {
                "level": level + 1,
                "images": len(rest),
                "mean confidence": sum(sure) / len(sure),
                "share right": sum(right) / len(right),
                "expected calibration error": error,
                "error of the degradations": before,
                "temperature": temperature,
                "error with the temperature": after,
                "bins": bins,
            }
        )
        axis.plot([0, 1], [0, 1], color="gray", linewidth=1)
        axis.plot([c for c, _, _ in bins], [r for _, r, _ in bins], marker="o")
        axis.set(title=f"level {level + 1}", xlabel="confidence", ylabel="share right" if level == 0 else None)
    figure.savefig(results / "quality_confidence.png", dpi=100)
    lines = [
        "Posterior of the most probable cluster, beside how often this cluster names the degradation (which one a "
        f"cluster stands for is read from other images); {len(rest)} images of CBSD68, clean ones among them.",
        "The last columns: calibration error of the posterior over degradations, before and after the temperature that "
        "fits the other images.",
        "",
        "| level | mean confidence | share right | expected calibration error | degradations | temperature | with it |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['level']} | {row['mean confidence']:.2f} | {row['share right']:.2f} "
        f"| {row['expected calibration error']:.2f} | {row['error of the degradations']:.2f} "
        f"| {row['temperature']:.2f} | {row['error with the temperature']:.2f} |"
        for row in rows
    ]
    write_report(results / "quality_confidence", rows, lines)
