"""Images that nothing can be learnt from are refused before any training, in words that name a way out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from visionft import pretrain
from visionft.data.records import Table
from visionft.errors import ConfigError, DataError, VisionftError
from visionft.log import Console
from visionft.pretraining.run import pretrain as run
from visionft.recipe import Pretrain

FAST: dict[str, Any] = {"weights": "none", "size": 32, "batch": 4, "steps": 2, "precision": "fp32", "quiet": True}


def photos(folder: Path, count: int, side: int = 24, seed: int | None = None) -> Path:
    """Small pictures of noise; with a seed, all of them the same."""
    folder.mkdir(exist_ok=True)
    for at in range(count):
        draw = np.random.default_rng(at if seed is None else seed)
        assert cv2.imwrite(str(folder / f"{at}.png"), draw.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return folder


def refused(data: Any, out: Path, error: type[VisionftError], **words: Any) -> str:
    """What is said; no run folder may be left behind."""
    with pytest.raises(error) as said:
        pretrain(data, **{**FAST, "backbone": "test_resnet", **words}, out=str(out))
    assert not out.exists()
    return str(said.value)


def test_a_folder_without_images_names_what_could_be_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.docx").write_text("x")
    said = refused(str(tmp_path / "data"), tmp_path / "run", DataError)
    assert "holds no images; it has 1 .docx; readable are" in said


def test_a_folder_whose_images_are_all_broken_names_each_and_why(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "data" / name).write_bytes(b"nonsense")
    said = refused(str(tmp_path / "data"), tmp_path / "run", DataError)
    assert "2 of 2 images" in said and "none is left; name other files" in said
    assert "a.png is not an image that can be read" in said


@pytest.mark.parametrize(("count", "said"), [(1, "1 usable image;"), (3, "3 usable images that differ;")])
def test_a_few_images_are_too_few(tmp_path, count, said):
    words = refused(str(photos(tmp_path / "data", count)), tmp_path / "run", ConfigError)
    assert said in words and "at least 4" in words and "add photos" in words


def test_copies_of_one_image_are_one_image(tmp_path):
    said = refused(str(photos(tmp_path / "data", 12, seed=0)), tmp_path / "run", ConfigError)
    assert "all 12 images" in said and "copies of one" in said and "name a folder of different ones" in said


@pytest.mark.parametrize(
    ("batch", "accumulate", "way"), [(16, 1, "set batch=8 or less"), (18, 3, "set batch=9 or less")]
)
def test_a_batch_larger_than_the_data_names_one_that_fits(tmp_path, batch, accumulate, way):
    data = str(photos(tmp_path / "data", 12))
    said = refused(data, tmp_path / "run", ConfigError, batch=batch, accumulate=accumulate)
    assert f"batch={batch} is more than the 10 images to train on (2 more are held out to watch): {way}" in said
    fits = int(way.split("=")[1].split()[0])
    words = {**FAST, "backbone": "test_resnet", "batch": fits, "accumulate": accumulate}
    assert pretrain(data, **words, out=str(tmp_path / "run")).out.is_dir()


@pytest.mark.parametrize(("size", "way"), [(50, "the nearest are size=48 and size=64"), (9, "the smallest is size=16")])
def test_a_size_that_patches_do_not_tile_names_the_nearest_that_they_do(tmp_path, size, way):
    data = str(photos(tmp_path / "data", 12))
    said = refused(data, tmp_path / "run", ConfigError, backbone="vit_tiny_patch16_224", size=size)
    assert said == f"size={size} is no multiple of 16, the patch of vit_tiny_patch16_224; {way}"


def test_an_objective_says_which_backbones_it_needs(tmp_path):
    data = str(photos(tmp_path / "data", 12))
    said = refused(data, tmp_path / "run", ConfigError, objective="mae")
    assert "mae needs a plain timm ViT, not test_resnet" in said and "simmim" in said


def test_labels_that_leave_nothing_to_hold_out_are_refused(tmp_path):
    images = [np.full((24, 24, 3), 20 * at, np.uint8) for at in range(4)]
    probe = Table.of(images, [0, 0, 0, 1], classes=("good", "bad"), source="the probe")
    said = refused(str(photos(tmp_path / "data", 12)), tmp_path / "run", ConfigError, probe=probe)
    assert "fewer than two classes with two images each" in said and "leave probe= away" in said


@pytest.mark.parametrize(
    ("few", "many", "said"),
    [(12, 0, "most images are only 8 pixels"), (1, 12, "some images are only 8 pixels"), (0, 12, "")],
)
def test_images_smaller_than_a_patch_are_enlarged_and_it_is_said(tmp_path, few, many, said):
    """Not refused: a thumbnail among a thousand photos must not stop a run."""
    photos(tmp_path / "data", many)
    for at, file in enumerate(sorted(photos(tmp_path / "small", few, side=8).iterdir())):
        file.rename(tmp_path / "data" / f"small{at}.png")
    heard, words = io.StringIO(), {k: v for k, v in FAST.items() if k != "quiet"}
    recipe = Pretrain(data=str(tmp_path / "data"), backbone="vit_tiny_patch16_224", out=str(tmp_path / "run"), **words)
    run(recipe, console=Console(heard))
    lines = [line for line in heard.getvalue().splitlines() if line.startswith("WARNING")]
    assert len(lines) == bool(said)
    assert not said or (said in lines[0] and "less than the 16 of a patch" in lines[0] and ": take" in lines[0])
