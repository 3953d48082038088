"""``clusir degrade``."""

from __future__ import annotations

import ast
import os
import zlib
from typing import TYPE_CHECKING, Any

import click

from clusir_cli.batch import run_all
from clusir_cli.files import Job, existing_options, plan

if TYPE_CHECKING:
    from clusir_modules.data import Degradation
    from clusir_modules.imaging.outputs import Existing

__all__ = ["degrade"]


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.argument("output", metavar="OUT")
@click.option(
    "--task",
    "tasks",
    metavar="TASK",
    multiple=True,
    required=True,
    help="noise, camera_noise, raw_noise, rain, raindrops, haze, motion_blur, defocus_blur, low_light, jpeg, "
    "jpeg_twice, resize or snow, or a degradation with settings, such as 'GaussianNoise(sigma=50)'. Several are "
    "applied one after the other.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Same seed and file name, same result.")
@existing_options
def degrade(inputs: tuple[str, ...], output: str, tasks: tuple[str, ...], seed: int, existing: Existing | None) -> None:
    """Degrade clean pictures as training does: a file, a folder with all below it, or a pattern.

    OUT is a file for one picture, else a folder. Nothing is written if an input or, without --overwrite, any other file
    would be replaced.

    \b
    Examples:
      clusir degrade photo.png noisy.png --task noise
      clusir degrade photo.png night.png --task low_light --task "RainStreaks(density=2)"
      clusir degrade clean/ hazy/ --task "Haze(beta=[0.6, 1.8])" --seed 7
    """
    degradation = _build(tasks)
    jobs = plan(inputs, output, existing=existing)

    import numpy as np
    import torch

    from clusir_modules.imaging.levels import peak_of
    from clusir_modules.imaging.picture_files import read_picture
    from clusir_modules.imaging.writing import write_picture

    def work(job: Job) -> tuple[str, ...]:
        picture = read_picture(job.source)
        peak = peak_of(picture.pixels)
        image = torch.from_numpy(picture.pixels.astype(np.float32) / peak)
        image = image.permute(2, 0, 1) if image.dim() == 3 else image.unsqueeze(0)
        # Depends on the name alone, so that it does not matter which other pictures there are.
        generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(os.fsencode(job.source.name)))
        result = degradation(image, generator).clamp(0, 1)
        result = result.mul(peak).round() if peak > 1 else result
        pixels = result.permute(1, 2, 0).numpy().astype(picture.pixels.dtype).reshape(picture.pixels.shape)
        write_picture(picture._replace(pixels=pixels), job.target)
        return picture.notes

    run_all(jobs, work, "degraded", skip_existing=existing == "skip")


def _build(tasks: tuple[str, ...]) -> Degradation:
    from clusir_modules.data import build_degradation

    try:
        steps = [build_degradation(_parse(task)) for task in tasks]
        return steps[0] if len(steps) == 1 else build_degradation(steps)
    except (TypeError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--task") from error


def _parse(task: str) -> Any:
    """A short name as it is; ``Type(name=value)`` as the mapping of an option file."""
    if task.isidentifier() and task.islower():
        return task
    try:
        tree = ast.parse(task, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("settings must have names")
        return {"type": call.func.id, **{str(k.arg): ast.literal_eval(k.value) for k in call.keywords}}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"must be a task or 'Type(name=value, ...)', got {task!r} ({error})") from error
