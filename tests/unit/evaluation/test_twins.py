"""Copies on the other side of a split are found though they were saved anew; images that only look alike are not."""

import cv2
import numpy as np
import pytest
import torch

from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.evaluation import twins as module
from visionft.evaluation.twins import twins
from visionft.evaluation.worth import Labelled


def photo(seed: int, side: int = 72) -> np.ndarray:
    """A part that all photos show, and a grain of its own."""
    rng = np.random.default_rng(seed)
    frame = np.zeros((side, side))
    frame[8:-8, 8:-8] = 60
    frame[side // 2 - 3 : side // 2 + 3] = 150
    grain = cv2.GaussianBlur(rng.normal(0, 90, (side, side)), (0, 0), 2.5)
    return (90 + frame + grain)[..., None].repeat(3, 2).clip(0, 255).astype(np.uint8)


def labelled(photos: list[np.ndarray]) -> Labelled:
    labels = [i % 2 for i in range(len(photos))]
    table = Table.of(photos, labels, classes=("a", "b"))
    return Labelled(scan(table, channels=photos[0].shape[2]).table, photos)


def features(photos: list[np.ndarray]) -> torch.Tensor:
    """Coarse brightness: enough to rank, too little to tell alike from the same."""
    z = torch.tensor(np.array([cv2.resize(p[..., 0], (6, 6), interpolation=cv2.INTER_AREA).ravel() for p in photos]))
    return torch.nn.functional.normalize(z.float() - z.float().mean(1, keepdim=True), dim=1)


def found(test: list[np.ndarray], train: list[np.ndarray]) -> module.Twins:
    return twins(labelled(test), labelled(train), features(test), features(train))


TRAIN = [photo(i) for i in range(60)]
TEST = [photo(1000 + i) for i in range(40)]


def test_photos_of_the_same_kind_of_part_are_no_twins():
    result = found(TEST, TRAIN)
    assert result.pairs == () and result.words.startswith("No test image has a twin")
    assert result.sensitivity >= 0.9


def test_identical_files_and_copies_saved_anew_are_found_and_named_apart():
    darker = (0.8 * TRAIN[7][:-1, 1:].astype(float)).astype(np.uint8)
    darker = cv2.imdecode(cv2.imencode(".jpg", darker, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
    result = found([*TEST, TRAIN[3], darker], TRAIN)
    assert [(t.test, t.train, t.identical) for t in result.pairs] == [(40, 3, True), (41, 7, False)]
    assert "Warning: 2 of 42 test images" in result.words and "1 identical files, 1 nearly identical" in result.words


def test_likeness_forgives_a_shift_and_light_and_nothing_else():
    a, b = (module.thumbnail(photo(s)) for s in (1, 2))
    common = np.mean([module.thumbnail(photo(s)) for s in range(40)], axis=0)
    assert module.likeness(3 + 0.5 * np.roll(a, (2, -1), (0, 1)), a, common) == pytest.approx(1, abs=1e-9)
    assert module.likeness(a, b, common) < 0.5 < np.corrcoef(a.ravel(), b.ravel())[0, 1]  # the part that both show
    assert module.likeness(np.roll(a, 9, 0), a, common) < 0.9
    assert module.likeness(np.full_like(a, 7), a, common) == 0


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels_can_be_compared(channels):
    made = [p[..., [0] * channels] for p in TRAIN[:10]]
    result = twins(labelled(made[:5]), labelled(made), features(made[:5]), features(made))
    assert [t.test for t in result.pairs] == [0, 1, 2, 3, 4]
