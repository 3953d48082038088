"""Degradations, options of data sets, names of files, patches, pictures and metrics."""

from __future__ import annotations

import math
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import COVERED, FLOATS, Recipe, fuzz, recipes
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

import clusir_modules as cm
from clusir_modules import data
from clusir_modules.data.pairing import FolderIndex, find_partner
from clusir_modules.data.patches import AUGMENTATIONS, draw_patch
from clusir_modules.metrics import psnr, ssim

DEGRADATIONS = {
    "JPEG": data.JPEG(),
    "CameraNoise": data.CameraNoise(),
    "DefocusBlur": data.DefocusBlur(),
    "GaussianBlur": data.GaussianBlur((0, 4), profile="generalized", isotropic=False),
    "GaussianNoise": data.GaussianNoise((0, 50)),
    "Haze": data.Haze(data.LogUniform(0.1, 5.0), objects=0.5),
    "LowLight": data.LowLight(shot_noise=(0.0, 0.1), cast=0.5),
    "Mixture": data.Mixture([data.LowLight(), data.RainStreaks(), data.JPEG()]),
    "MotionBlur": data.MotionBlur(),
    "OneOf": data.OneOf([data.JPEG(shifted=True), data.GaussianNoise()], probabilities=[0.6, 0.2]),
    "RainStreaks": data.RainStreaks(directions=(1, 3)),
    "Raindrops": data.Raindrops(),
    "RawNoise": data.RawNoise(mosaic=0.5),
    "Resize": data.Resize((0.2, 2.0), steps=[data.DefocusBlur()]),
    "SincFilter": data.SincFilter((0.01, 0.5), size=(1, 15)),
    "Snow": data.Snow(),
}
COVERED.update({*DEGRADATIONS, "DEGRADATIONS", "Degradation", "HazeMaps", "LogUniform", "TASK_DEGRADATIONS"})
COVERED.add("degradation_types")
SEEDS = st.integers(0, 2**63 - 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DEGRADATIONS)
class TestDegradations:
    @fuzz(recipe=recipes(most=20), gray=st.booleans(), seed=SEEDS)
    def test_give_an_image_that_depends_on_values_and_generator_only(
        self, name: str, recipe: Recipe, gray: bool, seed: int
    ) -> None:
        image = recipe.image(1 if gray else 3)[0]
        before = image.clone()
        degraded = DEGRADATIONS[name](image, seeded(seed))
        assert degraded.shape == image.shape
        assert degraded.dtype == image.dtype
        assert torch.isfinite(degraded).all()
        assert 0 <= float(degraded.min())
        assert float(degraded.max()) <= 1
        assert torch.equal(image, before), "the image was changed"
        again = DEGRADATIONS[name](before.contiguous(), seeded(seed))
        assert torch.equal(degraded, again)

    @fuzz(recipe=recipes(most=20), gray=st.booleans(), seed=SEEDS)
    def test_give_a_batch_that_depends_on_values_and_generator_only(
        self, name: str, recipe: Recipe, gray: bool, seed: int
    ) -> None:
        images = recipe.image(1 if gray else 3)
        before = images.clone()
        degraded = DEGRADATIONS[name].degrade_batch(images, seeded(seed))
        assert degraded.shape == images.shape
        assert degraded.dtype == images.dtype
        assert torch.isfinite(degraded).all()
        if images.numel():
            assert 0 <= float(degraded.min())
            assert float(degraded.max()) <= 1
        assert torch.equal(images, before), "the images were changed"
        assert torch.equal(degraded, DEGRADATIONS[name].degrade_batch(before.contiguous(), seeded(seed)))

    @fuzz(wrong=st.sampled_from(["integer", "batch", "channels", "empty", "array", "no generator"]), recipe=recipes())
    def test_refuse_what_is_no_image(self, name: str, wrong: str, recipe: Recipe) -> None:
        image = recipe.image()[0]
        bad: Any = {
            "integer": image.to(torch.uint8),
            "batch": image[None],
            "channels": torch.cat((image, image), 0),
            "empty": image[:, :0],
            "array": image.double().numpy(),
        }.get(wrong, image)
        error = ValueError if wrong in ("batch", "channels", "empty") else TypeError
        with pytest.raises(error, match=r"^(image|generator) must "):
            DEGRADATIONS[name](bad, None if wrong == "no generator" else seeded(0))  # type: ignore[arg-type]
        if wrong not in ("batch", "array"):
            with pytest.raises(error, match=r"^(images|generator) must "):
                DEGRADATIONS[name].degrade_batch(bad[None], None if wrong == "no generator" else seeded(0))  # type: ignore[arg-type]


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["shake", "plateau"]),
)
settings = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)

OPTIONS = (
    "sigma quantize density length width angle opacity light veil beta airlight tint scene_size path gamma radius "
    "exposure shot_noise read_noise quality steps between directions objects cast mosaic scale modes shuffle "
    "probabilities shifted gain profile isotropic size cutoff"
).split()


