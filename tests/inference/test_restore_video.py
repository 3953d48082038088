"""Videos: what stays, what is kept when the process is killed, and routing by shot. The clips are made here."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from factories import smallest_clusir
from torch import nn

import clusir_modules as cm
from clusir_modules.inference import restore_video as module
from clusir_modules.inference.restore import route_picture
from clusir_modules.inference.shot_routing import ShotRouting, ease

HEIGHT, WIDTH = 32, 48
TICKS = [0, 1, 2, 5, 6, 7, 8, 11, 12, 13, 14]  # of 1001 / 30000 s: not every frame lasts as long


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth in color, brighter by 4 levels in each frame, and darkest at the upper left corner."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + x, 60 + 2 * y, 70 + x + y], axis=-1).astype(np.uint8) + np.uint8(4 * number)


def write_clip(path: Path, *, sound: str | None = "aac", size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    step = Fraction(1001, 30000)
    with av.open(path, "w") as out:
        video = out.add_stream("libx264", rate=1 / step, options={"crf": "1"})
        video.height, video.width = size
        video.pix_fmt = "yuv420p" if size[0] % 2 == 0 else "yuv444p"
        context = video.codec_context
        context.time_base = step
        if sound:
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1  # BT.709
        audio = out.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number, tick in enumerate(TICKS):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(format=video.pix_fmt, dst_colorspace="ITU709" if sound else "ITU601")
            frame.pts, frame.time_base = tick, step
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for number in range(20 if audio else 0):
            wave = 0.1 * np.sin(0.05 * np.arange(1024 * number, 1024 * (number + 1), dtype=np.float32))
            block = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            block.sample_rate, block.pts = 48000, 1024 * number
            out.mux(audio.encode(block))
        if audio:
            out.mux(audio.encode())


def read_frames(path: Path) -> tuple[list[float], np.ndarray]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        return [frame.time for frame in frames], np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def read_sound(path: Path) -> list[tuple[float, bytes]]:
    with av.open(path) as container:
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(audio=0) if p.dts is not None]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_clip(path)
    return path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", 4)


class Darker(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 40 / 255


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_times_sound_and_color_tags_stay_and_the_picture_is_the_networks(clip: Path, suffix: str) -> None:
    target = clip.with_name(f"out{suffix}")
    cm.restore_video(Darker(), clip, target)
    times, frames = read_frames(target)
    given_times, given = read_frames(clip)
    sound, given_sound = read_sound(target), read_sound(clip)
    late, given_late = np.array(times) - sound[0][0], np.array(given_times) - given_sound[0][0]  # of picture to sound
    assert late == pytest.approx(given_late, abs=2e-3 if suffix == ".mkv" else 1e-6)  # it counts milliseconds
    difference = frames.astype(float) - (given.astype(float) - 40)
    assert np.abs(difference).mean() < 2
    assert np.abs(difference.mean(axis=(1, 2))).max() < 1  # in each frame and color: an exchanged matrix gives 5
    assert [data for _, data in sound] == [data for _, data in given_sound]
    with av.open(target) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    assert tags == (1, 1, 1, 1)
    assert sorted(path.name for path in clip.parent.iterdir()) == ["clip.mp4", target.name]


def test_a_frame_that_a_player_turns_is_written_turned(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    start = data.index(b"tkhd") + 44  # QuickTime: x' = a x + c y + tx, y' = b x + d y + ty, all 16.16
    clockwise = (0, 1 << 16, 0, -(1 << 16) % (1 << 32), 0, 0, HEIGHT << 16, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big") for value in clockwise)
    clip.write_bytes(data)
    cm.restore_video(nn.Identity(), clip, clip.with_name("out.mp4"))
    _, frames = read_frames(clip.with_name("out.mp4"))
    assert frames.shape[1:] == (WIDTH, HEIGHT, 3)
    assert np.abs(frames[0].astype(float) - np.rot90(picture(0), -1)).mean() < 3
    assert np.unravel_index(frames[0].sum(axis=-1).argmin(), (WIDTH, HEIGHT))[1] > HEIGHT - 4  # upper right corner


def test_odd_sides_silence_and_no_color_tags(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", sound=None, size=(33, 47))
    cm.restore_video(nn.Identity(), tmp_path / "clip.mp4", tmp_path / "out.mp4")
    _, frames = read_frames(tmp_path / "out.mp4")
    assert np.abs(frames.astype(float) - [picture(number, 33, 47) for number in range(len(TICKS))]).mean() < 2.5


KILLED = """
import os, signal, sys
from torch import nn
from clusir_modules.inference import restore_video as module
module._PART = 4
class Net(nn.Module):
    seen = 0
    def forward(self, x):
        Net.seen += 1
        if Net.seen == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return x
