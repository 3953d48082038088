"""What a release must agree on."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import clusir_modules

ROOT = Path(__file__).parents[1]
_MADE = {"_build", "_generated", "generated", "__pycache__"}


def test_one_version_and_one_license() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project.get("version", clusir_modules.__version__) == clusir_modules.__version__
    assert citation["license"] == project["license"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and sdist, as `uv build` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    builders = {"wheel": WheelBuilder(str(ROOT)), "sdist": SdistBuilder(str(ROOT))}
    return {kind: Path(next(builder.build(directory=str(folder)))) for kind, builder in builders.items()}


def test_the_wheel_holds_code_types_weights_and_option_files_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = wheel.namelist()
        metadata = next(wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    packages = ("clusir_modules", "clusir_cli", "basicsr_plugin")
    assert {name.split("/")[0] for name in names} == {*packages, f"clusir-{clusir_modules.__version__}.dist-info"}
    assert {Path(name).suffix for name in names if name.startswith(packages)} == {
        ".py",
        ".md",
        ".safetensors",
        ".typed",
        ".yml",
    }
    code = {path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == code
    options = {path.relative_to(ROOT).as_posix() for path in (ROOT / "options").rglob("*.yml")}
    assert {name.removeprefix("basicsr_plugin/") for name in names if name.endswith(".yml")} == options
    assert {
        "clusir_modules/py.typed",
        "clusir_modules/weights/clusir_tiny.safetensors",
        "clusir_modules/weights/README.md",
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert f"\nVersion: {clusir_modules.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    assert "clusir = clusir_cli.app:main" in entry_points


def test_the_sdist_holds_all_that_building_testing_and_documenting_need(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    for folder in ("clusir_modules", "clusir_cli", "basicsr_plugin", "options", "tests", "tools", "docs", "benchmarks"):
        kept = (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yml", ".md"))
        wanted = {path.relative_to(ROOT).as_posix() for path in kept if not _MADE & set(path.parts)}
        assert wanted
        assert wanted - names == set()
    assert {
        "pyproject.toml",
        "CITATION.cff",
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "PKG-INFO",
    } <= names
    assert [name for name in names if _MADE & set(name.split("/")) or name.endswith(".pyc")] == []


def test_both_are_small(built: dict[str, Path]) -> None:
    assert {kind: size for kind, path in built.items() if (size := path.stat().st_size) > 8_000_000} == {}


def test_the_release_note_is_of_this_version() -> None:
    note = (ROOT / "docs" / "release_note.md").read_text(encoding="utf-8")
    assert note.startswith(f"# Release {clusir_modules.__version__}")
