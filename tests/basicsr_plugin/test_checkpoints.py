"""Files of weights and training states."""

from __future__ import annotations

import errno
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from basicsr_plugin.run import states as checkpoints
from clusir_modules.serialization import atomic
from clusir_modules.serialization.checkpoints import fit_state_dict

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
SOURCE = "net.pth"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)


def assert_weights(found, expected=WEIGHTS):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class TestWriting:
    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_both_kinds_come_back_in_either_format(self, tmp_path, file_format):
        average = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
        checkpoints.write_weights({"params": WEIGHTS, "params_ema": average}, tmp_path, "net_g_10", file_format)
        path = checkpoints.find_weights(tmp_path, "net_g_10", file_format)
        assert path.suffix == f".{file_format}"
        assert_weights(checkpoints.read_weights(path, param_key="params"))
        assert_weights(checkpoints.read_weights(path, param_key="params_ema"), average)
        assert not list(tmp_path.glob(".*"))

    def test_safetensors_accepts_channels_last_weights(self, tmp_path):
        weight = torch.rand(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
        checkpoints.write_weights({"params": {"w": weight}}, tmp_path, "net_g_1", "safetensors")
        found = checkpoints.read_weights(tmp_path / "net_g_1.safetensors", param_key="params")
        assert torch.equal(found["w"], weight)

    @pytest.mark.filterwarnings("default:cannot write")
    @pytest.mark.parametrize("attempts_that_fail", [2, 3])
    def test_a_write_that_breaks_off_is_retried_then_raised_and_leaves_the_old_file(
        self, tmp_path, monkeypatch, attempts_that_fail
    ):
        path = tmp_path / "5.state"
        checkpoints.write_state({"iter": 5}, path)
        old = path.read_bytes()
        save, calls = torch.save, []

        def break_off(content, file):
            calls.append(file)
            if len(calls) > attempts_that_fail:
                save(content, file)
                return
            file.write(b"half")
            raise RuntimeError("the disk has gone")

        monkeypatch.setattr(torch, "save", break_off)
        if attempts_that_fail == 3:
            with pytest.raises(OSError, match=r"cannot write .*5.state: the disk has gone"):
                checkpoints.write_state({"iter": 6}, path)
            assert path.read_bytes() == old
        else:
            with pytest.warns(UserWarning, match="trying again: the disk has gone"):
                checkpoints.write_state({"iter": 6}, path)
            assert path.read_bytes() != old
        assert os.listdir(tmp_path) == ["5.state"]

    def test_an_interrupted_write_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def interrupt(content, file):
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.write_state({"iter": 6}, tmp_path / "6.state")
        assert not os.listdir(tmp_path)

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_the_old_file_stays_whole_wherever_the_write_stops(self, tmp_path, monkeypatch, call):
        path = tmp_path / "5.state"
        checkpoints.write_state({"iter": 5}, path)
        old = path.read_bytes()

        def stop(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(atomic.os, call, stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.write_state({"iter": 6}, path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["5.state"]

    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_bytes_are_on_disk_before_the_name_is_and_the_name_before_it_returns(
        self, tmp_path, monkeypatch, file_format
    ):
        calls = []
        fsync, replace = os.fsync, os.replace

        def record_fsync(descriptor):
            calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
            fsync(descriptor)

        def record_replace(source, target):
            calls.append(("replace", Path(source), Path(target)))
            replace(source, target)

        monkeypatch.setattr(atomic.os, "fsync", record_fsync)
        monkeypatch.setattr(atomic.os, "replace", record_replace)
        checkpoints.write_weights({"params": WEIGHTS}, tmp_path, "net_g_1", file_format)
        path = tmp_path / f"net_g_1.{file_format}"
        temporary = calls[0][1]
        assert temporary.parent == tmp_path
        assert calls == [("fsync", temporary), ("replace", temporary, path), ("fsync", tmp_path)]

    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_a_full_disk_is_named_at_once_and_spares_the_old_file(self, tmp_path, monkeypatch, file_format):
        monkeypatch.setattr(atomic.time, "sleep", lambda seconds: pytest.fail("it tried again"))
        checkpoints.write_weights({"params": WEIGHTS}, tmp_path, "net_g_1", file_format)
        path = tmp_path / f"net_g_1.{file_format}"
        old = path.read_bytes()
        monkeypatch.setattr(atomic, "open", lambda path, mode: open("/dev/full", mode, 0), raising=False)
        needed = r"\(0.000 GB needed, \d+.\d+ GB free\)"
        with pytest.raises(OSError, match=rf"net_g_1.*No space left on device {needed}; what was saved") as caught:
            checkpoints.write_weights({"params": {"a": torch.ones(9999)}}, tmp_path, "net_g_1", file_format)
        assert caught.value.errno == errno.ENOSPC
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == [path.name]

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
    def test_a_folder_that_is_read_only_is_named_at_once(self, tmp_path, monkeypatch, number):
        def refuse(path, mode):
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(atomic.time, "sleep", lambda seconds: pytest.fail("it tried again"))
        monkeypatch.setattr(atomic, "open", refuse, raising=False)
        with pytest.raises(OSError, match=rf"cannot write .*5.state: .*{os.strerror(number)}"):
            checkpoints.write_state({"iter": 5}, tmp_path / "5.state")

    @pytest.mark.filterwarnings("ignore:cannot write")
    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_a_folder_that_cannot_be_written_to_raises(self, tmp_path, file_format):
        (tmp_path / "models").write_text("a file where the folder should be")
        with pytest.raises(OSError, match="cannot write"):
            checkpoints.write_weights({"params": WEIGHTS}, tmp_path / "models", "net_g_1", file_format)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


class TestReading:
    @pytest.mark.parametrize(
        "content", [{"params": {"w": Malicious()}}, Malicious(), {"w": torch.ones(1), "x": Malicious()}]
    )
    @pytest.mark.parametrize("zipped", [True, False])
    def test_files_that_would_run_code_are_refused(self, tmp_path, monkeypatch, content, zipped):
        monkeypatch.chdir(tmp_path)
        torch.save(content, "bad.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"bad.pth' is refused: it holds Python objects"):
            checkpoints.read_weights(Path("bad.pth"), param_key="params")
        assert not (tmp_path / "malicious").exists()
        torch.load("bad.pth", weights_only=False)
        assert (tmp_path / "malicious").is_dir(), "the file was harmless, so that the test showed nothing"

    def test_states_that_would_run_code_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("5.state").write_bytes(pickle.dumps({"epoch": 0, "iter": Malicious(), "optimizers": [], "schedulers": []}))
        with pytest.raises(ValueError, match=r"5.state' is"):
            checkpoints.read_state(Path("5.state"))
        assert not (tmp_path / "malicious").exists()

    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_files_cut_short_anywhere_are_called_damaged(self, tmp_path, file_format):
        checkpoints.write_weights({"params": WEIGHTS}, tmp_path, "net_g_1", file_format)
        path = tmp_path / f"net_g_1.{file_format}"
        whole = path.read_bytes()
        for length in [*range(0, len(whole), 37), len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"net_g_1.* is damaged"):
                checkpoints.read_weights(path, param_key="params")

    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_a_changed_byte_among_the_values_is_found(self, tmp_path, file_format):
        weights = {"a": torch.zeros(5000), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(2)}
        checkpoints.write_weights({"params": weights}, tmp_path, "net_g_1", file_format)
        path = tmp_path / f"net_g_1.{file_format}"
        assert_weights(checkpoints.read_weights(path, param_key="params"), weights)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"net_g_1.* is damaged.*checksum"):
            checkpoints.read_weights(path, param_key="params")

    def test_garbage_is_called_damaged(self, tmp_path):
        for number in range(50):
            path = tmp_path / f"{number}.state"
            path.write_bytes(random.Random(number).randbytes(200) if number else bytes(200))
            with pytest.raises(ValueError, match=rf"{number}.state' is "):
                checkpoints.read_state(path)

    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_it_is_told_whether_there_is_an_average(self, tmp_path, file_format):
        checkpoints.write_weights({"params": WEIGHTS}, tmp_path, "net_g_1", file_format)
        checkpoints.write_weights({"params": WEIGHTS, "params_ema": WEIGHTS}, tmp_path, "net_g_2", file_format)
        assert not checkpoints.has_average(tmp_path / f"net_g_1.{file_format}")
        assert checkpoints.has_average(tmp_path / f"net_g_2.{file_format}")

    @pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
    def test_missing_files_are_called_missing(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match="none"):
            checkpoints.read_weights(tmp_path / name, param_key="params")

    @pytest.mark.parametrize("wrapping", ["params", "params_ema", "state_dict", None])
    def test_usual_wrappings_are_taken_off(self, tmp_path, wrapping):
        content = WEIGHTS if wrapping is None else {wrapping: WEIGHTS, "epoch": 3}
        torch.save(content, tmp_path / "net.pth")
        assert_weights(checkpoints.read_weights(tmp_path / "net.pth", param_key="params"))

    def test_the_key_that_is_asked_for_comes_first(self, tmp_path):
        torch.save({"params": {"a": torch.zeros(1)}, "custom": WEIGHTS}, tmp_path / "net.pth")
        assert_weights(checkpoints.read_weights(tmp_path / "net.pth", param_key="custom"))

    def test_a_file_without_state_dict_is_refused(self, tmp_path):
        torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "net.pth")
        with pytest.raises(ValueError, match="must hold a state dict, got epoch, loss"):
            checkpoints.read_weights(tmp_path / "net.pth", param_key="params")

    def test_weights_are_not_taken_for_a_state(self, tmp_path):
        checkpoints.write_state({"params": WEIGHTS}, tmp_path / "5.state")
        with pytest.raises(ValueError, match="is not a training state: it has no epoch, iter"):
            checkpoints.read_state(tmp_path / "5.state")

    def test_states_are_listed_newest_first_by_number(self, tmp_path):
        for name in ("5.state", "100.state", "20.state", "best.state", "30.state.tmp"):
            (tmp_path / name).touch()
        assert [path.name for path in checkpoints.list_states(tmp_path)] == ["100.state", "20.state", "5.state"]
        assert checkpoints.list_states(tmp_path / "missing") == []


class TestFitting:
    @pytest.mark.parametrize("prefix", ["module.", "net.", "module.net.", "module._orig_mod."])
    def test_prefixes_of_wrappers_are_taken_off(self, prefix):
        loaded = {prefix + name: tensor for name, tensor in WEIGHTS.items()}
        fitted, differences = fit_state_dict(loaded, WEIGHTS, strict=True, source=SOURCE)
        assert_weights(fitted)
        assert not differences

    def test_what_lies_beside_the_network_in_a_wrapper_is_left_out(self):
        loaded = {**{f"net.{name}": tensor for name, tensor in WEIGHTS.items()}, "loss_fn.vgg.0.weight": torch.ones(1)}
        assert_weights(fit_state_dict(loaded, WEIGHTS, strict=True, source=SOURCE)[0])

    def test_a_network_with_a_part_called_net_keeps_its_names(self):
        own = {"net.weight": torch.ones(1)}
        assert_weights(fit_state_dict(own, own, strict=True, source=SOURCE)[0], own)

    def test_names_that_differ_are_listed_shortly(self):
        loaded = {f"old.{number}": torch.ones(1) for number in range(9)}
        with pytest.raises(ValueError, match=r"net.pth does not fit") as caught:
            fit_state_dict(loaded, WEIGHTS, strict=True, source=SOURCE)
        message = str(caught.value)
        assert "the file lacks 2 of 2 entries: a.bias, a.weight" in message
        assert "the network has no 9 of the file's: old.0, old.1, old.2, old.3, old.4, ..." in message
        assert len(message) < 300

    def test_sizes_that_differ_are_named_with_both_shapes(self):
        loaded = {**WEIGHTS, "a.weight": torch.zeros(4, 3)}
        with pytest.raises(ValueError, match=r"a.weight has shape \(2, 3\) in the network, \(4, 3\) in the file"):
            fit_state_dict(loaded, WEIGHTS, strict=True, source=SOURCE)

    def test_without_strictness_what_fits_is_loaded_and_the_rest_reported(self):
        loaded = {"a.weight": torch.zeros(4, 3), "a.bias": torch.zeros(2), "b": torch.zeros(1)}
        fitted, differences = fit_state_dict(loaded, WEIGHTS, strict=False, source=SOURCE)
        assert_weights(fitted, {"a.bias": torch.zeros(2)})
        assert len(differences) == 2

    def test_a_file_of_another_network_is_refused_even_without_strictness(self):
        with pytest.raises(ValueError, match="does not fit"):
            fit_state_dict({"b": torch.ones(1)}, WEIGHTS, strict=False, source=SOURCE)


class TestFileSystems:
    def test_the_size_that_a_full_disk_lacked_is_the_files(self, tmp_path, monkeypatch):
        weights = {"params": {"a": torch.zeros(3_000_000)}}  # 12 MB
        monkeypatch.setattr(atomic, "open", lambda path, mode: open("/dev/full", mode), raising=False)
        with pytest.raises(OSError, match=r"net_g_1.pth: No space left on device \(0.012 GB needed"):
            checkpoints.write_weights(weights, tmp_path, "net_g_1", "pth")

    def test_a_quota_is_named_likewise(self, tmp_path, monkeypatch):
        def refuse(path, mode):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(atomic, "open", refuse, raising=False)
        with pytest.raises(OSError, match=r"5.state: Disk quota exceeded \(.* GB needed"):
            checkpoints.write_state({"iter": 5}, tmp_path / "5.state")

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
    def test_where_nothing_can_be_forced_to_disk_files_are_written_all_the_same(self, tmp_path, monkeypatch, number):
        def refuse(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(atomic.os, "fsync", refuse)
        checkpoints.write_state({"iter": 5}, tmp_path / "5.state")
        assert os.listdir(tmp_path) == ["5.state"]

    def test_a_folder_that_cannot_be_opened_is_written_to_all_the_same(self, tmp_path, monkeypatch):
        real = os.open

        def refuse(path, *args):
            if Path(path).is_dir():
                raise PermissionError(errno.EACCES, "as on Windows")
            return real(path, *args)

        monkeypatch.setattr(atomic.os, "open", refuse)
        checkpoints.write_state({"iter": 5}, tmp_path / "5.state")
        assert os.listdir(tmp_path) == ["5.state"]

    def test_bytes_that_are_lost_on_their_way_to_the_disk_are_an_error(self, tmp_path, monkeypatch):
        def lose(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(atomic.os, "fsync", lose)
        with pytest.warns(UserWarning, match="trying again"), pytest.raises(OSError, match="Input/output error"):
            checkpoints.write_state({"iter": 5}, tmp_path / "5.state")
        assert not os.listdir(tmp_path)

    @pytest.mark.parametrize("name", ["with blank", "[brackets]*", os.fsdecode(b"caf\xe9"), "ü"])
    @pytest.mark.parametrize("file_format", checkpoints.FORMATS)
    def test_folders_may_have_any_name(self, tmp_path, name, file_format):
        folder = tmp_path / name
        folder.mkdir()
        checkpoints.write_weights({"params": WEIGHTS, "params_ema": WEIGHTS}, folder, "net_g_7", file_format)
        checkpoints.write_state({"epoch": 0, "iter": 7, "optimizers": [], "schedulers": []}, folder / "7.state")
        assert [path.name for path in checkpoints.list_states(folder)] == ["7.state"]
        assert checkpoints.read_state(folder / "7.state")["iter"] == 7
        path = checkpoints.find_weights(folder, "net_g_7", file_format)
        assert_weights(checkpoints.read_weights(path, param_key="params_ema"))

    def test_states_with_names_that_are_no_plain_number_are_left_alone(self, tmp_path):
        for name in ("5.state", "4².state", "٣.state", "8 (copy).state", "-9.state", ".state"):
            (tmp_path / name).touch()
        assert [path.name for path in checkpoints.list_states(tmp_path)] == ["5.state"]

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        models, folder = tmp_path / "models", tmp_path / "training_states"
        for part in (models, folder):
            part.mkdir()
            (part / f".{32 * 'a'}.tmp.pth").touch()
            (part / "kept.pth").touch()
        checkpoints.States(models, folder, "pth").clean()
        assert [path.name for part in (models, folder) for path in part.iterdir()] == ["kept.pth"] * 2