class TestOptions:
    @fuzz(
        "build_degradation",
        "register_degradation",
        name=st.sampled_from([*data.degradation_types(), "Mixture", "haze", 3, None]),
        values=st.dictionaries(st.sampled_from(OPTIONS), settings, max_size=2),
        several=st.booleans(),
    )
    def test_any_degradation_either_works_or_is_refused(self, name: Any, values: dict[str, Any], several: bool) -> None:
        config: Any = {"type": name, **values}
        try:
            degradation = data.build_degradation([config, config] if several else config)
        except (TypeError, ValueError):
            return
        assert degradation(torch.rand(3, 5, 7), seeded(0)).shape == (3, 5, 7)
        assert degradation.degrade_batch(torch.rand(2, 3, 5, 7), seeded(0)).shape == (2, 3, 5, 7)
        assert degradation.margin >= 0

    @fuzz("build_degradation", config=settings)
    def test_any_config_at_all_is_a_degradation_or_refused(self, config: Any) -> None:
        try:
            assert isinstance(data.build_degradation(config), data.Degradation)
        except (TypeError, ValueError):
            return

    @fuzz(
        "Task",
        "AllInOneDataset",
        "DeviceDegrader",
        values=st.dictionaries(
            st.sampled_from(["name", "dataroot_lq", "degradation", "repeat", "pairing", "file_list", "x"]),
            settings,
            max_size=3,
        ),
        patch=st.sampled_from([None, 8]),
        degrade=st.sampled_from(["loader", "device"]),
        cache=st.sampled_from([None, "device"]),
    )
    def test_any_task_is_read_or_refused(
        self, pictures: Path, values: dict[str, Any], patch: int | None, degrade: Any, cache: Any
    ) -> None:
        task = {"name": "task", "dataroot_gt": str(pictures), "degradation": "noise", **values}
        try:
            dataset = data.AllInOneDataset([task], patch_size=patch, degrade=degrade, cache=cache)
            on_device = data.DeviceDegrader(dataset, "cpu").draw(1, 1) if degrade == "device" else None
            item = dataset[len(dataset) - 1] if on_device is None else on_device
        except (TypeError, ValueError, FileNotFoundError):
            return
        assert item["gt"].shape == item["lq"].shape


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (9 + number, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12)


class TestNames:
    @fuzz(
        "pairing_rule",
        "PAIRING_RULES",
        rule=st.one_of(
            st.sampled_from([*data.PAIRING_RULES, "{stem}_gt", "a{stem}"]),
            st.text(max_size=12),
            st.sampled_from(
                ["{stem:>999999999999}", "{stem!r}", "../{stem}", "{stem}/..", "{stem.__class__}", "{0}", "{"]
            ),
        ),
        stem=NAMES,
    )
    def test_a_rule_gives_plain_names_or_is_refused(self, rule: str, stem: str) -> None:
        try:
            found = data.pairing_rule(rule)
        except ValueError:
            return
        names = found(stem)
        assert names
        assert all(len(name) < 100 and PurePath(name).name in (name, "") for name in names)

    @fuzz(
        "AllInOneDataset",
        entry=st.one_of(
            NAMES,
            st.lists(st.sampled_from(["..", ".", "a", "", "/", "~", "C:", "\\", "0.png"]), max_size=5).map("/".join),
            st.sampled_from(["...png", "../pictures/0.png", "/etc/passwd"]),
        ),
    )
    def test_a_file_list_never_leads_out_of_its_folder(self, pictures: Path, tmp_path: Path, entry: str) -> None:
        (tmp_path / "list.txt").write_text(entry, encoding="utf-8")
        task = data.Task("task", pictures, degradation="noise", file_list=tmp_path / "list.txt")
        try:
            samples = task.list_samples()
        except (FileNotFoundError, ValueError):
            return
        for sample in samples:
            assert sample.gt is not None
            assert sample.gt.resolve().is_relative_to(pictures.resolve())
            assert sample.gt.stem.strip(".") != ""

    @fuzz("IMAGE_SUFFIXES", "PAIRING_RULES", stem=NAMES, rule=st.sampled_from(sorted(data.PAIRING_RULES)))
    def test_a_partner_lies_in_the_folder_that_is_searched(self, pictures: Path, stem: str, rule: str) -> None:
        lq = pictures.parent / "other" / f"{stem}.png"
        try:
            partner = find_partner(lq, [pictures], data.pairing_rule(rule), FolderIndex())
        except FileNotFoundError:
            return
        assert partner.parent == pictures


