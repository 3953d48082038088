"""What the page `try` needs beside itself: the shipped network as ONNX, its table, onnxruntime-web from npm.

Nothing of it is in the repository: the network is exported from the weights, the runtime comes from the npm registry.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import clusir_modules as cm
from clusir_modules.inference.export import export_routed_onnx
from clusir_modules.inspection.degradation_table import read_table
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS

from ._common import FIVE, degraded, photograph, trained_tiny

_ROOT = Path(__file__).parents[2]
_RUNTIME = "onnxruntime-web@1.30.0"
_RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
_MODEL_FILES = ("route.onnx", "restore.onnx")
_SMALLEST_TILE, _LARGEST_TILE, _OVERLAP = 384, 512, 32
_ROUTED_SIDE = 1024
"""As `clusir inspect` does: what is larger is routed by its middle."""


def draw(folder: Path) -> None:
    """Write ``try.md``, the sizes, and the folder ``try`` with all that the page loads."""
    made = folder / "try"
    made.mkdir(exist_ok=True)
    _make_model(made)
    missing = _fetch_runtime(made)
    (made / "model.json").write_text(json.dumps(_describe(made, missing)), encoding="utf-8")
    _write_sizes(folder / "try.md", made)


def _make_model(folder: Path) -> None:
    """Export the shipped network, unless the files are newer than the weights and the code."""
    files = [folder / name for name in (*_MODEL_FILES, "example.png")]
    sources = [path for path in (_ROOT / "clusir_modules").rglob("*") if path.suffix in {".py", ".safetensors"}]
    newest = max(path.stat().st_mtime for path in (*sources, Path(__file__)))
    if all(file.is_file() and file.stat().st_mtime > newest for file in files):
        return
    from PIL import Image

    export_routed_onnx(trained_tiny(), folder)
    rainy = degraded(photograph("coffee"), FIVE["rain"])
    pixels = (rainy.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "example.png")


def _fetch_runtime(folder: Path) -> str | None:
    """Take the runtime out of its npm package; say what is missing if that cannot be done."""
    if all((folder / name).is_file() for name in _RUNTIME_FILES):
        return None
    advice = "Whoever built this site can add it: install npm, and run `make docs` again with a network."
    npm = shutil.which("npm")
    if npm is None:
        return f"This copy of the site lacks {_RUNTIME}, because npm was not there when it was built. {advice}"
    command = [npm, "pack", _RUNTIME, "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return f"This copy of the site lacks {_RUNTIME}, because npm could not get it when it was built. {advice}"
    package = folder / done.stdout.strip()
    with tarfile.open(package) as archive:
        for name in _RUNTIME_FILES:
            source = archive.extractfile(f"package/dist/{name}")
            if source is None:
                return f"This copy of the site lacks {name}, which is not in {_RUNTIME}."
            (folder / name).write_bytes(source.read())
    package.unlink()
    return None


def _describe(folder: Path, missing: str | None) -> dict[str, Any]:
    """What the page must know: tiles, the table of degradations, how much there is to load, or what is missing."""
    table = read_table(SHIPPED_WEIGHTS)
    if table is None:
        raise ValueError(f"there is no table of degradations in {SHIPPED_WEIGHTS}")
    loaded = [folder / name for name in (*_MODEL_FILES, *_RUNTIME_FILES)]
    return {
        "missing": missing,
        "bytes": sum(file.stat().st_size for file in loaded if file.is_file()),
        "smallest_tile": _SMALLEST_TILE,
        "largest_tile": _LARGEST_TILE,
        "overlap": _OVERLAP,
        "multiple": cm.ClusIR.size_multiple,
        "routed_side": _ROUTED_SIDE,
        "table": {"kinds": table.kinds, "levels": [level._asdict() for level in table.levels]},
    }


def _write_sizes(path: Path, made: Path) -> None:
    """Write the files that a visitor loads and their sizes."""
    roles = {
        "route.onnx": "what the picture looks like, which experts run",
        "restore.onnx": "the network",
        "ort.wasm.bundle.min.mjs": "onnxruntime-web, the part in JavaScript",
        "ort-wasm-simd-threaded.wasm": "onnxruntime-web, the part in WebAssembly",
    }
    lines = ["| file | holds | MB |", "|---|---|---|"]
    for name, role in roles.items():
        size = f"{(made / name).stat().st_size / 1e6:.1f}" if (made / name).is_file() else "not in this build"
        lines.append(f"| `{name}` | {role} | {size} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
