"""One picture after the other: a progress bar, failures reported at once, an exit code that tells of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from clusir_cli.files import Job

__all__ = ["run_all"]


def run_all(jobs: Sequence[Job], work: Callable[[Job], tuple[str, ...]], done: str, *, skip_existing: bool) -> None:
    """Do all jobs; one that fails does not stop the others.

    Args:
        jobs: what to do.
        work: does one and says what could not be kept; whatever it raises counts as a failure of this picture.
        done: past participle for the summary.
        skip_existing: whether pictures whose files are all there are left out.

    Raises:
        SystemExit: with code 1, if any failed.
    """
    from tqdm import tqdm

    from clusir_modules.imaging.outputs import shown

    wanted = [job for job in jobs if not (skip_existing and all(map(os.path.lexists, job.outputs)))]
    failures = 0
    bar: Any = tqdm(wanted, unit="picture", disable=None)
    for job in bar:
        bar.set_postfix_str(shown(job.source.name))
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            for note in work(job):
                bar.write(f"note: {shown(job.source)}: {note}", file=sys.stderr)
        except Exception as error:
            failures += 1
            message = " ".join(shown(str(error)).split()) or type(error).__name__
            bar.write(f"failed: {shown(job.source)}: {message}", file=sys.stderr)
    there = f", {len(jobs) - len(wanted)} were there already" if len(wanted) < len(jobs) else ""
    click.echo(f"{len(wanted) - failures} of {len(wanted)} pictures {done}{there}", err=True)
    if failures:
        raise SystemExit(1)