@fuzz(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    size=st.integers(1, 24),
    margin=st.integers(0, 12),
    augment=st.sampled_from(AUGMENTATIONS),
    seed=SEEDS,
)
def test_a_patch_is_a_turned_square_of_the_image(
    height: int, width: int, size: int, margin: int, augment: Any, seed: int
) -> None:
    patch = draw_patch(height, width, size=size, margin=margin, augment=augment, generator=seeded(seed))
    pixels = np.arange(height * width, dtype=np.uint16).reshape(height, width, 1).repeat(3, 2)
    found = (patch.trim(patch.cut(pixels))[0] * 65535).round().long()
    assert found.shape == (size, size)
    if size <= min(height, width):
        turned = found.T if patch.transpose else found
        turned = turned.flip([axis for axis, wanted in ((1, patch.mirror), (0, patch.flip)) if wanted])
        top, left = divmod(int(turned[0, 0]), width)
        expected = torch.arange(height * width).view(height, width)[top : top + size, left : left + size]
        assert torch.equal(turned, expected)
    assert set(found.flatten().tolist()) <= set(range(height * width))


class TestMetrics:
    @fuzz("psnr", recipe=recipes(most=20), channels=st.integers(1, 4))
    def test_psnr_is_the_formula_and_symmetric(self, recipe: Recipe, channels: int) -> None:
        image, target = (recipe.map(channels, salt=salt)[0].permute(1, 2, 0).double().numpy() for salt in (0, 1))
        error = ((np.clip(image, 0, 1) - np.clip(target, 0, 1)) ** 2).mean()
        expected = math.inf if error == 0 else 10 * math.log10(1 / error)
        assert psnr(image, target) == pytest.approx(expected, rel=1e-12)
        assert psnr(target, image) == psnr(image, target)
        assert psnr(image, image) == math.inf

    @fuzz("ssim", recipe=recipes(most=20), channels=st.integers(1, 4), window=st.sampled_from(["uniform", "gaussian"]))
    def test_ssim_is_at_most_one_and_one_for_equal_images(self, recipe: Recipe, channels: int, window: Any) -> None:
        image, target = (recipe.map(channels, salt=salt)[0].permute(1, 2, 0).double().numpy() for salt in (0, 1))
        assert -1 - 1e-9 <= ssim(image, target, window=window) <= 1 + 1e-9
        assert ssim(image, image, window=window) == pytest.approx(1, abs=1e-9)

    @pytest.mark.parametrize("metric", [psnr, ssim])
    @fuzz(
        "psnr",
        "ssim",
        wrong=st.sampled_from(["integer", "shape", "rank", "empty", "tensor"]),
        recipe=recipes(),
        first=st.booleans(),
    )
    def test_what_cannot_be_compared_is_refused(self, metric: Any, wrong: str, recipe: Recipe, first: bool) -> None:
        image = recipe.image()[0].permute(1, 2, 0).double().numpy()
        bad: Any = {
            "integer": (image * 255).astype(np.uint8),
            "shape": np.concatenate((image, image)),
            "rank": image[0],
            "empty": image[:0],
            "tensor": torch.from_numpy(image),
        }[wrong]
        error = TypeError if wrong in ("integer", "tensor") else ValueError
        with pytest.raises(error, match=r"image|target"):
            metric(*((bad, image) if first else (image, bad)))


@fuzz(
    "psnr", "ssim", recipe=recipes(most=20), bad=st.sampled_from([math.nan, math.inf, -math.inf]), first=st.booleans()
)
def test_metrics_pass_nan_on_and_clip_infinities(recipe: Recipe, bad: float, first: bool) -> None:
    image, target = (recipe.image(salt=salt)[0].permute(1, 2, 0).double().numpy().copy() for salt in (0, 1))
    spoiled = image.copy()
    spoiled[0, -1, 0] = bad
    for metric in (psnr, ssim):
        found = metric(spoiled, target) if first else metric(target, spoiled)
        assert math.isnan(found) == math.isnan(bad)


@fuzz(
    "restore",
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 20),
    overlap=st.integers(0, 19),
    kind=st.sampled_from(["uint8", "uint16", "float32", "tensor uint8", *map(str, FLOATS)]),
    gray=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_picture_restored_by_the_identity_comes_back(
    height: int, width: int, tile: int, overlap: int, kind: str, gray: bool, seed: int
) -> None:
    assume(overlap < tile)
    generator = np.random.default_rng(seed)
    shape = (height, width) if gray else (height, width, 3)
    if kind in ("uint8", "uint16"):
        image: Any = generator.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    elif kind == "float32":
        image = generator.random(shape, dtype=np.float32)
    elif kind == "tensor uint8":
        image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    else:
        image = torch.rand(2, 3, height, width).to(getattr(torch, kind.removeprefix("torch.")))
    found = cm.restore(nn.Identity(), image, tile=tile, overlap=overlap, progress=False)
    assert found.shape == image.shape
    assert found.dtype == image.dtype
    if kind.endswith(("uint8", "uint16")):
        assert (found == image).all()
    else:
        tolerance = 1e-6 if kind.endswith("64") else None  # tiles are blended in float32
        torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(image), atol=tolerance, rtol=tolerance)
