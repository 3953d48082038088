"""The command and its subcommands."""

from __future__ import annotations

import click

from clusir_cli.bench import bench
from clusir_cli.check import check
from clusir_cli.degrade import degrade
from clusir_cli.export import export
from clusir_cli.info import info
from clusir_cli.inspect import inspect
from clusir_cli.restore import restore

__all__ = ["main"]


_FIRST_STEPS = """\
clusir restores pictures that suffer from noise, rain, haze, blur or low light. To begin with:

  clusir restore photo.jpg restored.jpg            restore a picture; --compare puts both side by side
  clusir inspect photo.jpg                         say what it suffers from
  clusir degrade photo.jpg rainy.jpg --task rain   make a picture to try it on

clusir --help lists all commands, clusir COMMAND --help the options of one."""


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="clusir")
@click.pass_context
def main(context: click.Context) -> None:
    """Restore pictures that suffer from noise, rain, haze, blur, low light or several of them.

    \b
    Examples:
      clusir restore photo.jpg restored.jpg
      clusir inspect photo.jpg
      clusir degrade photo.png noisy.png --task noise
      clusir check hazy/ clean/
      clusir info net_g_latest.pth
      clusir export net_g_latest.pth --format onnx
    """
    if context.invoked_subcommand is None:
        click.echo(_FIRST_STEPS)


for _command in (restore, inspect, degrade, check, info, export, bench):
    main.add_command(_command)
