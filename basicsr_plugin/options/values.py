"""Checks of option values against types, with messages that name the option, the value and what is accepted."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec
from msgspec import Meta

__all__ = ["check_finite", "check_keys", "check_part", "describe", "parameter_names", "read_section", "suggest"]

S = TypeVar("S", bound=msgspec.Struct)

Natural = Annotated[int, Meta(ge=0)]
Numbers = list[float]
_UNTYPED: dict[str, Any] = {
    "crop_border": Natural,
    "input_order": Literal["HWC", "CHW"],
    "test_y_channel": bool,
    "reduction": Literal["mean", "sum"],
    "criterion": Literal["l1", "l2", "fro"],
    "layer_weights": dict[str, float],
    "milestones": list[Natural],
    "periods": list[Annotated[int, Meta(ge=1)]],
    "restarts": list[Natural],
    "restart_weights": Numbers,
    "better": Literal["higher", "lower"],
}
"""Options of BasicSR's own losses, metrics and schedules, whose functions have no annotations."""
_PLAIN = (bool, int, float, str, types.NoneType)
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")


def read_section(section: str, options: Mapping[str, Any], kind: type[S]) -> S:
    """Make a struct of a section.

    Args:
        section: Its name, for messages; empty for the whole file.
        options: What stands there. Whole numbers may be written as 5e3.
        kind: The struct, frozen and closed.

    Raises:
        ValueError: A key is unknown or missing, or a value is not accepted.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"{section or 'the option file'} must be a section, got {options!r}")
    check_keys(section, options, kind.__struct_fields__)
    try:
        return msgspec.convert({str(key): _whole(value) for key, value in options.items()}, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(section, options, kind, str(error))) from error


def _whole(value: Any) -> Any:
    """Whole numbers as such, also those with an exponent; what lies in sections further inside is left alone."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_whole(part) for part in value]
    return _plain_value(value)


def _explain(section: str, options: Any, kind: Any, message: str) -> str:
    found = _WHERE.match(message)
    what, path = (found["what"], found["path"] or "") if found else (message, "")
    missing = _MISSING.search(what)
    names = [re.sub(r"\[.*", "", name) for name in path.split(".") if name]
    if missing:
        names.append(missing[1])
    value = options
    for name in names:
        kind = _field_kind(kind, name)
        value = value.get(name) if isinstance(value, Mapping) else None
    option = ".".join([*([section] if section else []), *names])
    if missing:
        return f"{option} is missing: it must be {describe(kind)}"
    return f"{option} must be {describe(kind)}, got {value!r}" if names else what


def _field_kind(kind: Any, name: str) -> Any:
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return typing.get_type_hints(part, include_extras=True)[name]
    return Any


