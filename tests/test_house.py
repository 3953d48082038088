"""The architecture, drawn from the imports: rooms (folders), what each imports, and the floor that follows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "clusir_modules"


def imported_modules(path: Path, package: Path) -> set[str]:
    """Modules below ``package`` that a file imports, wherever the import stands, as ``room.file`` paths."""
    found = set()
    inside = path.relative_to(package.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        prefix = f"{package.name}."
        found.update(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return found


def draw(package: Path, *, front: bool) -> dict[str, set[str]]:
    """For each room the rooms that it imports; ``front`` counts the package's own ``__init__`` as one."""
    rooms: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__" and not front:
            continue
        targets = {name.split(".")[0] for name in imported_modules(path, package)}
        rooms.setdefault(room, set()).update(targets)
    for path in package.iterdir():  # a room that exists, else the name belongs to the front
        rooms.pop(path.name, None) if path.is_dir() and not (path / "__init__.py").exists() else None
    return {room: (targets & rooms.keys()) - {room} for room, targets in rooms.items()}


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """One above the highest room that is imported; a circle never ends and is reported as such."""
    floor: dict[str, int] = {}
    while len(floor) < len(rooms):
        ready = [room for room in rooms if room not in floor and rooms[room] <= floor.keys()]
        assert ready, f"rooms that import each other in a circle: {sorted(rooms.keys() - floor.keys())}"
        floor.update({room: 1 + max((floor[target] for target in rooms[room]), default=0) for room in ready})
    return floor


def test_the_library_has_twelve_rooms_on_four_floors() -> None:
    rooms = draw(LIBRARY, front=True)
    assert rooms.pop("extras") == set()  # no room: a file that tells all how to install an extra
    assert sorted(rooms) == [
        "__init__", "data", "imaging", "inference", "inspection", "integrations", "layers", "losses", "metrics",
        "networks", "ops", "serialization",
    ]  # fmt: skip
    rooms = {room: targets - {"extras"} for room, targets in rooms.items()}
    assert max(floors(rooms).values()) == 4
    arrows = {(room, target) for room, targets in rooms.items() for target in targets}
    assert len(arrows) <= 30, sorted(arrows)


def test_the_layers_have_eight_rooms_on_three_floors() -> None:
    rooms = draw(LIBRARY / "layers", front=False)
    assert sorted(rooms) == [
        "basic", "experts", "frequency", "multi_stage", "prompts", "protocols", "routing", "transformer",
    ]  # fmt: skip
    assert max(floors(rooms).values()) == 3


def test_a_circle_is_found() -> None:
    with pytest.raises(AssertionError, match=r"in a circle: \['a', 'b'\]"):
        floors({"a": {"b"}, "b": {"a"}, "c": set()})
