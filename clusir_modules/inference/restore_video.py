"""One video file to another."""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file, save_file
from torch import nn

from ..imaging.outputs import Existing, Output, check_outputs
from ..ops.checks import check_choice
from ..serialization.atomic import write_whole, written_whole
from .restore import restore, route_picture
from .shot_routing import ShotRouting
from .temporal_blend import TemporalBlend

__all__ = ["VIDEO_SUFFIXES", "restore_video"]

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
VIDEO_SUFFIXES = frozenset(_FORMATS)
"""Files that a video can be written to."""
_PART = 48  # frames; what is lost at most when the process is killed
_ENCODER = {"crf": "16", "preset": "medium", "bf": "0"}  # without frames out of order, parts follow each other


def restore_video(
    net: nn.Module,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    temporal: float = 0.0,
    existing: Existing = "error",
    progress: bool = False,
    **options: Any,
) -> None:
    """Restore a video file, frame by frame, with one routing for a shot (:class:`ShotRouting`).

    Times of the frames, color tags and shape of the pixels stay, sound is copied as it is, and frames that a player
    turns are written turned. Other streams are left out. The picture is written as H.264 (x264, crf 16) in 8 bits.
    Memory does not grow with the length.

    The work is kept in parts of 48 frames in a hidden folder beside ``target``, ``.NAME.parts``. After a kill, the same
    call goes on behind the last part; another source, network or option begins anew. At the end ``target`` appears as
    a whole and the folder goes.

    Args:
        net: as for :func:`restore`; one without routing restores each frame alone.
        source: a video file that FFmpeg reads.
        target: file to write, ``.mp4``, ``.mov`` or ``.mkv``.
        temporal: how much of the result before it a frame takes over where nothing moves, in [0, 1), see
            :class:`TemporalBlend`; 0, the default, shows each frame as the network restores it. 0.8 takes more than
            half of the flicker of still scenes.
        existing: what to do about a file that is there already: "error" refuses, "skip" leaves it as it is,
            "overwrite" replaces it. ``source`` is never replaced.
        progress: show a progress bar of frames.
        options: of :func:`restore`; ``routing="tile"`` lets each tile of each frame choose its own experts.

    Raises:
        ImportError: PyAV is missing, the extra ``video``.
        FileExistsError: ``target`` is there already and ``existing`` is "error".
        OSError: a file cannot be read or written.
        TypeError: ``temporal`` is no number.
        ValueError: ``source`` is no video, ``target`` has another suffix or cannot hold the sound, or an option is out
            of range.

    Example:
        >>> import clusir_modules as cm
        >>> cm.restore_video(cm.clusir_tiny(pretrained=True), "clip.mp4", "restored.mp4")  # doctest: +SKIP
    """
    import av
    from tqdm import tqdm

    check_choice("existing", existing, ("error", "skip", "overwrite"))
    source, target = Path(source), Path(target)
    blend = TemporalBlend(temporal)
    if target.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"target must end in one of {', '.join(sorted(VIDEO_SUFFIXES))}, got {target.name}")
    check_outputs([Output(target, source)], inputs=[source], existing=existing)
    if existing == "skip" and os.path.lexists(target):
        return
    with av.open(source) as container:
        if not container.streams.video:
            raise ValueError(f"source must have a video stream, got none in {source}")
        _check_sound(container, target)
        parts = _Parts(target, _fingerprint(net, source, {**options, "temporal": temporal}))
        shots = ShotRouting(lambda frame: route_picture(net, frame, **_routing_options(options)))
        eased = hasattr(net, "route_parts") and "routing" not in options
        if parts.count:
            state = load_file(parts.state(parts.count - 1))
            blend.load_state_dict(state)
            if eased:
                shots.load_state_dict(state)

        def improve(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            routing = {"routing": shots(image)} if eased else {}
            return blend(restore(net, image, **{"progress": False, **options, **routing}))

        video = container.streams.video[0]
        done = parts.count * _PART
        frames = islice(container.decode(video), done, None)
        with tqdm(total=video.frames or None, initial=done, unit="frame", disable=not progress) as bar:
            while batch := next(frames, None):
                with written_whole(parts.path(parts.count)) as temporary:
                    _encode(temporary, video, batch, islice(frames, _PART - 1), improve, bar.update)
                    save_file({**shots.state_dict(), **blend.state_dict()}, parts.state(parts.count))
                parts.count += 1
    _join(parts, source, target)
    shutil.rmtree(parts.folder)


class _Parts:
    """The folder with what is finished of a video; ``count`` parts of it."""

    def __init__(self, target: Path, job: str) -> None:
        self.folder = target.with_name(f".{target.name}.parts")
        note = self.folder / "job.json"
        if not note.is_file() or note.read_text("utf-8") != job:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_whole(lambda file: file.write(job.encode()), note)
        self.count = 0
        while self.path(self.count).exists():
            self.count += 1

    def path(self, number: int) -> Path:
        """File of a part; it is there when the part is finished."""
        return self.folder / f"{number:06}.nut"

    def state(self, number: int) -> Path:
        """File with what the routing behind a part depends on."""
        return self.folder / f"{number:06}.safetensors"


def _routing_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("tile", "size_multiple", "dtype", "device") if name in options}