def describe(kind: Any) -> str:
    """Say in words which values a type accepts."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        meta = arguments[1]
        bounds = [
            f"{sign} {bound:g}" if isinstance(bound, float) else f"{sign} {bound}"
            for sign, bound in ((">=", meta.ge), (">", meta.gt), ("<=", meta.le), ("<", meta.lt))
            if bound is not None
        ]
        return f"{describe(arguments[0])} {' and '.join(bounds)}".rstrip()
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (list, tuple) or kind in (list, tuple):
        return f"a list, each {describe(arguments[0])}" if arguments else "a list"
    if origin is dict or kind is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "a section"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", types.NoneType: "~ (none)"}
    return words.get(kind, "given")


def check_keys(section: str, options: Mapping[str, Any], accepted: Iterable[str]) -> None:
    """Refuse keys of one section that are not accepted.

    Raises:
        ValueError: There is one; the message has the nearest that is.
    """
    accepted = sorted(accepted)
    for key in options:
        if key not in accepted:
            place = section or "the option file"
            raise ValueError(f"unknown option {key!r} in {place}{suggest(str(key), accepted)}")


def suggest(given: str, accepted: Iterable[str]) -> str:
    """End of a message about a name that is none: the nearest one, and all."""
    accepted = list(accepted)
    nearest = difflib.get_close_matches(given, accepted, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} (accepted: {', '.join(accepted)})"


def check_finite(options: Any, name: str = "") -> None:
    """Refuse NaN and infinity anywhere: no option means them.

    Raises:
        ValueError: An option is NaN or infinite.
    """
    if isinstance(options, Mapping):
        for key, value in options.items():
            check_finite(value, f"{name}.{key}".lstrip("."))
    elif isinstance(options, list | tuple):
        for number, value in enumerate(options):
            check_finite(value, f"{name}[{number}]")
    elif isinstance(options, float) and not math.isfinite(options):
        raise ValueError(f"{name} must be a finite number, got {options!r}")


def check_part(
    section: str,
    options: Mapping[str, Any],
    function: Callable[..., Any],
    *,
    skip: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
    open_ended: bool = True,
) -> None:
    """Check the settings of what ``type`` names against the signature of the class or function.

    Args:
        section: Its name, for messages.
        options: ``type`` and the settings.
        function: See :func:`parameter_names` for those that pass arguments on.
        skip: Arguments that are not settings.
        extra: Types of settings that others read, beside those of the function.
        open_ended: Whether ``**kwargs`` mean that any setting is taken.

    Raises:
        ValueError: A setting is unknown or missing, or its value is of another kind.
    """
    kinds, any_name = _parameters(function, open_ended)
    fields = [(n, *f) for n, f in kinds.items() if n not in {*skip, "type"}]
    fields += [(n, k, None) for n, k in (extra or {}).items()]
    known = {"type", *(field[0] for field in fields)}
    if not any_name:
        check_keys(section, options, known)
    struct = msgspec.defstruct("Part", [field if len(field) > 2 else field[:2] for field in fields], kw_only=True)
    given = {key: _plain_value(value) for key, value in options.items() if key in known and key != "type"}
    try:
        msgspec.convert(given, struct)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(section, options, struct, str(error))) from error


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_value(part) for key, part in value.items()}
    return [_plain_value(part) for part in value] if isinstance(value, list | tuple) else value


def parameter_names(
    function: Callable[..., Any], *, skip: Iterable[str] = (), open_ended: bool = True
) -> set[str] | None:
    """Names of the arguments that a class or function takes.

    Args:
        function: A function that takes ``**overrides`` for a class that its annotation says it returns has the names of
            that class; a class that passes ``**settings`` on names them in its ``defaults()``.
        skip: Names to leave out.
        open_ended: Whether other ``**kwargs`` mean that any name is taken.

    Returns:
        The names, or None if any name is taken.
    """
    kinds, any_name = _parameters(function, open_ended)
    return None if any_name else kinds.keys() - set(skip)


def _parameters(function: Callable[..., Any], open_ended: bool) -> tuple[dict[str, tuple[Any, ...]], bool]:
    """Type and, if there is one, default of each argument by name, and whether other names are taken, too."""
    parameters = inspect.signature(function).parameters.values()
    hints = _hints(function.__init__ if inspect.isclass(function) else function)
    foreign = not (getattr(function, "__module__", "") or "").startswith("clusir_modules")
    kinds: dict[str, tuple[Any, ...]] = {}
    for p in parameters:
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            optional = p.default is not p.empty
            kind = _plain(hints[p.name]) if p.name in hints else _kind_of(p.name, p.default, foreign)
            kinds[p.name] = (kind, None) if optional else (kind,)
            if optional and p.default is None and kind is not Any:
                kinds[p.name] = (_union([kind, types.NoneType]), None)
    if not (open_ended and any(p.kind is p.VAR_KEYWORD for p in parameters)):
        return kinds, False
    if hasattr(function, "defaults"):  # a network that names what it passes on
        return kinds | {n: (_kind_of(n, v, False), None) for n, v in function.defaults().items()}, False
    made = None if inspect.isclass(function) else hints.get("return")
    if not inspect.isclass(made):
        return kinds, True
    passed_on, any_name = _parameters(made, open_ended)
    return {**passed_on, **kinds}, any_name


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _kind_of(name: str, default: Any, foreign: bool) -> Any:
    """Type of an argument without annotation: that of its default. Foreign ints by default accept floats too."""
    if foreign and name in _UNTYPED:
        return _UNTYPED[name]
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int | float):
        return float if foreign or isinstance(default, float) else int
    if isinstance(default, list | tuple) and default and all(isinstance(v, int | float) for v in default):
        return Numbers if foreign else list[int]
    return Any


def _plain(hint: Any) -> Any:
    """The part of a type that an option file can write; Any where that is unclear."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN or origin is Literal:
        return hint
    if origin is Annotated:
        return hint if arguments[0] in _PLAIN else _plain(arguments[0])
    if origin in (Union, types.UnionType):
        return _union([_plain(part) for part in arguments if not _is_tensor(part)])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict
    if isinstance(origin, type) and issubclass(origin, Iterable) and issubclass(origin, Sequence | Iterable):
        inner = {_plain(part) for part in arguments if part is not ...}
        return list[inner.pop()] if len(inner) == 1 else list  # type: ignore[misc]
    return Any


def _is_tensor(hint: Any) -> bool:
    return isinstance(hint, type) and hint.__module__.split(".")[0] == "torch"


def _union(kinds: Sequence[Any]) -> Any:
    if not kinds or Any in kinds:
        return Any
    kind = Union[tuple(kinds)]  # noqa: UP007 - of types that are only known here
    try:
        msgspec.convert(None, kind, strict=True)
    except msgspec.ValidationError:
        return kind
    except TypeError:  # a union that msgspec cannot tell apart
        return Any
    return kind
