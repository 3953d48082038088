"""Whole runs that something happens to: faults of disks, files and workers, SIGTERM, SIGKILL."""

from __future__ import annotations

import builtins
import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import get_worker_info

from basicsr_plugin.models.restoration_model import RestorationModel
from basicsr_plugin.run import states as checkpoints
from clusir_modules.serialization import atomic

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def options(options, pictures, make_paired):
    """20 iterations, a state every 5, a validation every 10."""
    options["train"]["total_iter"] = 20
    options["logger"]["save_checkpoint_freq"] = 5
    options["datasets"]["val_1"] = make_paired("First", pictures)
    options["datasets"]["val_2"] = make_paired("Second", pictures)
    metric = {"type": "calculate_psnr", "crop_border": 0}
    options["val"] = {"val_freq": 10, "save_img": False, "metrics": {"psnr": metric, "worst": dict(metric)}}
    options["val"]["metrics"]["worst"]["better"] = "lower"
    return options


def state(root, iteration):
    return checkpoints.read_state(root / f"experiments/run/training_states/{iteration}.state")


def weights(root, label="latest"):
    return torch.load(root / f"experiments/run/models/net_g_{label}.pth", weights_only=True)


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_same(value, second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def assert_same_end(root, other):
    assert_same(weights(root), weights(other))
    assert_same(state(root, 20), state(other, 20))


def call_at(monkeypatch, iteration, action):
    """Do something before an iteration's step."""
    step = RestorationModel.optimize_parameters

    def optimize_parameters(self, current_iter):
        if current_iter == iteration:
            action()
        step(self, current_iter)

    monkeypatch.setattr(RestorationModel, "optimize_parameters", optimize_parameters)


class TestTermination:
    def terminate(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def test_it_saves_the_running_iteration_and_the_resumed_run_ends_as_if_undisturbed(
        self, train, options, tmp_path, monkeypatch, messages
    ):
        train(options, root=tmp_path / "undisturbed")
        with monkeypatch.context() as patch:
            call_at(patch, 7, self.terminate)
            with pytest.raises(SystemExit) as ended:
                train(options, root=tmp_path / "stopped")
        assert ended.value.code == 143
        assert "SIGTERM: the run ends after iteration 7, and its state is saved" in messages("WARNING")[-1]
        assert state(tmp_path / "stopped", 7)["iter"] == 7
        resumed = train(options, "--auto_resume", root=tmp_path / "stopped")
        assert len(resumed.losses) == 13
        assert_same_end(tmp_path / "stopped", tmp_path / "undisturbed")

    def test_it_interrupts_a_validation_which_is_made_up_for(self, train, options, tmp_path, monkeypatch):
        options["val"]["val_freq"] = 8
        train(options, root=tmp_path / "undisturbed")
        test, calls = RestorationModel.test, []

        def interrupted_test(self):
            calls.append(self)
            if len(calls) == 7:  # in the second data set
                os.kill(os.getpid(), signal.SIGTERM)
            test(self)

        with monkeypatch.context() as patch:
            patch.setattr(RestorationModel, "test", interrupted_test)
            with pytest.raises(SystemExit):
                train(options, root=tmp_path / "stopped")
        assert len(calls) == 7
        assert state(tmp_path / "stopped", 8)["validation_due"]
        train(options, "--auto_resume", root=tmp_path / "stopped")
        assert_same_end(tmp_path / "stopped", tmp_path / "undisturbed")

    def test_it_waits_for_the_end_of_an_accumulated_step(self, train, options, tmp_path, monkeypatch):
        options["train"]["accum_iter"] = 5
        call_at(monkeypatch, 7, self.terminate)
        with pytest.raises(SystemExit):
            train(options)
        assert sorted(path.name for path in (tmp_path / "experiments/run/training_states").iterdir()) == [
            "10.state",
            "5.state",
        ]

    def test_before_the_first_iteration_it_saves_nothing(self, train, options, tmp_path, monkeypatch):
        setup = RestorationModel.setup_schedulers

        def setup_schedulers(model):
            setup(model)
            self.terminate()

        monkeypatch.setattr(RestorationModel, "setup_schedulers", setup_schedulers)
        with pytest.raises(SystemExit):
            train(options)
        assert not list((tmp_path / "experiments/run/models").iterdir())


def in_another_process(action):
    """Class and text of the error that something ends with in a fork of this process."""

    def report(connection):
        try:
            action()
        except BaseException as error:
            connection.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=report, args=(sender,))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(120) else "it is still running"
    except EOFError:
        return "no error"
    finally:
        process.kill()
        process.join()


class Killed(Exception):
    """Stands in for the end of the process."""


def call_killed():
    raise Killed


def test_a_kill_between_checkpoint_and_validation_loses_no_best_value(train, options, tmp_path, monkeypatch):
    train(options, root=tmp_path / "undisturbed")

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModel, "validation", lambda *args: call_killed())
        with pytest.raises(Killed):
            train(options, root=tmp_path / "killed")
    assert state(tmp_path / "killed", 10)["validation_due"]
    train(options, "--auto_resume", root=tmp_path / "killed")
    assert_same_end(tmp_path / "killed", tmp_path / "undisturbed")
    best = state(tmp_path / "undisturbed", 20)["best_metric_results"]["Second"]
    assert 10 in {record["iter"] for record in best.values()}, "nothing was to lose"


