"""The network that a command works with, and where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["device_option", "find_device", "import_option", "load", "weights_option"]


def _import(context: click.Context, parameter: click.Parameter, names: Sequence[str]) -> None:
    for name in names:
        from clusir_modules.serialization.registry import import_registering

        try:
            import_registering(name)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error


import_option = click.option(
    "--import",
    "imports",
    metavar="MODULE",
    multiple=True,
    expose_value=False,
    callback=_import,
    help="Module that registers parts of your own, found in the working directory too. May be given several times.",
)

weights_option = click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(exists=True),
    help="Checkpoint: .safetensors, .pth (BasicSR's too) or a folder of save_pretrained. Default: the small network "
    "that comes with clusir.",
)
device_option = click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, ...  Default: the fastest here.")


def load(weights: str | None) -> nn.Module:
    """Make the network of a checkpoint, or the one that is shipped.

    Raises:
        click.ClickException: the file holds no network.
    """
    import clusir_modules as cm
    from clusir_modules.serialization.network_files import load_network

    if weights is not None:
        try:
            return load_network(weights)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    return cm.clusir_tiny(pretrained=True).eval()


def find_device(name: str | None) -> torch.device:
    """Check a device, or find the fastest.

    Raises:
        click.BadParameter: it is not at hand.
    """
    import torch

    if name is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise click.BadParameter(f"{name!r} is not at hand: {first_line}", param_hint="--device") from error
