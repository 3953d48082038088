"""``clusir inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clusir_cli.files import check
from clusir_cli.networks import device_option, find_device, import_option, load, weights_option

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from clusir_modules import Routing

__all__ = ["inspect"]

_MAX_SIDE = 1024


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False))
@weights_option
@import_option
@device_option
@click.option("--verbose", "-v", is_flag=True, help="Also print the clusters and experts of each level.")
@click.option("--plot", type=click.Path(dir_okay=False), help="PNG to write, with all clusters and experts.")
@click.option("--overwrite", is_flag=True, help="Replace a plot that is there, but never IMAGE.")
def inspect(
    image: str, weights: str | None, device: str | None, verbose: bool, plot: str | None, overwrite: bool
) -> None:
    """Say what the network takes a picture for: "looks like: haze (0.93), then rain".

    The number is a probability, from a table of clusters and degradations that is stored in the weights. A side above
    1024 pixels is cut to the middle 1024.

    \b
    Examples:
      clusir inspect photo.jpg
      clusir inspect photo.jpg --weights net_g_latest.pth --verbose --plot routing.png
    """
    from clusir_modules.extras import install_hint
    from clusir_modules.imaging.outputs import shown

    target = None if plot is None else Path(plot)
    if target is not None:
        if find_spec("matplotlib") is None:
            raise click.ClickException(f"--plot needs matplotlib: {install_hint('cli')}")
        if not target.absolute().parent.is_dir():
            raise click.UsageError(f"there is no folder {shown(target.parent)}")
        check([(target, Path(image))], weights=weights, existing="overwrite" if overwrite else None)
        if target.suffix.lower() != ".png":
            raise click.UsageError(f"--plot must end in .png, got {shown(target)}")
    place = find_device(device)
    net: Any = load(weights).to(place)
    if not hasattr(net, "route"):
        raise click.ClickException(f"{type(net).__name__} has no routing to show")

    import torch

    from clusir_modules.imaging.picture_files import read_picture
    from clusir_modules.inspection.routing_report import describe_routing

    try:
        pixels = read_picture(Path(image)).pixels
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(f"{shown(image)}: {error}") from error
    pixels = _middle(pixels)
    with torch.no_grad():
        try:
            routings = net.route(_to_tensor(pixels, net.in_channels).to(place))
        except ValueError as error:
            raise click.ClickException(f"{shown(image)} does not fit the network: {error}") from error
    click.echo(_guess(weights, routings))
    if verbose:
        for level, routing in enumerate(routings, start=1):
            click.echo(describe_routing(level, routing))
    if target is not None:
        _plot(pixels, routings, target)
        click.echo(f"wrote {shown(target)}")


def _guess(weights: str | None, routings: Sequence[Routing]) -> str:
    """The two likeliest degradations, by the table in the weights."""
    from clusir_modules.inspection.degradation_table import read_table
    from clusir_modules.networks.clusir import SHIPPED_WEIGHTS
    from clusir_modules.serialization.pretrained import WEIGHTS_NAME

    file = SHIPPED_WEIGHTS if weights is None else Path(weights)
    try:
        table = read_table(file / WEIGHTS_NAME if file.is_dir() else file)
        guesses = None if table is None else table.guess(routings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if guesses is None:
        return (
            "These weights do not say what their clusters stand for (`make degradation-table` measures that); "
            "--verbose prints the clusters."
        )
    (first, probability), (second, _) = guesses[:2]
    return f"looks like: {first.replace('_', ' ')} ({probability:.2f}), then {second.replace('_', ' ')}"


def _middle(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    top, left = (max(side - _MAX_SIDE, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + _MAX_SIDE, left : left + _MAX_SIDE]


def _to_tensor(pixels: npt.NDArray[Any], channels: int) -> Tensor:
    """``(1, channels, H, W)`` in [0, 1]; gray is repeated."""
    import numpy as np
    import torch

    from clusir_modules.imaging.levels import peak_of

    image = torch.from_numpy(pixels.astype(np.float32) / peak_of(pixels))
    image = image.permute(2, 0, 1) if image.dim() == 3 else image.unsqueeze(0)
    return (image.expand(channels, -1, -1) if image.shape[0] == 1 else image).unsqueeze(0)


def _plot(pixels: npt.NDArray[Any], routings: Sequence[Routing], target: Path) -> None:
    from clusir_modules.extras import install_hint
    from clusir_modules.imaging.levels import to_eight_bits
    from clusir_modules.inspection.routing_report import draw_routings
    from clusir_modules.serialization.atomic import written_whole

    try:
        figure = draw_routings(to_eight_bits(pixels), routings)
    except ImportError as error:
        raise click.ClickException(f"the plot needs matplotlib: {install_hint('cli')}") from error
    with written_whole(target) as file:
        figure.savefig(file, dpi=120, format="png")