def test_a_disk_that_fills_up_leaves_a_checkpoint_out_and_the_run_goes_on(
    train, options, tmp_path, monkeypatch, messages
):
    train(options, root=tmp_path / "undisturbed")

    def write(content, path):
        with monkeypatch.context() as disk:
            if path.name == "15.state":
                disk.setattr(atomic, "open", full, raising=False)
            atomic.write_whole(content, path)

    def full(path, mode):
        with builtins.open(path, mode) as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_whole", write)
        train(options, root=tmp_path / "full")
    assert re.search(r"cannot write .*15.state: No space left on device \(.* GB needed.*tries again", messages()[0])
    assert sorted(path.name for path in (tmp_path / "full/experiments/run/training_states").iterdir()) == [
        "10.state",
        "20.state",
        "5.state",
    ]
    assert_same_end(tmp_path / "full", tmp_path / "undisturbed")


@pytest.mark.parametrize("errors", [0, 1])
def test_a_kill_in_the_last_validation_loses_nothing_either(train, options, tmp_path, monkeypatch, errors):
    """The state that is resumed is the last one: it is renewed, though nothing is left to train."""
    train(options, root=tmp_path / "undisturbed")
    validate, failed = RestorationModel.validation, []

    def kill(self, loader, current_iter, *args):
        if current_iter == 20:
            raise Killed
        validate(self, loader, current_iter, *args)

    def write(content, path):
        if path.name == "20.state" and len(failed) < errors:
            failed.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        atomic.write_whole(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModel, "validation", kill)
        with pytest.raises(Killed):
            train(options, root=tmp_path / "killed")
    assert state(tmp_path / "killed", 20)["validation_due"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_whole", write)
        train(options, "--auto_resume", root=tmp_path / "killed")
    assert len(failed) == errors
    assert_same_end(tmp_path / "killed", tmp_path / "undisturbed")


def test_a_state_of_another_run_is_not_taken_for_ones_own(train, options, tmp_path, monkeypatch):
    """A validation is made up for, but a state without its weights would be none."""
    with monkeypatch.context() as patch:
        patch.setattr(RestorationModel, "validation", lambda *args: call_killed())
        with pytest.raises(Killed):
            train(options, root=tmp_path / "killed")
    options["path"]["resume_state"] = str(tmp_path / "killed/experiments/run/training_states/10.state")
    train(options, root=tmp_path / "other")
    folder = tmp_path / "other/experiments/run/training_states"
    assert sorted(path.name for path in folder.iterdir()) == ["15.state", "20.state"]


@pytest.mark.parametrize("writing", [1, 2])
def test_a_last_checkpoint_that_a_full_disk_cost_is_written_at_the_end(
    train, options, tmp_path, monkeypatch, messages, writing
):
    """The state is written when the checkpoint is due, and once more after the validation."""
    train(options, root=tmp_path / "undisturbed")
    tries = []

    def write(content, path):
        if path.name == "20.state":
            tries.append(path)
        with monkeypatch.context() as disk:
            if path.name == "20.state" and len(tries) == writing:
                disk.setattr(atomic, "open", full, raising=False)
            atomic.write_whole(content, path)

    def full(path, mode):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_whole", write)
        train(options, root=tmp_path / "full")
    assert "20.state: No space left on device" in messages()[0]
    assert_same_end(tmp_path / "full", tmp_path / "undisturbed")


def test_a_last_checkpoint_that_cannot_be_written_ends_the_run_with_an_error_and_it_can_go_on(
    train, options, tmp_path, monkeypatch
):
    """The weights could be written; without an error the run would seem complete, with its last state missing."""
    train(options, root=tmp_path / "undisturbed")

    def write(content, path):
        if path.name == "20.state":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        atomic.write_whole(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_whole", write)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            train(options, root=tmp_path / "full")
    train(options, "--auto_resume", root=tmp_path / "full")
    assert_same_end(tmp_path / "full", tmp_path / "undisturbed")


def test_a_picture_that_a_kill_left_half_written_is_gone_after_resuming(train, options, tmp_path, monkeypatch):
    from basicsr_plugin.models import validation

    options["val"]["save_img"] = True
    train(options, root=tmp_path / "undisturbed")

    def kill(picture, path):
        (path.parent / f".{32 * 'a'}.tmp.png").write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(validation, "write_picture", kill)
        with pytest.raises(Killed):
            train(options, root=tmp_path / "killed")
    assert len(list(tmp_path.glob("killed/**/.*.tmp.png"))) == 1
    train(options, "--auto_resume", root=tmp_path / "killed")
    pictures = [
        {path.relative_to(root): path.read_bytes() for path in (root / "experiments/run/visualization").rglob("*.png")}
        for root in (tmp_path / "killed", tmp_path / "undisturbed")
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[1]) == 2 * 2 * 5


class TestData:
    @pytest.fixture
    def options(self, options):
        del options["val"], options["datasets"]["val_1"], options["datasets"]["val_2"]
        return options

    @pytest.mark.parametrize(
        ("damage", "loader"),
        [
            ("missing", "main process"),
            ("empty", "main process"),
            ("garbage", "main process"),
            ("cut", "main process"),
            ("missing", "worker"),
            ("garbage", "worker"),
            ("garbage", "thread"),
        ],
    )
    def test_a_picture_that_cannot_be_read_is_named(self, train, options, pictures, damage, loader, monkeypatch):
        if loader == "worker":
            options["datasets"]["train"]["num_worker_per_gpu"] = 1
        if loader == "thread":
            options["datasets"]["train"]["prefetch_mode"] = "cpu"
        path = pictures / "lq/03.png"
        content = {"empty": b"", "garbage": b"no picture" * 20, "cut": path.read_bytes()[:60]}.get(damage)
        if content is None:
            # BasicSR lists the files when it starts, before it sets up the model.
            setup = RestorationModel.setup_schedulers
            monkeypatch.setattr(RestorationModel, "setup_schedulers", lambda self: (path.unlink(), setup(self)))
        else:
            path.write_bytes(content)
        with pytest.raises(RuntimeError, match=r"cannot load sample \d of PairedImageDataset.*lq/03\.png"):
            train(options)

    def test_a_validation_picture_that_cannot_be_read_is_named(self, train, options, pictures, make_paired):
        options["datasets"]["val"] = make_paired("Val", pictures)
        options["val"] = {"val_freq": 5, "save_img": False}
        options["datasets"]["train"]["dataroot_lq"] = options["datasets"]["train"]["dataroot_gt"]
        (pictures / "lq/01.png").write_bytes(b"no picture")
        with pytest.raises(RuntimeError, match=r"cannot load sample \d of PairedImageDataset.*lq/01\.png"):
            train(options)

    @pytest.mark.parametrize("prefetch_mode", [None, "cpu"])
    def test_a_worker_that_is_killed_ends_the_run(self, train, options, tmp_path, monkeypatch, prefetch_mode):
        from basicsr.data.paired_image_dataset import PairedImageDataset

        options["datasets"]["train"].update(num_worker_per_gpu=1, prefetch_mode=prefetch_mode)
        load, marker = PairedImageDataset.__getitem__, tmp_path / "loaded"

        def load_or_die(self, index):
            if get_worker_info() is not None:
                with open(marker, "a") as file:
                    file.write("x")
                if marker.stat().st_size > 30:
                    os.kill(os.getpid(), signal.SIGKILL)
            return load(self, index)

        monkeypatch.setattr(PairedImageDataset, "__getitem__", load_or_die)
        # A process of its own: the loader's handler of SIGCHLD raises wherever the main thread happens to be.
        error = in_another_process(lambda: train(options))
        assert re.search(
            r"RuntimeError: DataLoader worker (\(pid.*\) )?(is killed by signal|exited unexpectedly)", error
        )
        assert [path.name for path in checkpoints.list_states(tmp_path / "experiments/run/training_states")][-1:] == [
            "5.state"
        ]


def test_a_connection_lost_with_a_worker_is_named_as_that():
    from basicsr.data.prefetch_dataloader import CPUPrefetcher

    from basicsr_plugin.data import prefetching

    class Loader:
        def __iter__(self):
            raise ConnectionResetError(104, "Connection reset by peer")
            yield

    prefetching.install()
    with pytest.raises(RuntimeError, match=r"worker exited unexpectedly: it was killed.*Connection reset"):
        CPUPrefetcher(Loader()).next()


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_as_if_undisturbed(tmp_path, environment):
    """The short version of ``make killtest``."""
    program = [sys.executable, str(REPOSITORY / "tools/killtest.py"), "--kills", "3", "--warm", "--seed", "1"]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "kills survived 3/3: " in result.stdout  # where each of them struck depends on the machine
    assert re.search("the end is bit-equal to the undisturbed run's", result.stdout)
