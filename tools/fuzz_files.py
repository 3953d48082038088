"""Damage picture and weight files in many ways, and give them to the readers and the commands.

python tools/fuzz_files.py [--pictures 5000] [--weights 5000] [--seed 0]

Whatever the bytes: read or refused with the documented error, no traceback, at most 10 s and 1.5 GB, no input changed,
no other program started.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import tifffile
import torch
from click.testing import CliRunner
from PIL import Image, ImageCms
from safetensors.torch import save

import clusir_modules as cm
from clusir_cli.app import main as clusir
from clusir_modules.data import read_image
from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.writing import write_picture
from clusir_modules.serialization.checkpoints import read_state_dict
from clusir_modules.serialization.network_files import save_network

SECONDS = 10
BYTES = 1.5e9
_STARTED: list[str] = []


class TooLong(BaseException):
    """Not an ``Exception``, which a decoder may catch."""


def pictures(folder: Path) -> list[Path]:
    """Small sound pictures of every format, with all that belongs to them."""
    draw = np.random.default_rng(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    facts: dict[str, Any] = {"exif": exif.tobytes(), "profile": profile, "dpi": (300.0, 300.0), "xmp": b"<x:xmpmeta/>"}
    for suffix, bits, channels in itertools.product(
        (".png", ".tif", ".jpg", ".webp", ".bmp", ".ppm"), (8, 16), (1, 2, 3, 4)
    ):
        if channels in (2, 4) and suffix in (".jpg", ".bmp", ".ppm"):
            continue
        pixels = draw.integers(0, 2**bits, (23, 31, channels)).astype(np.uint16 if bits == 16 else np.uint8)
        picture = Picture(
            pixels[..., 0] if channels < 3 else pixels[..., :3],
            pixels[..., -1] if channels % 2 == 0 else None,
            6,
            **facts,
        )
        write_picture(picture, folder / f"{bits}_{channels}{suffix}")
    for compression, planar, tile in itertools.product(
        ("lzw", "packbits", "zlib"), ("contig", "separate"), (None, (16, 16))
    ):
        pixels = draw.integers(0, 65536, (23, 31, 3)).astype(np.uint16)
        tifffile.imwrite(
            folder / f"{compression}_{planar}_{tile is None}.tif",
            pixels if planar == "contig" else pixels.transpose(2, 0, 1),
            photometric="rgb",
            planarconfig=planar,
            compression=compression,
            predictor=compression != "packbits",
            tile=tile,
        )
    colors = Image.fromarray(draw.integers(0, 256, (23, 31, 3)).astype(np.uint8))
    colors.convert("CMYK").save(folder / "cmyk.jpg")
    colors.convert("CMYK").save(folder / "cmyk.tif", compression="tiff_lzw")
    colors.convert("1").save(folder / "fax.tif", compression="group4")
    colors.convert("P").save(folder / "palette.png", transparency=3)
    colors.convert("P").save(folder / "palette.bmp")
    colors.save(folder / "jpeg.tif", compression="jpeg")
    colors.save(folder / "phone.jpg", format="MPO", save_all=True, append_images=[colors])
    colors.save(folder / "lossless.webp", lossless=True)
    return sorted(folder.iterdir())


def weights(folder: Path) -> list[Path]:
    """Small sound files of weights of every kind."""
    net = cm.clusir_tiny(dim=8, num_heads=(1, 1, 1, 1), num_experts=2, num_clusters=(2, 2, 2, 2), embed_dim=16)
    states = net.state_dict()
    torch.save({"params": states, "params_ema": states}, folder / "basicsr.pth")
    torch.save({"state_dict": states, "epoch": 3}, folder / "lightning.ckpt")
    torch.save(states, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    few = {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(5, dtype=torch.float16)}
    torch.save(few, folder / "few.pth")
    (folder / "few.safetensors").write_bytes(save(few, metadata={"format": "pt"}))
    save_network(net, folder / "net.safetensors")
    return sorted(folder.iterdir())


def damaged(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Flip, cut, repeat or overwrite bytes, or put a part of another file in; more often near the beginning."""
    for _ in range(draw.randint(1, 4)):
        at = int(len(content) * draw.random() ** draw.choice((1, 4)))
        match draw.choice(("flip", "flip", "byte", "cut", "drop", "repeat", "splice", "little", "big")):
            case "flip" if content:
                at = min(at, len(content) - 1)
                content = content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
            case "byte":
                content = content[:at] + bytes([draw.choice((0, 1, 127, 128, 255))]) + content[at + 1 :]
            case "cut":
                content = content[:at]
            case "drop":
                content = content[:at] + content[at + draw.randrange(64) :]
            case "repeat":
                content = content[:at] + content[at : at + draw.randrange(256)] * 3 + content[at:]
            case "splice":
                start = draw.randrange(len(other))
                length = draw.randrange(512)
                content = content[:at] + other[start : start + length] + content[at + draw.choice((0, length)) :]
            case "little":
                number = draw.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1, draw.randrange(2**32)))
                content = content[:at] + struct.pack("<I", number) + content[at + 4 :]
            case "big":
                number = draw.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1, draw.randrange(2**32)))
                content = content[:at] + struct.pack(">I", number) + content[at + 4 :]
    return content


