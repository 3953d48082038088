"""Names for objects: what files, option files and commands may name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, overload

__all__ = ["NETWORKS", "Registry", "import_registering", "suggest"]

_Object = TypeVar("_Object", bound=Callable[..., Any])


class Registry(Mapping[str, Callable[..., Any]]):
    """Classes and functions of one kind by name. Nothing is ever imported by a name.

    Args:
        kind: what they are, for messages: "router".
        objects: those that are known from the start, by their own names.

    Example:
        >>> colors = Registry("color")
        >>> @colors.register
        ... def mixed(*, red: float = 0, blue: float = 0) -> tuple[float, float]:
        ...     return red, blue
        >>> colors.make({"type": "mixed", "blue": 0.5})()
        (0, 0.5)
        >>> colors.say(partial(mixed, red=1))
        {'type': 'mixed', 'red': 1}
        >>> colors.make("mixde")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: unknown color 'mixde'; did you mean 'mixed'? accepted: mixed; ...
    """

    def __init__(self, kind: str, *objects: Callable[..., Any]) -> None:
        self.kind = kind
        self._objects: dict[str, Callable[..., Any]] = {}
        for obj in objects:
            self.register(obj)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"

    @overload
    def register(self, obj: _Object, *, name: str | None = ...) -> _Object: ...

    @overload
    def register(self, obj: None = ..., *, name: str | None = ...) -> Callable[[_Object], _Object]: ...

    def register(self, obj: Any = None, *, name: str | None = None) -> Any:
        """Make an object known, by its own name or by ``name``, and return it; also a decorator.

        Registering the same object again changes nothing. A definition that was run again, in a reloaded module or a
        notebook, takes the place of the earlier one: it has the same module and the same qualified name.

        Raises:
            TypeError: it is neither a class nor a function.
            ValueError: it has no name, or the name belongs to another object.
        """
        if obj is None:
            return partial(self.register, name=name)
        if not callable(obj):
            raise TypeError(f"a {self.kind} must be a class or a function, got {type(obj).__name__}")
        name = getattr(obj, "__name__", "") if name is None else name
        if not name.isidentifier():
            raise ValueError(f"a {self.kind} must have a name, got {obj!r}")
        held = self._objects.setdefault(name, obj)
        if held is not obj and not _is_rerun(held, obj):
            raise ValueError(f"a {self.kind} named {name!r} exists already: {held!r}")
        self._objects[name] = obj
        return obj

    def make(self, said: Any) -> Any:
        """Return what a file names: an object, or a ``functools.partial`` of one with settings.

        Args:
            said: "NAME", ``{"type": "NAME", **settings}``, or None, for which None is returned.

        Raises:
            TypeError: it is something else.
            ValueError: the name or a setting is unknown; the message has the nearest known one.
        """
        if said is None:
            return None
        if not isinstance(said, str | Mapping):
            raise TypeError(
                f"{self.kind} must be a name or a mapping with a 'type', got {type(said).__name__} {said!r}"
            )
        settings = {"type": said} if isinstance(said, str) else dict(said)
        name = settings.pop("type", None)
        if name not in self._objects:
            own = "one of your own is known once the module that registers it is imported"
            raise ValueError(f"unknown {self.kind} {name!r}{suggest(str(name), self)}; {own}")
        obj = self._objects[name]
        parameters = inspect.signature(obj).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            for setting in settings:
                if setting not in parameters:
                    raise ValueError(f"{name} has no argument {setting!r}{suggest(str(setting), parameters)}")
        return partial(obj, **settings) if settings else obj

    def say(self, obj: Any) -> Any:
        """Return what :meth:`make` must be told to return ``obj``.

        An object that is not registered is said by its own name, so that registering it later is enough. One that no
        file can say (a lambda, a setting that JSON does not have) is described in words, which :meth:`make` does not
        know.
        """
        if obj is None:
            return None
        settings: dict[str, Any] = {}
        target = obj
        if isinstance(obj, partial) and obj not in self._objects.values():
            target, settings = obj.func, obj.keywords
        registered = (name for name, known in self._objects.items() if known is target)
        name = next(registered, getattr(target, "__name__", ""))
        try:
            plain = json.loads(json.dumps(settings))
        except (TypeError, ValueError):
            return repr(obj)
        if not name.isidentifier() or (isinstance(obj, partial) and obj.args):
            return repr(obj)
        return {"type": name, **plain} if plain else name


NETWORKS = Registry("architecture")
"""Networks that files may name; filled where the networks are defined."""


def import_registering(module: str) -> None:
    """Import a module that registers objects of one's own; it is found in the working directory too.

    The name comes from a person, by a command or an option file of theirs, and never from a file with weights.

    Raises:
        ValueError: it cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
        hint = "; put the folder that holds it on PYTHONPATH" if missing else ""
        raise ValueError(f"the module {module!r} cannot be imported: {error}{hint}") from error


def _is_rerun(held: object, obj: object) -> bool:
    """Whether both have one place in a module; lambdas, and what is made inside a function, share one by chance."""
    places = {(getattr(o, "__module__", None), getattr(o, "__qualname__", "<>")) for o in (held, obj)}
    return len(places) == 1 and "<" not in places.pop()[1]


def suggest(given: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, and all of them."""
    by_lower_case = {key.lower(): key for key in known}
    close = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=0.5)
    hint = f"; did you mean {by_lower_case[close[0]]!r}?" if close else ";"
    return f"{hint} accepted: {', '.join(sorted(by_lower_case.values()))}"
