"""Weights from files of unknown origin."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clusir_modules.serialization.checkpoints import fit_state_dict, load_weights, read_checkpoint, read_state_dict

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class WritesAFile:
    """Unpickling it writes a file."""

    def __reduce__(self) -> Any:
        return Path.write_text, (Path("written"), "by the pickle")


class WritesByEval:
    def __reduce__(self) -> Any:
        return eval, ("open('written', 'w').close()",)


def assert_weights(found: dict[str, Tensor], expected: dict[str, Tensor] = WEIGHTS) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def assert_loaded(net: nn.Module) -> None:
    assert_weights(dict(net.state_dict()))


class TestMaliciousFiles:
    @pytest.mark.parametrize("kind", [WritesAFile, WritesByEval])
    @pytest.mark.parametrize("place", ["whole", "entry", "beside", "key"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_pickle_that_would_write_a_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, place: str, zipped: bool
    ) -> None:
        monkeypatch.chdir(tmp_path)
        content: Any = {
            "whole": kind(),
            "entry": {"params": {"weight": kind()}},
            "beside": {"params": WEIGHTS, "note": kind()},
            "key": {(kind(),): WEIGHTS},
        }[place]
        torch.save(content, "bad.pth", _use_new_zipfile_serialization=zipped)
        for load in (read_state_dict, read_checkpoint, lambda path: load_weights(nn.Linear(3, 2), path)):
            with pytest.raises(ValueError, match=r"'bad.pth' is refused: it holds Python objects"):
                load("bad.pth")
        assert not Path("written").exists()
        torch.load("bad.pth", weights_only=False)
        assert Path("written").exists(), "the file was harmless, so that the test showed nothing"

    def test_a_bare_pickle_is_refused_whatever_it_is_called(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("bad.pth", "bad.safetensors", "bad.ckpt", "bad"):
            Path(name).write_bytes(pickle.dumps({"params": WritesAFile()}))
            with pytest.raises(ValueError, match=f"'{name}' is"):
                read_state_dict(name)
        assert not Path("written").exists()

    def test_a_compressed_archive_which_could_fill_the_memory_is_refused(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        torch.save({"weight": torch.zeros(10**6)}, buffer)
        with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
            for entry in source.infolist():
                bomb.writestr(entry.filename, source.read(entry))
        assert (tmp_path / "a.pth").stat().st_size < 10**5
        with pytest.raises(ValueError, match=r"is refused: its entries are compressed \("):
            read_state_dict(tmp_path / "a.pth")

    def test_a_changed_byte_is_noticed(self, tmp_path: Path) -> None:
        torch.save(WEIGHTS, tmp_path / "a.pth")
        content = (tmp_path / "a.pth").read_bytes()
        value = WEIGHTS["weight"].numpy().tobytes()
        (tmp_path / "a.pth").write_bytes(content.replace(value, value[:-1] + b"\x41"))
        with pytest.raises(ValueError, match=r"is damaged: the checksum of .* does not agree"):
            read_state_dict(tmp_path / "a.pth")

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_damaged_and_missing_files_are_told_apart(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileNotFoundError, match=f"there is no file '.*{name}'"):
            read_state_dict(tmp_path / name)
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=rf"'.*{name}' is damaged"):
            read_state_dict(tmp_path / name)


class TestReading:
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
    @pytest.mark.parametrize("wrapping", [None, "params", "params_ema", "state_dict", "weights"])
    def test_wrappings_are_taken_off(self, tmp_path: Path, prefix: str, wrapping: str | None) -> None:
        content: dict[str, Any] = {prefix + name: value for name, value in WEIGHTS.items()}
        torch.save(content if wrapping is None else {wrapping: content, "epoch": 1}, tmp_path / "a.pth")
        assert_weights(read_state_dict(tmp_path / "a.pth", key="weights"))

    def test_the_average_comes_first_and_a_key_before_it(self, tmp_path: Path) -> None:
        plain = {name: value + 1 for name, value in WEIGHTS.items()}
        torch.save({"params": plain, "params_ema": WEIGHTS}, tmp_path / "a.pth")
        assert_weights(read_state_dict(tmp_path / "a.pth"))
        assert_weights(read_state_dict(tmp_path / "a.pth", key="params"), plain)

    def test_safetensors_are_read(self, tmp_path: Path) -> None:
        save_file({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "a.safetensors")
        assert_weights(read_state_dict(tmp_path / "a.safetensors"))

    def test_a_prefix_of_some_names_only_is_a_name(self) -> None:
        own = {"module.weight": torch.ones(1), "head": torch.ones(1)}
        assert fit_state_dict(own, own)[0].keys() == own.keys()

    @pytest.mark.parametrize(
        "content", [{}, {"epoch": 3}, {"params": {"weight": 1.0}}, {"w": torch.ones(1).to_sparse()}, {3: torch.ones(1)}]
    )
    def test_what_is_no_state_dict_is_refused(self, tmp_path: Path, content: dict[str, Any]) -> None:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=r"'.*a.pth' must hold a state dict, got (nothing|epoch|weight|w|3)$"):
            read_state_dict(tmp_path / "a.pth")


class TestLoading:
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_a_file_is_loaded(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.{suffix}"
        save_file(WEIGHTS, path) if suffix == "safetensors" else torch.save({"params": WEIGHTS}, path)
        for source in (path, os.fspath(path), {"params": WEIGHTS}, WEIGHTS):
            net = nn.Linear(3, 2)
            load_weights(net, source)
            assert_loaded(net)

    def test_weights_kept_in_a_lightning_module_are_found(self) -> None:
        net = nn.Linear(3, 2)
        load_weights(net, {**{f"net.{name}": value for name, value in WEIGHTS.items()}, "loss.vgg": torch.ones(1)})
        assert_loaded(net)

    def test_wrong_names_give_a_short_difference(self) -> None:
        net = nn.Linear(3, 2)
        strange = {f"layers.{number}." + "x" * 200: torch.ones(1) for number in range(1000)}
        with pytest.raises(ValueError, match="does not fit the network") as caught:
            load_weights(net, strange)
        message = str(caught.value)
        assert "the file lacks 2 of 2 entries: bias, weight" in message
        assert "the network has no 1000 of the file's: layers.0.x" in message
        assert len(message) < 700

    def test_wrong_sizes_name_the_parameter_and_both_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"weight has shape \(2, 3\) in the network, \(4, 3\) in the file"):
            load_weights(nn.Linear(3, 2), {**WEIGHTS, "weight": torch.zeros(4, 3)})

    def test_many_wrong_sizes_are_counted(self) -> None:
        net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(6)))
        with pytest.raises(ValueError, match="7 more entries differ in shape"):
            load_weights(net, {name: torch.zeros(9) for name in net.state_dict()})

    def test_complex_numbers_do_not_lose_their_imaginary_part(self) -> None:
        with pytest.raises(ValueError, match=r"weight has shape .* in the file"):
            load_weights(nn.Linear(3, 2), {**WEIGHTS, "weight": torch.zeros(2, 3, dtype=torch.complex64)})

    def test_a_refused_file_leaves_the_network_as_it_was(self) -> None:
        net = nn.Linear(3, 2)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(ValueError, match="does not fit"):
            load_weights(net, {**WEIGHTS, "bias": torch.zeros(3)})
        assert_weights(dict(net.state_dict()), before)

    def test_without_strictness_what_fits_is_loaded_and_a_warning_says_what_does_not(self) -> None:
        net = nn.Linear(3, 2)
        bias = net.bias.detach().clone()
        with pytest.warns(UserWarning, match=r"loaded in part:\n  bias has shape \(2,\) in the network, \(3,\) in"):
            load_weights(net, {**WEIGHTS, "bias": torch.zeros(3)}, strict=False)
        assert torch.equal(net.weight, WEIGHTS["weight"])
        assert torch.equal(net.bias, bias)

    def test_nothing_that_fits_is_an_error_even_without_strictness(self) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            load_weights(nn.Linear(3, 2), {"other": torch.ones(1)}, strict=False)


def test_no_code_of_ours_loads_pickles_in_full() -> None:
    """Every ``torch.load`` says ``weights_only=True``, every ``yaml.load`` names the safe loader, no bare pickle."""
    root = Path(__file__).parents[2]
    packages = ("clusir_modules", "basicsr_plugin", "clusir_cli")
    texts = {path: path.read_text() for name in packages for path in (root / name).rglob("*.py")}
    assert len(texts) > 50
    for path, text in texts.items():
        for call, needed in (("torch.load(", "weights_only=True"), ("yaml.load(", "OptionLoader")):
            for part in text.split(call)[1:]:
                assert needed in part[:200], f"{path}: {call}"
        for call in ("pickle.load", "yaml.unsafe", "yaml.full_load", "joblib", "extractall", "allow_pickle=True"):
            assert call not in text, f"{path}: {call}"
