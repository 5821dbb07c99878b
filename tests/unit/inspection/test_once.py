"""Every photo counts once: copies prove nothing, and what was learnt from is not judged by in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.inspection.striped import parts, spoiled
from visionft.errors import DataError
from visionft.inspection.inspector import Inspector

WORDS = {"backbone": "test_resnet", "weights": "none", "eyes": [{"name": "patches", "layers": [1, 2]}]}


def photos(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for at, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{at:03}.png"), image)
    return folder


def twice(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    for file in sorted(folder.iterdir()):
        shutil.copy(file, to / f"{file.stem} again.png")
    return to


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("once") / "good", parts(30, 0))


def test_copies_of_good_parts_neither_lower_the_threshold_nor_support_a_promise(good, tmp_path, capsys):
    copied = twice(good, tmp_path / "twice")
    once, both = (Inspector.fit(folder, false_reject=0.05, **WORDS) for folder in (good, copied))
    assert "30 photos are copies of others and left out" in capsys.readouterr().err
    assert np.array_equal(once.promise.scores, both.promise.scores) and both.learnt["count"] == 30
    with pytest.raises(DataError, match="needs at least 49 good images and there are 30"):
        Inspector.fit(copied, false_reject=0.02, quiet=True, **WORDS)


def test_an_evaluation_on_photos_that_were_learnt_from_says_so(good, tmp_path):
    inspector = Inspector.fit(good, false_reject=0.05, quiet=True, **WORDS)
    shutil.copytree(good, tmp_path / "test" / "good")
    photos(tmp_path / "test" / "spot", [spoiled(image) for image in parts(8, 1)])
    seen = inspector.evaluate(str(tmp_path / "test"), quiet=True)
    assert seen.seen == seen.facts()["seen"] == 30
    assert "30 of these photos were learnt from" in seen.words(inspector.promise)
    for file in (tmp_path / "test" / "good").iterdir():
        cv2.imwrite(str(file), parts(1, 100 + int(file.stem))[0])
    others = inspector.evaluate(str(tmp_path / "test"), quiet=True)
    assert others.seen == 0 and "learnt from" not in others.words(inspector.promise)


def test_defects_count_once_and_are_not_among_the_good_parts(good, tmp_path):
    inspector = Inspector.fit(good, false_reject=0.05, quiet=True, **WORDS)
    spots = photos(tmp_path / "spots", [spoiled(image) for image in parts(6, 1)])
    inspector.add_defects(str(twice(spots, tmp_path / "twice")), good=str(good), quiet=True)
    assert inspector.defects == 6
    shutil.copy(good / "003.png", spots / "a good one.png")
    with pytest.raises(DataError, match=r"1 photos of defects are among the good ones, the first is .*a good one"):
        inspector.add_defects(str(spots), good=str(good), quiet=True)
