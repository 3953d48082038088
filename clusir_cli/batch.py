"""One picture after the other: a progress bar, failures reported at once, an exit code that tells of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from clusir_cli.files import Job

__all__ = ["run_all"]


def run_all(
    jobs: Sequence[Job],
    work: Callable[[Job], None],
    done: str,
    targets_of: Callable[[Job], Sequence[Path]] = lambda job: (job.target,),
) -> None:
    """Do all jobs; one that fails does not stop the others.

    Args:
        jobs: what to do.
        work: does one; whatever it raises counts as a failure of this picture.
        done: past participle for the summary.
        targets_of: the files that a job writes.

    Raises:
        SystemExit: with code 1, if any failed.
    """
    from tqdm import tqdm

    failures = 0
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    bar: Any = tqdm(jobs, unit="picture", disable=None)
    for job in bar:
        bar.set_postfix_str(job.source.name)
        try:
            _require_own_targets(job.source, targets_of(job), sources, taken)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            work(job)
        except Exception as error:
            failures += 1
            message = " ".join(str(error).split()) or type(error).__name__
            bar.write(f"failed: {job.source}: {message}", file=sys.stderr)
    click.echo(f"{len(jobs) - failures} of {len(jobs)} pictures {done}", err=True)
    if failures:
        raise SystemExit(1)


def _require_own_targets(source: Path, targets: Sequence[Path], sources: set[Path], taken: dict[Path, Path]) -> None:
    """Refuse to write over an input, or over the result of another."""
    for target in targets:
        place = target.resolve()
        if place == source.resolve():
            raise ValueError("the result would replace the picture; give another output")
        if place in sources:
            raise ValueError(f"the result would replace {target}, which is to be read too; give another output")
        if taken.setdefault(place, source) != source:
            raise ValueError(f"{target} is already the result of {taken[place]}")
