"""``clusir restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clusir_cli.batch import run_all
from clusir_cli.files import Job, check, existing_options, plan
from clusir_cli.networks import device_option, find_device, import_option, load, weights_option

if TYPE_CHECKING:
    import torch
    from torch import nn

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
@click.option(
    "--temporal",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="For videos: how much a frame takes over of the one before it where nothing moves; 0.8 halves flicker.",
)
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
    temporal: float,
    existing: Existing | None,
) -> None:
    """Restore pictures: a file, a folder with all below it, or a pattern; or one video.

    OUT is a file for one picture, else a folder. Sizes, orientation, transparency, gray and 16 bits (PNG and TIFF) stay
    as they are, and so do EXIF data, XMP, resolution and color profile. Files appear whole or not at all; nothing is
    written if an input or, without --overwrite, any other file would be replaced. A picture that fails is reported, the
    others go on, and the exit code is 1.

    An OUT that ends in .mp4, .mov or .mkv is a video. Times, sound and color tags stay; the same command goes on after
    it was killed, from a hidden folder beside OUT.

    \b
    Examples:
      clusir restore photo.jpg restored.png
      clusir restore clip.mp4 restored.mp4
      clusir restore scans/ restored/ --weights net_g_latest.pth --compare
      clusir restore "scans/**/*.tif" restored/ --device cuda --half --tile 1024
    """
    if overlap >= tile:
        raise click.UsageError(f"--overlap must be smaller than --tile, {tile}, got {overlap}")
    options: dict[str, Any] = {"tile": tile, "overlap": overlap}
    if _is_video(output):
        if len(inputs) != 1 or compare:
            raise click.UsageError("a video is restored alone: one IN, and no --compare")
        options |= {"temporal": temporal} if routing == "global" else {"temporal": temporal, "routing": routing}
        _restore_video(inputs[0], output, weights, device, half=half, existing=existing, options=options)
        return
    if temporal:
        raise click.UsageError("--temporal is for videos")
    jobs = plan(inputs, output, compare=compare, weights=weights, existing=existing)
    net, options["dtype"] = _load(weights, device, half=half)

    from clusir_modules.inference.restore_file import restore_file

    def work(job: Job) -> tuple[str, ...]:
        kept: Any = {"comparison": job.comparison, "existing": existing or "error"}
        return restore_file(net, job.source, job.target, routing=routing, **kept, **options)

    run_all(jobs, work, "restored", skip_existing=existing == "skip")


def _load(weights: str | None, device: str | None, *, half: bool) -> tuple[nn.Module, torch.dtype | None]:
    """The network where it is to run, and the type for autocast."""
    place = find_device(device)
    net = load(weights).to(place)

    import torch

    return net, (torch.bfloat16 if place.type == "cpu" else torch.float16) if half else None


def _is_video(path: str) -> bool:
    from clusir_modules.inference.restore_video import VIDEO_SUFFIXES

    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _restore_video(
    source: str,
    target: str,
    weights: str | None,
    device: str | None,
    *,
    half: bool,
    existing: Existing | None,
    options: dict[str, Any],
) -> None:
    from clusir_modules.extras import install_hint
    from clusir_modules.imaging.outputs import shown
    from clusir_modules.inference.restore_video import restore_video

    check([(Path(target), Path(source))], weights=weights, existing=existing)
    net, options["dtype"] = _load(weights, device, half=half)
    try:
        restore_video(net, source, target, existing=existing or "error", progress=True, **options)
    except ImportError as error:
        raise click.ClickException(f"{error}; {install_hint('video')}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(shown(str(error))) from error
    click.echo(f"wrote {shown(target)}", err=True)
