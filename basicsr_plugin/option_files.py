"""Option files: where the shipped ones are, and how they are read without running code."""

from __future__ import annotations

import os
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "OptionLoader",
    "copy_option",
    "find_option",
    "list_options",
    "options_folder",
    "ordered_yaml",
    "parse_value",
    "resolve_arguments",
]

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class OptionLoader(_SafeLoader):
    """Safe YAML loader that keeps the order of keys and reads 1e-4 as a number (plain PyYAML: the string "1e-4")."""


def _construct_mapping(loader: Any, node: Any) -> OrderedDict[str, Any]:
    loader.flatten_mapping(node)
    return OrderedDict(loader.construct_pairs(node))


OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
OptionLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT_WITH_EXPONENT, list("-+.0123456789"))


class _OptionDumper(yaml.SafeDumper):
    """Safe YAML dumper that writes an OrderedDict as a mapping."""


_OptionDumper.add_representer(OrderedDict, lambda dumper, data: dumper.represent_dict(data.items()))


def ordered_yaml() -> tuple[type, type]:
    """Loader and dumper, as BasicSR's function of the same name gives them."""
    return OptionLoader, _OptionDumper


def parse_value(text: str) -> Any:
    """Value of a ``--force_yml key=value`` entry, by BasicSR's rules.

    BasicSR evaluates lists as Python code, and leaves negative numbers and 1e-4 as strings; here lists are YAML, and
    these are numbers.
    """
    lowered = text.lower()
    if text == "~" or lowered == "none":
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    if text.startswith("!!float"):
        return float(text.removeprefix("!!float"))
    if text.startswith("["):
        return yaml.load(text, Loader=OptionLoader)  # noqa: S506 - a safe loader
    for number, pattern in ((int, _INTEGER), (float, _FLOAT)):
        if pattern.fullmatch(text):
            return number(text)
    return text


def options_folder() -> Path:
    """Folder of the shipped option files: inside the package when installed from a wheel, else in the repository."""
    packaged = Path(__file__).parent / "options"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "options"


def list_options() -> list[str]:
    """Names of the shipped option files: paths below :func:`options_folder` without ``.yml``, sorted."""
    folder = options_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yml"))


def find_option(name: str) -> Path:
    """Path of a shipped option file.

    Args:
        name: As :func:`list_options` gives it, with or without ``.yml``; the folder may be left out if the rest is
            unique.

    Raises:
        FileNotFoundError: No shipped file has the name, or several do.
    """
    wanted = Path(name).with_suffix("").as_posix() if name.endswith(".yml") else name
    names = list_options()
    matches = [wanted] if wanted in names else [known for known in names if known.rsplit("/", 1)[-1] == wanted]
    if len(matches) != 1:
        raise FileNotFoundError(
            f"{name!r} is no option file and names {len(matches)} of the shipped ones; these are: {', '.join(names)}"
        )
    return options_folder() / f"{matches[0]}.yml"


def copy_option(name: str, folder: Path) -> Path:
    """Copy a shipped option file for editing.

    Args:
        name: As for :func:`find_option`.
        folder: Where to, made if it does not exist.

    Returns:
        The copy's path.

    Raises:
        FileExistsError: The folder has a file of that name.
        FileNotFoundError: As for :func:`find_option`.
    """
    source = find_option(name)
    target = folder / source.name
    if target.exists():
        raise FileExistsError(f"{target} exists: remove it first, or choose another folder with --to")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def resolve_arguments(argv: list[str]) -> list[str]:
    """Command line in which the file after ``-opt`` exists: a shipped file's name becomes its path.

    Raises:
        FileNotFoundError: ``-opt`` gives neither a file nor the name of a shipped one.
    """
    resolved = list(argv)
    for position, argument in enumerate(resolved):
        if argument == "-opt" and position + 1 < len(resolved) and not os.path.isfile(resolved[position + 1]):
            resolved[position + 1] = os.fspath(find_option(resolved[position + 1]))
        elif argument.startswith("-opt=") and not os.path.isfile(argument.removeprefix("-opt=")):
            resolved[position] = f"-opt={find_option(argument.removeprefix('-opt='))}"
    return resolved
