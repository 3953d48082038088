"""``clusir restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from clusir_cli.batch import run_all
from clusir_cli.files import Job, existing_options, plan
from clusir_cli.networks import device_option, find_device, import_option, load, weights_option

if TYPE_CHECKING:
    from clusir_modules.imaging.outputs import Existing

__all__ = ["restore"]


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.argument("output", metavar="OUT")
@weights_option
@import_option
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
@existing_options
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
    existing: Existing | None,
) -> None:
    """Restore pictures: a file, a folder with all below it, or a pattern.

    OUT is a file for one picture, else a folder. Sizes, orientation, transparency, gray and 16 bits (PNG and TIFF) stay
    as they are, and so do EXIF data, XMP, resolution and color profile. Files appear whole or not at all; nothing is
    written if an input or, without --overwrite, any other file would be replaced. A picture that fails is reported, the
    others go on, and the exit code is 1.

    \b
    Examples:
      clusir restore photo.jpg restored.png
      clusir restore scans/ restored/ --weights net_g_latest.pth --compare
      clusir restore "scans/**/*.tif" restored/ --device cuda --half --tile 1024
    """
    if overlap >= tile:
        raise click.UsageError(f"--overlap must be smaller than --tile, {tile}, got {overlap}")
    jobs = plan(inputs, output, compare=compare, weights=weights, existing=existing)
    place = find_device(device)
    net = load(weights).to(place)

    import torch

    from clusir_modules.inference.restore_file import restore_file

    dtype = (torch.bfloat16 if place.type == "cpu" else torch.float16) if half else None

    def work(job: Job) -> tuple[str, ...]:
        options: Any = {"tile": tile, "overlap": overlap, "routing": routing, "dtype": dtype}
        return restore_file(
            net, job.source, job.target, comparison=job.comparison, existing=existing or "error", **options
        )

    run_all(jobs, work, "restored", skip_existing=existing == "skip")
