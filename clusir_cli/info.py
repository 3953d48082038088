"""``clusir info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["info"]


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(checkpoint: str, as_json: bool) -> None:
    """Say what is in a checkpoint: network, configuration, size. No code in it is run.

    \b
    Examples:
      clusir info experiments/clusir_base/models/net_g_latest.pth
      clusir info restored.safetensors --json
    """
    from clusir_modules.imaging.outputs import shown
    from clusir_modules.serialization.checkpoints import read_state_dict
    from clusir_modules.serialization.configuration import infer_configuration, network_entries
    from clusir_modules.serialization.network_files import read_configuration
    from clusir_modules.serialization.pretrained import WEIGHTS_NAME

    path = Path(checkpoint)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    try:
        weights = network_entries(read_state_dict(file))
        stated = read_configuration(path) or read_configuration(file)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    try:
        configuration = stated or infer_configuration(weights)
    except ValueError:
        configuration = None
    facts: dict[str, Any] = {
        "file": str(file),
        "size_bytes": file.stat().st_size,
        "entries": len(weights),
        "values": sum(value.numel() for value in weights.values()),
        "types": sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()}),
        "architecture": configuration.architecture if configuration else None,
        "configuration_from": None if configuration is None else "file" if stated else "weights",
        "configuration": configuration.complete() if configuration else None,
    }
    click.echo(json.dumps(facts, indent=2) if as_json else shown(_as_text(facts)))


def _as_text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['file']}: {facts['architecture'] or 'a network that clusir does not know'}",
        f"  {facts['values']:,} values in {facts['entries']} entries, {', '.join(facts['types'])}, "
        f"{facts['size_bytes'] / 2**20:.1f} MiB",
    ]
    if facts["configuration"] is not None:
        origin = "stated in the file" if facts["configuration_from"] == "file" else "inferred from the weights"
        lines.append(f"  configuration, {origin}:")
        lines.extend(f"    {name}: {json.dumps(value)}" for name, value in facts["configuration"].items())
    return "\n".join(lines)