def _fingerprint(net: nn.Module, source: Path, options: dict[str, Any]) -> str:
    """What the finished parts depend on."""
    weights = hashlib.sha256()
    for name, value in net.state_dict().items():
        weights.update(name.encode())
        weights.update(value.detach().cpu().float().numpy().tobytes())
    found = source.stat()
    facts = {
        "source": [str(source.absolute()), found.st_size, found.st_mtime_ns],
        "weights": weights.hexdigest(),
        "options": {name: str(value) for name, value in sorted(options.items())},
    }
    return json.dumps(facts)


def _check_sound(container: Any, target: Path) -> None:
    import av

    try:
        with av.open(os.devnull, "w", format=_FORMATS[target.suffix.lower()]) as out:
            for stream in container.streams.audio:
                out.add_stream_from_template(stream)
            if container.streams.audio:
                out.start_encoding()
    except ValueError as error:
        kinds = ", ".join(stream.codec_context.name for stream in container.streams.audio)
        raise ValueError(f"target must be a file that can hold sound of {kinds}, got {target.name}") from error


def _encode(
    path: Path,
    video: Any,
    first: Any,
    others: Iterator[Any],
    improve: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
    tick: Callable[[], object],
) -> None:
    """Write a part, with the frames' own times."""
    import av
    from av.video.reformatter import Interpolation

    exact = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND  # else a level darker
    turns = round(first.rotation / 90) % 4
    with av.open(path, "w", format="nut") as out:
        stream: Any = None
        for frame in chain((first,), others):
            pixels = frame.reformat(format="rgb24", interpolation=exact).to_ndarray()
            improved = improve(np.ascontiguousarray(np.rot90(pixels, turns)))
            image = av.VideoFrame.from_ndarray(improved, format="rgb24")
            stream = stream or _add_stream(out, video, image, turned=turns % 2 == 1)
            coded = image.reformat(
                format=stream.pix_fmt,
                dst_colorspace=frame.colorspace,
                dst_color_range=frame.color_range,
                interpolation=exact,
            )
            coded.pts, coded.time_base = frame.pts, frame.time_base
            out.mux(stream.encode(coded))
            tick()
        out.mux(stream.encode())


def _add_stream(out: Any, video: Any, image: Any, *, turned: bool) -> Any:
    """A stream for frames like ``image``, with the clock, the color tags and the shape of the pixels of ``video``."""
    stream = out.add_stream("libx264", rate=video.average_rate or Fraction(25), options=dict(_ENCODER))
    stream.width, stream.height = image.width, image.height
    stream.pix_fmt = "yuv444p" if image.width % 2 or image.height % 2 else "yuv420p"
    made, given = stream.codec_context, video.codec_context
    made.time_base = video.time_base
    for tag in ("color_primaries", "color_trc", "colorspace", "color_range"):
        setattr(made, tag, getattr(given, tag))
    if aspect := given.sample_aspect_ratio:
        made.sample_aspect_ratio = 1 / aspect if turned else aspect
    return stream


def _join(parts: _Parts, source: Path, target: Path) -> None:
    """Put the parts behind each other, and the sound of the source beside them; nothing is encoded again."""
    import av

    with written_whole(target) as temporary, av.open(temporary, "w") as out, av.open(source) as original:
        with av.open(parts.path(0)) as part:
            picture = out.add_stream_from_template(part.streams.video[0])
        sound = {stream.index: out.add_stream_from_template(stream) for stream in original.streams.audio}

        def pictures() -> Iterator[tuple[Any, Any]]:
            for number in range(parts.count):
                with av.open(parts.path(number)) as part:
                    yield from ((packet, picture) for packet in part.demux(video=0) if packet.dts is not None)

        def sounds() -> Iterator[tuple[Any, Any]]:
            if sound:
                packets = original.demux(original.streams.audio)
                yield from ((packet, sound[packet.stream.index]) for packet in packets if packet.dts is not None)

        for packet, stream in heapq.merge(pictures(), sounds(), key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = stream
            out.mux(packet)
