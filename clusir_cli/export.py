"""``clusir export``."""

from __future__ import annotations

from pathlib import Path

import click

from clusir_cli.files import check
from clusir_cli.networks import import_option, load

__all__ = ["export"]

_SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "safetensors": ".safetensors"}


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True))
@click.option("--format", "file_format", type=click.Choice(list(_SUFFIXES)), required=True, help="What to write.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="File. Default: beside CHECKPOINT, other suffix.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there, but never CHECKPOINT.")
@import_option
def export(checkpoint: str, file_format: str, output: str | None, overwrite: bool) -> None:
    """Write a checkpoint in another format.

    onnx and pt2 (torch.export) hold the network itself, for pictures of any size (pt2: sides of 17 pixels and more);
    safetensors holds weights and configuration.

    \b
    Examples:
      clusir export net_g_latest.pth --format onnx
      clusir export net_g_latest.pth --format safetensors -o clusir_base.safetensors
    """
    from clusir_modules.imaging.outputs import shown

    target = Path(output) if output else Path(checkpoint).with_suffix(_SUFFIXES[file_format])
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {shown(target.parent)}")
    check([(target, Path(checkpoint))], weights=checkpoint, existing="overwrite" if overwrite else None)
    net = load(checkpoint)
    try:
        if file_format == "safetensors":
            from clusir_modules.serialization.network_files import save_network

            save_network(net, target)
        else:
            from clusir_modules.inference.export import export_onnx, export_pt2

            (export_onnx if file_format == "onnx" else export_pt2)(net, target)
    except ImportError as error:
        from clusir_modules.extras import install_hint

        raise click.ClickException(f"{error}; {install_hint('export')}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(shown(str(error))) from error
    click.echo(f"wrote {shown(target)}")
