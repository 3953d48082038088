"""``clusir check``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["check"]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("gt", type=click.Path(exists=True, file_okay=False), required=False)
@click.option(
    "--pairing",
    default="same_name",
    help="Which names belong together: same_name, rain100l, dehaze, gopro, lol, cdd11, or a template like {stem}_gt.",
)
def check(folder: str, gt: str | None, pairing: str) -> None:
    """Say of every picture what is wrong with it, before a training starts; the exit code is 1 if anything is.

    Of FOLDER: what cannot be read, other channels than most, the same pixels twice. With GT, of the pairs of degraded
    pictures in FOLDER and clean ones in GT, also: no partner, another size, other channels, another orientation.

    \b
    Examples:
      clusir check photographs/
      clusir check hazy/ clean/ --pairing dehaze
    """
    from clusir_modules.data.problems import check_folder, check_pairs
    from clusir_modules.imaging.outputs import shown

    try:
        if gt is None:
            problems = check_folder(Path(folder))
        else:
            problems = check_pairs(Path(folder), Path(gt), pairing=pairing)
    except ValueError as error:
        raise click.ClickException(shown(str(error))) from error
    for path, what in problems:
        click.echo(f"{shown(path)} {shown(what)}")
    pictures = len({path for path, _ in problems})
    click.echo(f"{pictures} pictures have problems" if problems else "nothing is wrong", err=True)
    if problems:
        raise SystemExit(1)
