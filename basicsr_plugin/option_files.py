"""Option files: where the shipped ones are, and how they are read without running code."""

from __future__ import annotations

import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

__all__ = [
    "OptionLoader",
    "check_names",
    "copy_option",
    "find_option",
    "list_options",
    "options_folder",
    "ordered_yaml",
    "parse_value",
    "resolve_arguments",
]

_INTEGER = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_READ_PATHS = ("strict_load", "pretrain_network", "resume", "param_key")
"""Parts of options in ``path`` that name no folder to write to, as BasicSR's ``make_exp_dirs`` tells them apart."""
_DEEPEST = 50
_MOST_NODES = 100_000


class OptionLoader(yaml.SafeLoader):
    """Safe YAML loader that keeps the order of keys and reads 1e-4 as a number (plain PyYAML: the string "1e-4").

    Files that nest too deeply or grow too large by their aliases are refused; PyYAML's loader in C would end the
    process at the former.

    Raises:
        yaml.YAMLError: in ``yaml.load``, the text is no YAML, or asks for anything but plain data.
        ValueError: likewise, a number or date is none.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it lies too deep."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {_DEEPEST} deep", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """Compose the document, unless its aliases make it too large."""
        node = super().get_single_node()
        if node is not None and _count_nodes(node, {}) > _MOST_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {_MOST_NODES} values by way of aliases", None)
        return node

    def get_single_data(self) -> Any:
        """Read the document."""
        try:
            return super().get_single_data()
        except (LookupError, AttributeError, TypeError) as error:  # PyYAML on "!!bool x" or a list as key
            raise yaml.constructor.ConstructorError(
                None, None, f"a value is not what its tag or place asks: {error}"
            ) from error


def _count_nodes(node: yaml.Node, counted: dict[int, int]) -> int:
    """Values in a node with every alias written out; one that contains itself has too many."""
    if id(node) not in counted:
        counted[id(node)] = _MOST_NODES
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        counted[id(node)] = 1 + (0 if isinstance(parts, str) else sum(_count_nodes(part, counted) for part in parts))
    return counted[id(node)]


def check_names(opt: Mapping[str, Any], root: str | os.PathLike[str]) -> None:
    """Refuse names and folders by which a run would write outside ``root``.

    BasicSR makes folders of the names in an option file, and renames the one of an earlier run.

    Args:
        opt: Options as BasicSR's ``parse_options`` returns them.
        root: Folder of ``experiments``, ``results`` and ``tb_logger``.

    Raises:
        ValueError: ``name``, the ``name`` of a data set or ``val.suffix`` leads to another folder, or is empty; a
            folder in ``path`` lies outside ``root``.
    """
    names = {"name": opt["name"]}
    names |= {f"datasets.{phase}.name": dataset.get("name", phase) for phase, dataset in opt["datasets"].items()}
    for option, name in names.items():
        if not _stays_below(str(name)):
            raise ValueError(f"{option} must be a name, or a path below its folder, got {name!r}")
    suffix = str((opt.get("val") or {}).get("suffix") or "none")
    if not _stays_below(suffix) or "/" in suffix:
        raise ValueError(f"val.suffix must be a part of a file name, got {suffix!r}")
    for option, folder in opt["path"].items():
        if folder is None or any(part in option for part in _READ_PATHS):
            continue
        if not Path(os.path.abspath(str(folder))).is_relative_to(os.path.abspath(root)):
            raise ValueError(f"path.{option} must be a folder in {os.fspath(root)}, got {folder!r}")


def _stays_below(name: str) -> bool:
    """Whether a path leads to a folder below the one that it is taken from, on POSIX and on Windows."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if not path.parts or path.drive or path.root or ".." in path.parts:
            return False
    return "\0" not in name


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
