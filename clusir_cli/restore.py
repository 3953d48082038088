"""``clusir restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clusir_cli.batch import run_all
from clusir_cli.files import Job, plan
from clusir_cli.networks import device_option, find_device, load, weights_option

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["restore"]

_GAP = 8
"""White pixels between the halves of a comparison."""


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.argument("output", metavar="OUT")
@weights_option
@click.option("--tile", type=click.IntRange(min=16), default=512, help="Longest side of a tile, pixels.")
@click.option("--overlap", type=click.IntRange(min=0), default=32, help="Pixels that tiles share.")
@click.option(
    "--routing",
    type=click.Choice(["global", "tile"]),
    default="global",
    help="Recognize the degradation once in the whole picture, or in each tile.",
)
@device_option
@click.option("--half", is_flag=True, help="Half precision: float16, on a CPU bfloat16.")
@click.option("--compare", is_flag=True, help="Also write NAME_compare.png: input and result side by side.")
def restore(
    inputs: tuple[str, ...],
    output: str,
    weights: str | None,
    tile: int,
    overlap: int,
    routing: str,
    device: str | None,
    half: bool,
    compare: bool,
) -> None:
    """Restore pictures: a file, a folder with all below it, or a pattern.

    OUT is a file for one picture, else a folder. Sizes, orientation, transparency, gray and 16 bits (PNG and TIFF) stay
    as they are. Files appear whole or not at all. A picture that fails is reported, the others go on, and the exit
    code is 1.

    \b
    Examples:
      clusir restore photo.jpg restored.png
      clusir restore scans/ restored/ --weights net_g_latest.pth --compare
      clusir restore "scans/**/*.tif" restored/ --device cuda --half --tile 1024
    """
    if overlap >= tile:
        raise click.UsageError(f"--overlap must be smaller than --tile, {tile}, got {overlap}")
    jobs = plan(inputs, output)
    place = find_device(device)
    net = load(weights).to(place)

    import torch

    from clusir_modules.imaging.picture_files import read_picture
    from clusir_modules.imaging.writing import write_picture
    from clusir_modules.inference.restore import restore as restore_image
    from clusir_modules.serialization.atomic import written_whole

    dtype = (torch.bfloat16 if place.type == "cpu" else torch.float16) if half else None

    def work(job: Job) -> None:
        picture = read_picture(job.source)
        options: Any = {"tile": tile, "overlap": overlap, "routing": routing, "dtype": dtype}
        result = picture._replace(pixels=restore_image(net, picture.pixels, progress=False, **options))
        write_picture(result, job.target)
        if compare:
            with written_whole(_comparison(job)) as file:
                _side_by_side(picture.pixels, result.pixels).save(file)

    run_all(jobs, work, "restored", lambda job: (job.target, _comparison(job)) if compare else (job.target,))


def _comparison(job: Job) -> Path:
    return job.target.with_name(f"{job.target.stem}_compare.png")


def _side_by_side(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Any:
    """Picture in 8 bits with both halves upright."""
    import numpy as np
    from PIL import Image

    from clusir_modules.imaging.writing import to_eight_bits

    halves = [to_eight_bits(pixels) for pixels in (before, after)]
    gap = np.full((halves[0].shape[0], _GAP, *halves[0].shape[2:]), 255, np.uint8)
    return Image.fromarray(np.concatenate((halves[0], gap, halves[1]), axis=1))
