"""Files of unknown origin: whatever their bytes, they are read or refused with the documented error."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import fuzz
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from clusir_modules import restore_file
from clusir_modules.data import read_image
from clusir_modules.networks.mprnet_state_dict import convert_mprnet_state_dict
from clusir_modules.serialization.checkpoints import load_weights, read_state_dict


def mutate(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """Change bytes, cut, repeat or blow up fields at relative places."""
    for kind, place, value in changes:
        at = int(place * len(content))
        match kind:
            case "byte":
                content = content[:at] + bytes([value % 256]) + content[at + 1 :]
            case "cut":
                content = content[:at]
            case "drop":
                content = content[:at] + content[at + value % 64 :]
            case "repeat":
                content = content[:at] + content[at : at + value % 64] * 3 + content[at:]
            case "number":
                content = content[:at] + struct.pack("<I", value) + content[at + 4 :]
            case "big-endian number":
                content = content[:at] + struct.pack(">I", value) + content[at + 4 :]
    return content


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["byte", "byte", "cut", "drop", "repeat", "number", "big-endian number"]),
        st.floats(0, 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=4,
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")


def encode(image_format: str, mode: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert(mode)
    image.save(buffer, format=image_format)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.filterwarnings("ignore")
@fuzz("read_image", changes=CHANGES, mode=st.sampled_from(["RGB", "L"]))
def test_an_image_file_is_read_or_refused_whatever_its_bytes(
    tmp_path: Path, image_format: str, changes: list[tuple[str, float, int]], mode: str
) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(mutate(encode(image_format, mode), changes))
    try:
        image = read_image(path, max_pixels=10**6)
    except RuntimeError as error:
        if str(path) not in str(error):
            raise
        return
    assert image.dtype == torch.float32
    assert image.dim() == 3
    assert image.shape[0] == 3
    assert 0 <= float(image.min())
    assert float(image.max()) <= 1


@pytest.mark.filterwarnings("ignore")
@fuzz(
    "restore_file",
    changes=CHANGES,
    image_format=st.sampled_from(FORMATS),
    suffix=st.sampled_from([".png", ".tif", ".jpg", ".webp", ".bmp", ".ppm", ".xyz"]),
    existing=st.sampled_from(["error", "skip", "overwrite"]),
)
def test_a_file_is_restored_or_refused_and_the_source_stays(
    tmp_path: Path, changes: list[tuple[str, float, int]], image_format: str, suffix: str, existing: str
) -> None:
    source, target = tmp_path / "image.bin", tmp_path / f"restored{suffix}"
    source.write_bytes(mutate(encode(image_format, "RGB"), changes))
    target.unlink(missing_ok=True)
    content = source.read_bytes()
    try:
        restore_file(nn.Identity(), source, target, existing=existing, max_pixels=10**4)
    except (OSError, ValueError):
        assert not target.exists()
    else:
        assert read_image(target).shape == read_image(source).shape
    assert source.read_bytes() == content


def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "safetensors":
        from safetensors.torch import save

        return save(weights())
    torch.save({"params": weights(), "iter": 3}, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.filterwarnings("ignore")
@fuzz(changes=CHANGES)
def test_a_file_of_weights_is_read_or_refused_whatever_its_bytes(
    tmp_path: Path, kind: str, changes: list[tuple[str, float, int]]
) -> None:
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    path.write_bytes(mutate(saved(kind), changes))
    net = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    try:
        load_weights(net, path)
    except ValueError as error:
        same = [torch.equal(value, before[name]) for name, value in net.state_dict().items()]
        if str(path) not in str(error) or not all(same):
            raise


names = st.sampled_from(["weight", "bias", "module.weight", "module.bias", "net.weight", "other", "", "params", 3])
values = st.one_of(
    st.lists(st.integers(0, 4), max_size=3).map(torch.ones),
    st.sampled_from(
        [
            torch.zeros(2, 3),
            torch.zeros(2),
            torch.zeros(2, 3, dtype=torch.complex64),
            torch.zeros(2, 3, dtype=torch.int8),
            torch.zeros(2, 3, device="meta"),
            torch.zeros(2, 3).to_sparse(),
            torch.zeros(3, 2).t(),
            torch.zeros(1, 1).expand(2, 3),
            None,
            "text",
            [1.0],
        ]
    ),
)


@pytest.mark.filterwarnings("ignore")
@fuzz(
    content=st.dictionaries(names, st.one_of(values, st.dictionaries(names, values, max_size=3)), max_size=4),
    strict=st.booleans(),
)
def test_any_mapping_is_loaded_or_refused_as_a_whole(content: dict[Any, Any], strict: bool) -> None:
    net = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    try:
        load_weights(net, content, strict=strict)
    except ValueError as error:
        if len(str(error)) > 1000:
            raise
        same = [torch.equal(value, before[name]) for name, value in net.state_dict().items()]
        if not all(same):
            raise
        return
    assert strict is False or not any(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@fuzz(
    "convert_mprnet_state_dict", content=st.one_of(st.none(), st.integers(), st.dictionaries(names, values, max_size=3))
)
def test_what_is_no_mprnet_is_refused(content: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="checkpoint must"):
        convert_mprnet_state_dict(content)


@fuzz(text=st.text(max_size=40), where=st.sampled_from(["start", "value", "tag"]))
def test_an_option_file_gives_plain_data_or_is_refused(text: str, where: str) -> None:
    yaml = pytest.importorskip("yaml")
    option_files = pytest.importorskip("basicsr_plugin.options.files")
    content = {"start": text, "value": f"a: {text}\nb: [{text}]", "tag": f"a: !!{text}"}[where]
    try:
        loaded = yaml.load(content, Loader=option_files.OptionLoader)
    except (yaml.YAMLError, ValueError):
        return
    assert is_plain(loaded)


@fuzz(
    text=st.one_of(st.text(max_size=30), st.from_regex(r"\[.{0,20}\]|!!float.{0,6}|[-+.0-9eE]{1,12}", fullmatch=True))
)
def test_a_value_of_the_command_line_is_plain_data_or_refused(text: str) -> None:
    yaml = pytest.importorskip("yaml")
    option_files = pytest.importorskip("basicsr_plugin.options.files")
    try:
        assert is_plain(option_files.parse_value(text))
    except (yaml.YAMLError, ValueError):
        return


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set):
        return all(map(is_plain, value))
    return value is None or type(value).__module__ in ("builtins", "datetime")


parts = st.sampled_from(["..", ".", "run", "", "a b", "~", "C:", "\\", "\0", "x.y", "../..", "é", "..."])


@fuzz(
    pieces=st.lists(parts, max_size=5),
    separator=st.sampled_from(["/", "\\", ""]),
    option=st.sampled_from(["name", "data set", "suffix", "models"]),
)
def test_names_in_an_option_file_stay_below_their_folder(pieces: list[str], separator: str, option: str) -> None:
    pytest.importorskip("basicsr_plugin").register()
    from basicsr_plugin.run.preflight import check_folders, read_options

    root, name = Path("/root/folder"), separator.join(pieces)
    opt: dict[str, Any] = {"name": "run", "model_type": "RestorationModel", "is_train": False, "val": {}, "path": {}}
    opt["network_g"] = {"type": "MPRNet", "dim": 4, "unet_step": 4, "orsnet_step": 4, "num_cabs": 1}
    opt["datasets"] = {"val": {"name": "val", "type": "PairedImageDataset"}}
    if option == "name":
        opt["name"] = name
    elif option == "data set":
        opt["datasets"]["val"]["name"] = name
    elif option == "suffix":
        opt["val"]["suffix"] = name
    else:
        opt["path"]["models"] = str(root / name)
    try:
        read_options(opt)
        check_folders(opt, root)
    except ValueError:
        return
    results = root / "results"
    written = {
        "name": [results / name],
        "data set": [results / "run" / "visualization" / name],
        "suffix": [results / f"image_{name}.png"],
        "models": [root / name],
    }[option]
    for path in written:
        inside = Path(os.path.abspath(path))
        assert inside.is_relative_to(root)
        assert option == "models" or inside != results, "the folder of all runs itself"


def test_the_bytes_that_are_changed_were_good(tmp_path: Path) -> None:
    for kind in ("zip", "legacy", "safetensors"):
        path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
        path.write_bytes(saved(kind))
        assert read_state_dict(path).keys() == {"weight", "bias"}
    for image_format in FORMATS:
        (tmp_path / "image.bin").write_bytes(encode(image_format, "RGB"))
        assert read_image(tmp_path / "image.bin").shape == (3, 9, 7)
