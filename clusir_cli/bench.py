"""``clusir bench``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clusir_cli.files import check
from clusir_cli.networks import device_option, find_device, import_option, load, weights_option
from clusir_cli.ways import WAYS, Measured, measure, missing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bench"]

_HEAD = ("way", "s/megapixel", "of float32", "peak MiB", "gray levels", "prepared in")


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False), required=False)
@weights_option
@import_option
@device_option
@click.option(
    "--way",
    "ways",
    multiple=True,
    type=click.Choice(list(WAYS)),
    help="Measure this one; may be given several times. Default: all that are possible here. float32 always is.",
)
@click.option("--size", type=click.IntRange(min=32), default=512, help="Side of the square that is measured, pixels.")
@click.option("--repeat", type=click.IntRange(min=1), default=3, help="Timed runs of each; the fastest counts.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="File for the figures too.")
@click.option("--overwrite", is_flag=True, help="Replace a file of figures that is there, but never IMAGE.")
def bench(
    image: str | None,
    weights: str | None,
    device: str | None,
    ways: tuple[str, ...],
    size: int,
    repeat: int,
    json_file: str | None,
    overwrite: bool,
) -> None:
    """Measure on this machine what the ways to run the network cost.

    Each way runs in a process of its own: seconds for a megapixel, the most memory of the process, and the largest
    difference to float32 in gray levels of 255. The middle of IMAGE is measured, without one a ramp with noise. Close
    other programs before: they slow all ways, but not alike.

    \b
    Examples:
      clusir bench photo.jpg --size 1024
      clusir bench --way bfloat16 --json figures.json
    """
    from clusir_modules.imaging.outputs import shown

    target = None if json_file is None else Path(json_file)
    if target is not None:
        if not target.absolute().parent.is_dir():
            raise click.UsageError(f"there is no folder {shown(target.parent)}")
        sources = [Path(given) for given in (image, weights) if given is not None] or [target.with_name("")]
        check([(target, sources[0])], weights=weights, existing="overwrite" if overwrite else None)
    place = str(find_device(device))
    net = load(weights)
    picture = _picture(image, size, getattr(net, "in_channels", 3))
    wanted = list(WAYS) if not ways else list(dict.fromkeys(("float32", *ways)))
    rows: list[dict[str, Any]] = []
    reference: Measured | None = None
    for way in wanted:
        reason = missing(way, place)
        if reason is None:
            click.echo(f"measuring {way}: {WAYS[way]}", err=True)
            try:
                found = measure(way, net, picture, place, repeat)
            except RuntimeError as error:
                reason = shown(str(error))
            else:
                reference = reference or found
                rows.append(_row(way, found, reference, picture))
        if reason is not None:
            if way == "float32":
                raise click.ClickException(reason)
            rows.append({"way": way, "not_measured": reason})
    click.echo(_table(rows))
    if target is not None:
        from clusir_modules.serialization.atomic import write_whole

        text = json.dumps(_facts(place, weights, picture, repeat) | {"ways": rows}, indent=2) + "\n"
        write_whole(lambda file: file.write(text.encode()), target)
        click.echo(f"wrote {shown(target)}", err=True)


def _picture(image: str | None, size: int, channels: int) -> Tensor:
    """``(1, channels, H, W)`` in [0, 1]: the middle of a picture, else a ramp with noise of sigma 25."""
    import numpy as np
    import torch

    from clusir_modules.imaging.levels import peak_of
    from clusir_modules.imaging.outputs import shown
    from clusir_modules.imaging.picture_files import read_picture

    if image is None:
        ramp = torch.linspace(0.1, 0.9, size)
        noise = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        return ((ramp + ramp[:, None]) / 2 + 25 / 255 * noise).clamp(0, 1)
    try:
        pixels = read_picture(Path(image)).pixels
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(f"{shown(image)}: {error}") from error
    top, left = (max(side - size, 0) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + size, left : left + size].astype(np.float32) / peak_of(pixels)
    x = torch.from_numpy(part).reshape(*part.shape[:2], -1).permute(2, 0, 1)[None]
    x = x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x
    if x.shape[1] != channels:
        raise click.ClickException(f"{shown(image)} has {x.shape[1]} channels, the network is for {channels}")
    return x.contiguous()


def _row(way: str, found: Measured, reference: Measured, picture: Tensor) -> dict[str, Any]:
    import numpy as np

    megapixels = picture.shape[2] * picture.shape[3] / 1e6
    result, expected = (np.clip(one.output, 0, 1) for one in (found, reference))
    return {
        "way": way,
        "seconds_per_megapixel": found.seconds / megapixels,
        "of_float32": found.seconds / reference.seconds,
        "peak_mib": found.peak_mib,
        "gray_levels": float(np.abs(result - expected).max() * 255),
        "preparing_seconds": found.preparing,
    }


def _facts(device: str, weights: str | None, picture: Tensor, repeat: int) -> dict[str, Any]:
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": weights or "shipped",
        "shape": list(picture.shape),
        "repeat": repeat,
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [_HEAD]
    for row in rows:
        if "not_measured" not in row:
            peak = "?" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
            lines.append(
                (
                    row["way"],
                    f"{row['seconds_per_megapixel']:.3g}",
                    f"{row['of_float32']:.2f}",
                    peak,
                    f"{row['gray_levels']:.3f}",
                    f"{row['preparing_seconds']:.1f} s",
                )
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join(table + [f"{row['way']}: {row['not_measured']}" for row in rows if "not_measured" in row])