def _command(*words: str) -> bool:
    """Whether a command does it; raises if it ends otherwise than a command should."""
    result = CliRunner().invoke(clusir, words)
    if not isinstance(result.exception, SystemExit | None) or "Traceback" in result.output:
        raise AssertionError(f"clusir {' '.join(words)}: {result.exception!r}") from result.exception
    if result.exit_code not in (0, 1):
        raise AssertionError(f"clusir {' '.join(words)}: exit code {result.exit_code}")
    return result.exit_code == 0


def use_picture(path: Path) -> bool:
    """Read a picture as training and as the commands do; all take it, or all refuse it."""
    try:
        picture = read_picture(path)
        assert picture.pixels.size
    except (OSError, ValueError):
        picture = None
    message = ""
    try:
        assert read_image(path).isfinite().all()
    except RuntimeError as error:
        message = str(error)
    assert bool(message) == (picture is None), f"only one of command and training refuses it: {message}"
    assert not message or str(path) in message, message
    if picture is None or picture.pixels.size < 10**5:
        out = path.with_name("out.tif")
        done = _command("degrade", str(path), str(out), "--task", "GaussianNoise(sigma=0)")
        assert done == out.exists() == (picture is not None)
        out.unlink(missing_ok=True)
    return picture is not None


def use_weights(path: Path) -> bool:
    """Read a file of weights, and say what is in it."""
    try:
        read_state_dict(path)
        read = True
    except (OSError, ValueError):
        read = False
    _command("info", str(path))
    return read


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system"):
        _STARTED.append(f"{event} {arguments!r:.200}")


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLong(f"more than {SECONDS} s")


def _peak_memory() -> int:
    """Bytes; ``ru_maxrss`` would be that of the program that started this one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def fuzz(kind: str, seeds: list[Path], use: Callable[[Path], bool], count: int, seed: int, keep: Path | None) -> int:
    """Damage one file after the other and use it; print what happens otherwise than it should.

    Returns:
        The number of files that made something happen that must not.
    """
    failures, outcome, slowest = 0, Counter[str](), 0.0
    contents = [path.read_bytes() for path in seeds]
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            draw = random.Random(f"{kind} {seed} {number}")
            place = number % len(seeds)
            path = Path(name, f"{number}{seeds[place].suffix}")
            content = damaged(contents[place], draw.choice(contents), draw)
            path.write_bytes(content)
            start = time.monotonic()
            signal.alarm(SECONDS)
            try:
                outcome["read" if use(path) else "refused"] += 1
                assert not _STARTED, f"started {_STARTED}"
                assert path.read_bytes() == content, "the input was changed"
                assert [found.name for found in Path(name).iterdir()] == [path.name], "other files are left"
                peak = _peak_memory()
                assert peak < BYTES, f"{peak / 1e9:.1f} GB"
            except (Exception, TooLong) as error:
                failures += 1
                print(f"{kind} {number}, from {seeds[place].name}: {type(error).__name__}: {error}")
                traceback.print_exc(limit=-4)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / path.name).write_bytes(content)
            finally:
                signal.alarm(0)
                _STARTED.clear()
            slowest = max(slowest, time.monotonic() - start)
            path.unlink(missing_ok=True)
    peak = _peak_memory()
    print(
        f"{count} damaged {kind} of {len(seeds)}: {outcome['read']} read, {outcome['refused']} refused, {failures} "
        f"failures; slowest {slowest:.1f} s, most memory {peak / 1e9:.2f} GB"
    )
    return failures


def main() -> None:
    """Fuzz pictures, then weights; the exit code is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000, help="how many damaged pictures")
    parser.add_argument("--weights", type=int, default=5000, help="how many damaged files of weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_long)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, kind) for kind in ("pictures", "weights")]
        for folder in folders:
            folder.mkdir()
        seeds = pictures(folders[0]), weights(folders[1])
        for path in seeds[0]:
            read_picture(path)
        sys.addaudithook(_audit)
        _STARTED.clear()
        if arguments.pictures:
            failures += fuzz("pictures", seeds[0], use_picture, arguments.pictures, arguments.seed, arguments.keep)
        if arguments.weights:
            failures += fuzz("weights", seeds[1], use_weights, arguments.weights, arguments.seed, arguments.keep)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
