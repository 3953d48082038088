"""``clusir restore``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.writing import write_picture
from clusir_modules.serialization.network_files import save_network


@torch.no_grad()
def expected(net, pixels):
    """The network's own output for integer pixels, rounded to their type."""
    peak = np.iinfo(pixels.dtype).max
    image = torch.from_numpy(pixels.astype(np.float32) / peak)
    image = image.permute(2, 0, 1) if image.dim() == 3 else image.expand(3, -1, -1)
    result = net(image.unsqueeze(0))[0]
    result = result.permute(1, 2, 0) if pixels.ndim == 3 else result.mean(dim=0)
    return result.clamp(0, 1).numpy().astype(np.float64) * peak


def largest_difference(found, wanted):
    return np.abs(found.astype(np.float64) - wanted).max()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8)])
def test_the_result_is_the_networks_and_alpha_gray_and_depth_stay(
    clusir, net, weights, make_pixels, suffix, dtype, channels
):
    pixels = make_pixels(20, 28, channels, dtype)
    color = pixels[..., :3] if channels >= 3 else pixels[..., 0]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    write_picture(Picture(color, alpha), Path(f"in{suffix}"))
    result = clusir("restore", f"in{suffix}", f"out{suffix}", "--weights", weights)
    assert result.exit_code == 0, result.output
    found = read_picture(Path(f"out{suffix}"))
    assert found.pixels.dtype == dtype
    assert largest_difference(found.pixels, expected(net, color)) <= 0.5 + 1e-2 * np.iinfo(dtype).max / 255
    assert largest_difference(color, found.pixels) > 5
    assert alpha is None if found.alpha is None else np.array_equal(found.alpha, alpha)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_of_sixteen_bits_stays_what_it_is(clusir, net, weights, make_pixels, channels):
    pixels = make_pixels(20, 28, channels, np.uint16)
    given = (
        Picture(pixels[..., 0])
        if channels == 1
        else Picture(pixels[..., :3], pixels[..., 3] if channels == 4 else None)
    )
    write_picture(given, Path("in.tif"))
    assert clusir("restore", "in.tif", "out.tif", "--weights", weights).exit_code == 0
    found = tifffile.imread("out.tif")
    assert found.dtype == np.uint16
    assert found.shape == (pixels[..., 0].shape if channels == 1 else pixels.shape)
    color = found if channels == 1 else found[..., :3]
    assert largest_difference(color, expected(net, given.pixels)) <= 3
    assert channels < 4 or np.array_equal(found[..., 3], pixels[..., 3])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_network_sees_the_picture_upright_and_the_orientation_stays(clusir, net, weights, make_pixels, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    Image.fromarray(make_pixels(20, 28)).save("in.png", exif=exif)
    assert clusir("restore", "in.png", "out.png", "--weights", weights).exit_code == 0
    with Image.open("in.png") as image, Image.open("out.png") as result:
        assert result.getexif()[0x0112] == orientation
        assert result.getexif()[0x010F] == "maker"
        assert result.size == image.size
        upright, restored = (np.asarray(ImageOps.exif_transpose(i)) for i in (image, result))
    assert largest_difference(restored, expected(net, upright)) <= 0.51


def test_a_folder_keeps_its_structure_and_a_bad_file_does_not_stop_it(clusir, weights, make_pixels):
    for name in ("in/a.png", "in/sub/b.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_pixels()).save(name)
    Path("in/broken.png").write_bytes(b"\x89PNG no")
    result = clusir("restore", "in", "out", "--weights", weights)
    assert result.exit_code == 1
    assert "failed: in/broken.png" in result.stderr
    assert "2 of 3 pictures restored" in result.stderr
    written = sorted(str(path) for path in Path("out").rglob("*") if path.is_file())
    assert written == ["out/a.png", "out/sub/b.jpg"]


def test_no_partly_written_file_is_left(clusir, weights, make_pixels, monkeypatch):
    Image.fromarray(make_pixels(dtype=np.uint8)).save("in.tif")
    Path("out.tif").write_bytes(b"old")

    def fail(file, *_, **__):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    result = clusir("restore", "in.tif", "out.tif", "--weights", weights, "--overwrite")
    assert result.exit_code == 1
    assert "disk full" in result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["in.tif", "out.tif"]
    assert Path("out.tif").read_bytes() == b"old"


def test_nothing_is_written_if_a_file_would_be_replaced(clusir, weights, make_pixels):
    for name in ("a.png", "sub/a.png", "sub/b.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(make_pixels()).save(name)
    before = {path: path.read_bytes() for path in Path().rglob("*.png")}
    for arguments, message in (
        (("a.png", "."), "a.png is an input"),
        (("sub/b.png", "a.png", "sub/a.png", "out"), "out/a.png would be written twice, for a.png and for sub/a.png"),
        (("sub/b.png", "a.png", "--compare"), "a.png is there already"),
    ):
        result = clusir("restore", *arguments, "--weights", weights)
        assert result.exit_code == 1
        assert message in result.stderr
        assert {path: path.read_bytes() for path in Path().rglob("*.png")} == before
    result = clusir("restore", "sub/b.png", "a.png", "--weights", weights, "--overwrite")
    assert result.exit_code == 0
    assert Path("a.png").read_bytes() != before[Path("a.png")]


def test_a_second_run_does_what_is_missing(clusir, weights, make_pixels):
    for name in ("in/a.png", "in/sub/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_pixels()).save(name)
    assert clusir("restore", "in", "out", "--weights", weights, "--compare").exit_code == 0
    first = {path: path.read_bytes() for path in Path("out").rglob("*.png")}
    assert len(first) == 4
    Path("out/a_compare.png").unlink()
    Path("out/sub/b.png").unlink()
    Path("out/a.png").write_bytes(b"mine")
    Image.fromarray(make_pixels()).save("in/c.png")
    result = clusir("restore", "in", "out", "--weights", weights, "--compare", "--skip-existing")
    assert "3 of 3 pictures restored" in result.stderr
    assert Path("out/a.png").read_bytes() == b"mine"
    for name in ("out/a_compare.png", "out/sub/b.png", "out/sub/b_compare.png"):
        assert Path(name).read_bytes() == first[Path(name)]
    result = clusir("restore", "in", "out", "--weights", weights, "--compare", "--skip-existing")
    assert "0 of 0 pictures restored, 3 were there already" in result.stderr


def test_compare_writes_input_and_result_side_by_side(clusir, weights, make_pixels):
    pixels = make_pixels(20, 28, 3, np.uint16)
    write_picture(Picture(pixels), Path("in.png"))
    assert clusir("restore", "in.png", "out.png", "--weights", weights, "--compare").exit_code == 0
    with Image.open("out_compare.png") as image:
        both = np.asarray(image)
    assert both.shape == (20, 2 * 28 + 8, 3)
    assert largest_difference(both[:, :28], pixels / 257) <= 0.5
    assert largest_difference(both[:, -28:], read_picture(Path("out.png")).pixels / 257) <= 0.5


def test_tile_overlap_and_routing_reach_the_restoration(clusir, net, weights, make_pixels):
    import clusir_modules.inference.restore as inference

    pixels = make_pixels(70, 90)
    Image.fromarray(pixels).save("in.png")
    options = ("--tile", "48", "--overlap", "16", "--routing", "tile")
    assert clusir("restore", "in.png", "out.png", "--weights", weights, *options).exit_code == 0
    tiled = inference.restore(net, pixels, tile=48, overlap=16, routing="tile", progress=False)
    found = read_picture(Path("out.png")).pixels
    assert np.array_equal(found, tiled)
    assert not np.array_equal(found, inference.restore(net, pixels, progress=False))


def test_half_precision_is_close(clusir, net, weights, make_pixels):
    Image.fromarray(make_pixels()).save("in.png")
    assert clusir("restore", "in.png", "out.png", "--weights", weights, "--half", "--device", "cpu").exit_code == 0
    found = read_picture(Path("out.png")).pixels
    difference = largest_difference(found, expected(net, read_picture(Path("in.png")).pixels))
    assert 0.6 < difference <= 12


def test_safetensors_and_folders_are_weights_too(clusir, net, weights, make_pixels, tmp_path):
    Image.fromarray(make_pixels()).save("in.png")
    save_network(net, tmp_path / "net.safetensors")
    net.save_pretrained(tmp_path / "folder")
    for number, source in enumerate((weights, tmp_path / "net.safetensors", tmp_path / "folder")):
        assert clusir("restore", "in.png", f"{number}.png", "--weights", source).exit_code == 0
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes() == Path("2.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "64", "--tile", "64"], "--overlap must be smaller than --tile"),
        (["--tile", "8"], "--tile"),
        (["--device", "cuda:99"], "'cuda:99' is not at hand"),
        (["--device", "nonsense"], "'nonsense' is not at hand"),
        (["--weights", "missing.pth"], "missing.pth"),
        (["--temporal", "0.5"], "--temporal is for videos"),
        (["--temporal", "1"], "--temporal"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(clusir, weights, make_pixels, options, message):
    Image.fromarray(make_pixels()).save("in.png")
    given = options if "--weights" in options else [*options, "--weights", weights]
    result = clusir("restore", "in.png", "out.png", *given)
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("out.png").exists()


def test_weights_that_are_no_network_are_refused(clusir, make_pixels):
    Image.fromarray(make_pixels()).save("in.png")
    torch.save({"a": torch.zeros(1)}, "other.pth")
    result = clusir("restore", "in.png", "out.png", "--weights", "other.pth")
    assert result.exit_code == 1
    assert "must hold weights of one of ClusIR, MPRNet" in result.output


@pytest.mark.parametrize("command", ["restore", "inspect", "degrade", "check", "info", "export", "bench"])
def test_help_shows_examples(clusir, command):
    result = clusir(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    clusir {command} " in result.output


class TestVideo:
    @pytest.fixture(autouse=True)
    def av(self, clusir):
        av = pytest.importorskip("av")
        with av.open("clip.mp4", "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for level in (60, 64, 68):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8))))
            out.mux(stream.encode())
        return av

    def test_a_video_is_restored_with_the_weights_given_and_not_replaced(self, clusir, net, weights, av):
        result = clusir("restore", "clip.mp4", "out.mp4", "--weights", weights)
        assert result.exit_code == 0, result.output
        with av.open("out.mp4") as found:
            frames = [frame.to_ndarray(format="rgb24") for frame in found.decode(video=0)]
        assert len(frames) == 3
        wanted = expected(net, np.full((32, 32, 3), 60, np.uint8)).mean(axis=(0, 1))
        assert np.abs(wanted - 60).max() > 20
        assert np.abs(frames[0].mean(axis=(0, 1)) - wanted).max() < 4  # colors are stored at half resolution
        again = clusir("restore", "clip.mp4", "out.mp4", "--weights", weights)
        assert again.exit_code == 1
        assert "out.mp4 is there already" in again.stderr

    def test_frames_are_blended_if_asked_for(self, clusir, weights, av):
        levels = {}
        for name, more in (("alone", ()), ("blended", ("--temporal", "0.9"))):
            result = clusir("restore", "clip.mp4", f"{name}.mp4", "--weights", weights, *more)
            assert result.exit_code == 0, result.output
            with av.open(f"{name}.mp4") as found:
                levels[name] = [frame.to_ndarray(format="rgb24").mean() for frame in found.decode(video=0)]
        rise = {name: abs(found[2] - found[0]) for name, found in levels.items()}
        assert rise["blended"] < rise["alone"] - 0.5

    @pytest.mark.parametrize("arguments", [("clip.mp4", "clip.mp4", "out.mp4"), ("clip.mp4", "out.mp4", "--compare")])
    def test_a_video_comes_alone(self, clusir, arguments):
        result = clusir("restore", *arguments)
        assert result.exit_code == 2
        assert "a video is restored alone: one IN, and no --compare" in result.stderr

    def test_what_is_no_video_is_reported(self, clusir, weights):
        Path("text.mp4").write_text("no video")
        result = clusir("restore", "text.mp4", "out.mp4", "--weights", weights)
        assert result.exit_code == 1
        assert "Invalid data" in result.stderr
