"""Option files: where the shipped ones are, and how they are read without running code."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "OptionLoader",
    "copy_option",
    "describe_option",
    "find_option",
    "list_options",
    "options_folder",
    "ordered_yaml",
    "override",
    "parse_value",
    "read_option_file",
    "resolve_arguments",
]

_INTEGER = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_WORD_OR_VALUE = ("num_gpu", "compile")
_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_DEEPEST = 50
_MOST_NODES = 100_000


class OptionLoader(yaml.SafeLoader):
    """Safe YAML loader that keeps the order of keys and reads 1e-4 as a number (plain PyYAML: the string "1e-4").

    Files that nest too deeply or grow too large by their aliases are refused; PyYAML's loader in C would end the
    process at the former. A key that stands twice in one mapping is noted in ``duplicates``, with both lines; the
    later value counts, as in BasicSR. Merges (``<<``) are no second time.

    Raises:
        yaml.YAMLError: in ``yaml.load``, the text is no YAML, or asks for anything but plain data.
        ValueError: likewise, a number or date is none.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self.duplicates: list[str] = []

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


def _construct_mapping(loader: Any, node: Any) -> OrderedDict[str, Any]:
    first: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if key in first:
            loader.duplicates.append(f"{key!r} is set twice, in line {first[key]} and again in line {line}")
        first.setdefault(key, line)
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


def read_option_file(text: str) -> Any:
    """Options in the text of an option file.

    Raises:
        yaml.YAMLError: It is no YAML, or asks for anything but plain data.
        ValueError: A number or date is none, or a key stands twice in a section.
    """
    loader = OptionLoader(text)
    try:
        options = loader.get_single_data()
    finally:
        loader.dispose()
    if loader.duplicates:
        raise ValueError(f"the option file sets a key more than once: {'; '.join(loader.duplicates)}")
    return options


def override(options: Any, entries: Sequence[str]) -> None:
    """Set single values, as ``--force_yml section:key=value`` asks; a key is a name and nothing else.

    Args:
        options: Options, changed in place.
        entries: See above. The value is read by :func:`parse_value`, unless the option holds a text: it stays one, but
            for ``num_gpu: auto`` and ``compile: blocks``, which are words where others are values.

    Raises:
        ValueError: An entry has no ``=``, or its section is not in the options.
    """
    for entry in entries:
        name, separator, text = entry.partition("=")
        *sections, key = (part.strip() for part in name.split(":"))
        if not separator or not key:
            raise ValueError(f"--force_yml takes section:key=value, got {entry!r}")
        section = options
        for part in sections:
            section = section.get(part) if isinstance(section, Mapping) else None
        if not isinstance(section, dict):
            raise ValueError(f"--force_yml {entry!r}: the option file has no section {':'.join(sections)!r}")
        value = parse_value(text.strip())
        keeps_text = (
            isinstance(section.get(key), str) and not isinstance(value, list | None) and key not in _WORD_OR_VALUE
        )
        section[key] = text.strip() if keeps_text else value


def parse_value(text: str) -> Any:
    """Value of a ``--force_yml key=value`` entry, by BasicSR's rules.

    BasicSR evaluates lists as Python code and leaves negative numbers and 1e-4 as strings. Here lists are Python's
    literals (or else YAML's), nothing is run, and these are numbers.
    """
    lowered = text.lower()
    if text == "~" or lowered == "none":
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    if text.startswith("!!float"):
        return float(text.removeprefix("!!float"))
    if text.startswith("["):
        return _parse_list(text)
    for number, pattern in ((int, _INTEGER), (float, _FLOAT)):
        if pattern.fullmatch(text):
            return number(text)
    return text


def _parse_list(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return yaml.load(text, Loader=OptionLoader)  # noqa: S506 - a safe loader


def options_folder() -> Path:
    """Folder of the shipped option files: beside this one when installed from a wheel, else in the repository."""
    packaged = Path(__file__).parent
    return packaged if (packaged / "train").is_dir() else Path(__file__).parents[2] / "options"


def list_options() -> list[str]:
    """Names of the shipped option files: paths below :func:`options_folder` without ``.yml``, sorted."""
    folder = options_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yml"))


def describe_option(name: str) -> str:
    """What a shipped option file trains or tests, on what data, by its head comment; and for how many iterations."""
    text = find_option(name).read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        if not line.startswith("# ") or line.startswith(("#   ", "# Paths are relative", "# ---")):
            break
        lines.append(line[2:])
    about = " ".join(lines).rstrip(":.") + "."
    iterations = (read_option_file(text).get("train") or {}).get("total_iter")
    return about if iterations is None else f"{about} {iterations:,} iterations."


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