module.restore_video(Net(), sys.argv[1], sys.argv[2])
"""


@pytest.mark.usefixtures("small_parts")
def test_goes_on_after_a_kill(clip: Path) -> None:
    seen = []

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    whole, killed = clip.with_name("whole.mp4"), clip.with_name("killed.mp4")
    cm.restore_video(Net(), clip, whole)
    assert len(seen) == len(TICKS)
    run = subprocess.run([sys.executable, "-c", KILLED, clip, killed], check=False, env={**os.environ})
    assert run.returncode == -signal.SIGKILL
    assert not killed.exists()
    seen.clear()
    cm.restore_video(Net(), clip, killed)
    assert len(seen) == len(TICKS) - 4  # one part was finished
    assert read_frames(killed)[0] == read_frames(whole)[0]
    np.testing.assert_array_equal(read_frames(killed)[1], read_frames(whole)[1])
    assert sorted(path.name for path in clip.parent.iterdir()) == ["clip.mp4", "killed.mp4", "whole.mp4"]


@pytest.mark.usefixtures("small_parts")
def test_blended_frames_go_on_over_parts_and_after_a_failure(clip: Path) -> None:
    stopped = []

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.mean() * 255 > picture(6).mean() and not stopped:
                stopped.append(True)
                raise RuntimeError("stop")
            return x

    target, whole, alone = (clip.with_name(f"{name}.mp4") for name in ("target", "whole", "alone"))
    with pytest.raises(RuntimeError, match="stop"):
        cm.restore_video(Net(), clip, target, temporal=0.8)
    cm.restore_video(Net(), clip, target, temporal=0.8)
    cm.restore_video(Net(), clip, whole, temporal=0.8)
    cm.restore_video(Net(), clip, alone)
    np.testing.assert_array_equal(read_frames(target)[1], read_frames(whole)[1])
    lag = read_frames(alone)[1].astype(float).mean(axis=(1, 2, 3)) - read_frames(whole)[1].mean(axis=(1, 2, 3))
    assert lag[0] == pytest.approx(0, abs=0.5)
    assert lag[1:].min() > 1, "frames that grow brighter follow those before them"
    with pytest.raises(ValueError, match=r"temporal must be in \[0, 1\), got 2"):
        cm.restore_video(Net(), clip, clip.with_name("other.mp4"), temporal=2)


@pytest.mark.usefixtures("small_parts")
def test_parts_of_another_job_are_not_taken(clip: Path) -> None:
    target = clip.with_name("out.mp4")

    class Stops(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.mean() * 255 > picture(6).mean():
                raise RuntimeError("stop")
            return x

    with pytest.raises(RuntimeError, match="stop"):
        cm.restore_video(Stops(), clip, target)
    assert [path.name for path in sorted(clip.parent.glob(".out.mp4.parts/*.nut"))] == ["000000.nut"]
    cm.restore_video(nn.Conv2d(3, 3, 1).requires_grad_(False).apply(_negate), clip, target)
    _, frames = read_frames(target)
    assert np.abs(frames[0].astype(float) - (255 - picture(0).astype(float))).mean() < 2


def _negate(layer: nn.Module) -> None:
    layer.weight.copy_(-torch.eye(3).view(3, 3, 1, 1))
    layer.bias.fill_(1)


def test_nothing_is_replaced_unasked(clip: Path) -> None:
    target = clip.with_name("out.mp4")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"out\.mp4 is there already"):
        cm.restore_video(nn.Identity(), clip, target)
    cm.restore_video(nn.Identity(), clip, target, existing="skip")
    assert target.read_bytes() == b"old"
    with pytest.raises(ValueError, match="is an input and would be replaced"):
        cm.restore_video(nn.Identity(), clip, clip, existing="overwrite")
    with pytest.raises(ValueError, match=r"target must end in one of \.mkv, \.mov, \.mp4, got out\.avi"):
        cm.restore_video(nn.Identity(), clip, "out.avi")
    cm.restore_video(nn.Identity(), clip, target, existing="overwrite")
    assert len(read_frames(target)[0]) == len(TICKS)


def test_sound_that_the_target_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", sound="libopus")
    with pytest.raises(ValueError, match=r"target must be a file that can hold sound of opus, got out\.mov"):
        cm.restore_video(nn.Identity(), tmp_path / "clip.mkv", tmp_path / "out.mov")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


class TestShotRouting:
    def test_a_shot_keeps_its_routing_and_a_cut_decides_anew(self) -> None:
        torch.manual_seed(0)
        net = smallest_clusir().eval()
        routed = []

        def route(frame: np.ndarray) -> tuple[cm.Routing, ...]:
            routed.append(frame)
            return route_picture(net, frame)

        shots = ShotRouting(route)
        rng = np.random.default_rng(0)
        dark, bright = picture(0), 255 - picture(0)
        frames = [np.clip(dark + rng.normal(0, 20, dark.shape), 0, 255).astype(np.uint8) for _ in range(9)] + [bright]
        used = [shots(frame) for frame in frames]
        assert [frame is expected for frame, expected in zip(routed, (frames[0], frames[8], bright), strict=True)]
        assert all(routings is used[0] for routings in used[:8])
        torch.testing.assert_close(used[9], route_picture(net, bright))
        for eased, first, newest in zip(used[8], used[0], route_picture(net, frames[8]), strict=True):
            expected = 0.75 * first.expert_probs + 0.25 * newest.expert_probs
            torch.testing.assert_close(eased.expert_probs, expected)
            torch.testing.assert_close(eased.prompt, 0.75 * first.prompt + 0.25 * newest.prompt)
            order = expected.argsort(descending=True)[:, : first.topk_indices.shape[1]]
            torch.testing.assert_close(eased.topk_indices, order)

    def test_goes_on_from_its_state(self) -> None:
        net = smallest_clusir().eval()
        frames = [picture(0)] * 17
        shots = ShotRouting(lambda frame: route_picture(net, frame))
        for number, frame in enumerate(frames):
            if number in (8, 9):  # before and behind the first easing
                other = ShotRouting(lambda frame: route_picture(net, frame))
                other.load_state_dict(shots.state_dict())
                torch.testing.assert_close(other(frame), copy.deepcopy(shots)(frame))
            shots(frame)

    def test_easing_ends_at_both(self) -> None:
        routers = (cm.PCGRM(6, num_clusters=3, embed_dim=8, fallback=1.0) for _ in range(2))
        before, now = (router(torch.rand(1, 6, 4, 4)) for router in routers)
        assert before.topk_weights.sum() < 0.999
        torch.testing.assert_close(ease(before, now, 0.0), before._replace(expert_logits=None))
        torch.testing.assert_close(ease(before, now, 1.0), now._replace(expert_logits=None))
