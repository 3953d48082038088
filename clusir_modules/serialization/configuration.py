"""Which network a state dict belongs to, and with which settings it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .pretrained import Pretrained
from .registry import NETWORKS

__all__ = ["Configuration", "count_modules", "infer_configuration", "network_entries", "recognize"]

_SHAPELESS = ("num_heads", "reduction")  # several values may give the same shapes
_LARGEST = 2**16
"""No setting of a network is larger; a file that states one is damaged or hostile."""
_DEEPEST = 2**10
"""Neither has a network more modules of one kind behind each other."""
_DEPTHS = ("num_blocks", "num_decoder_blocks", "num_refinement_blocks", "supervised_stages", "num_cabs")


class Configuration(NamedTuple):
    """A network by the name of its class and the arguments of its constructor, parts by their names."""

    architecture: str
    settings: dict[str, Any]

    def build(self, device: torch.device | str = "cpu") -> nn.Module:
        """Make the network, with random weights.

        Raises:
            ValueError: there is no such network, or it refuses a setting.
        """
        network = self._network()
        for name, value in self.settings.items():
            _check_size(name, value, _DEEPEST if name in _DEPTHS else _LARGEST)
        try:
            with torch.device(device):
                return network.from_config(self.settings)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"the configuration does not fit {self.architecture}: {error}") from error

    def complete(self) -> dict[str, Any]:
        """The settings, and the defaults of those that are left out."""
        network = NETWORKS.get(self.architecture)
        if not (isinstance(network, type) and issubclass(network, Pretrained)):
            return self.settings
        settings = {network.renamed.get(name, name): value for name, value in self.settings.items()}
        return {**network.defaults(), **settings}

    def names_parts(self) -> bool:
        """Whether a part is not the default one."""
        return bool(self._network().part_settings(self.settings))

    def require_agreement(self, inferred: Configuration, source: str) -> None:
        """Check a configuration that a file states against what its weights show.

        Raises:
            ValueError: they differ.
        """
        if not issubclass(self._network(), inferred._network()):
            raise ValueError(
                f"{source} states the architecture {self.architecture!r}, its weights are of {inferred.architecture!r}"
            )
        stated = self.complete()
        for name, value in inferred.settings.items():
            if name in self.settings and stated[name] != value and name not in _SHAPELESS:
                raise ValueError(f"{source} states {name}={stated[name]!r}, its weights are of {name}={value!r}")

    def _network(self) -> type[Pretrained]:
        network: Any = NETWORKS.get(self.architecture)
        if network is None:
            known = ", ".join(sorted(NETWORKS))
            raise ValueError(f"architecture must be one of {known}, got {self.architecture!r}")
        return network


def recognize(weights: Mapping[str, Any], *, source: str = "the state dict") -> str:
    """Name of the network that a state dict is of.

    Raises:
        ValueError: it is of none of :data:`NETWORKS`; ``source`` stands for it in the message.
    """
    for architecture, network in NETWORKS.items():
        if isinstance(network, type) and issubclass(network, Pretrained) and network.recognizes(weights):
            return architecture
    raise ValueError(
        f"{source} must hold weights of one of {', '.join(sorted(NETWORKS))}, got the entries {sorted(weights)[:5]}; "
        "load_weights(net, path) reads others into a network that is there"
    )


def network_entries(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a network, where another module holds it, by their own names; else all of them.

    A Lightning module calls it ``model.`` or ``net.``, a wrapper for averages ``module.``, beside a counter of its own.
    Of several copies the averaged one is taken.
    """
    for network in NETWORKS.values():
        landmarks = getattr(network, "skeleton", ())[:1]
        holders = [name.removesuffix(mark) for mark in landmarks for name in weights if name.endswith(mark)]
        holders = [holder for holder in holders if not holder or holder.endswith(".")]
        if holders and "" not in holders:
            holder = next((holder for holder in holders if "ema" in holder or "average" in holder), holders[0])
            return {name.removeprefix(holder): value for name, value in weights.items() if name.startswith(holder)}
    return dict(weights)


def infer_configuration(weights: Mapping[str, Tensor], *, source: str = "the state dict") -> Configuration:
    """Find out the network and its settings from the names and shapes of its weights.

    Settings that no shape shows come from the record in the state dict, see :class:`Pretrained`; where there is none
    they have their defaults.

    Raises:
        ValueError: the weights are of none of :data:`NETWORKS`, or damaged; ``source`` stands for them in the message.
    """
    architecture = recognize(weights, source=source)
    network: Any = NETWORKS[architecture]
    try:
        settings = network.settings_of(weights)
        for name, value in settings.items():
            _check_size(name, value, _LARGEST)
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{source} holds damaged weights of {architecture}: {error!r}") from error
    return Configuration(architecture, settings)


def count_modules(weights: Mapping[str, Any], prefix: str) -> int:
    """Length of a sequence of modules whose entries start with ``prefix``."""
    return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})


def _check_size(name: str, value: Any, most: int) -> None:
    """Refuse a number that no network has, and that would fill the memory."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_size(f"{name}.{key}", entry, most)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _check_size(name, entry, most)
    elif isinstance(value, (int, float)) and abs(value) > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
