"""An eye judges image by image, finds where a defect is; its held-out scores are those of one without the fold."""

from __future__ import annotations

import numpy as np
import pytest

from visionft import backbones
from visionft.inspection.eye import Eye, highest
from visionft.inspection.gaussian import Gaussian
from visionft.inspection.neighbours import Neighbours
from visionft.inspection.sight import Sight
from visionft.inspection.statistics import Statistics

FOLDS = 3
SIGHT = Sight(layers=(1, 2), tile=64)


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("test_resnet", "none", size=32).eval()


@pytest.fixture(scope="module")
def good():
    rng = np.random.default_rng(0)
    stripes = (np.arange(64) // 4 % 2 * 60 + 90)[None, :, None]
    return [(stripes + rng.normal(0, 4, (64, 64, 3))).clip(0, 255).astype(np.uint8) for _ in range(9)]


@pytest.fixture(scope="module")
def bad(good):
    image = good[0].copy()
    image[40:52, 8:20] = 20
    return image


def eye(scorer=None, **words):
    return Eye(SIGHT, scorer or Neighbours(share=1.0), **words)


def test_it_finds_the_defect_and_where_it_is(backbone, good, bad):
    ours = eye()
    ours.fit(backbone, good, FOLDS)
    *calm, odd = ours.see(backbone, [*good, bad])
    assert odd.score > max(seen.score for seen in calm)
    y, x = (np.array(np.unravel_index(odd.map.argmax(), odd.map.shape)) + 0.5) * 64 / odd.map.shape[0]
    assert 36 <= y <= 56 and 4 <= x <= 24


@pytest.mark.parametrize("scorer", [lambda: Neighbours(share=1.0), Gaussian, lambda: Statistics(dims=3)])
def test_held_out_scores_are_those_of_an_eye_that_never_saw_the_fold(backbone, good, scorer):
    whole = eye(scorer())
    whole.fit(backbone, good, FOLDS)
    held = whole.held_out(backbone, good, FOLDS)
    for fold in range(FOLDS):
        other = eye(scorer())
        other.fit(backbone, [image for at, image in enumerate(good) if at % FOLDS != fold], FOLDS)
        out = range(fold, len(good), FOLDS)
        for at, seen in zip(out, other.see(backbone, [good[at] for at in out]), strict=True):
            assert held[at].score == pytest.approx(seen.score, rel=2e-3)


def test_images_of_any_size_are_judged_one_by_one(backbone, good, bad):
    ours = eye()
    ours.fit(backbone, good, FOLDS)
    wide = np.concatenate([good[1], bad], axis=1)  # two tiles and one between them
    mixed = [good[2], wide, bad, good[3], wide]
    together = [seen.score for seen in ours.see(backbone, mixed)]
    alone = [ours.see(backbone, [image])[0].score for image in mixed]
    assert together == pytest.approx(alone, rel=1e-4) and together[1] == together[4]
    (seen,) = ours.see(backbone, [wide])
    assert seen.map.shape[1] == 2 * seen.map.shape[0]
    assert seen.map.max() == seen.map[:, seen.map.shape[0] :].max()


def test_to_judge_an_image_it_is_decoded_once(backbone, good):
    class Counted(list):
        looks = 0

        def __iter__(self):
            for image in super().__iter__():
                self.looks += 1
                yield image

    ours, images = eye(), Counted(good)
    ours.fit(backbone, good, FOLDS)
    ours.see(backbone, images)
    assert images.looks == len(good)


def test_the_same_good_images_make_the_same_eye(backbone, good, bad):
    scores = []
    for _ in range(2):
        ours = eye(Neighbours(share=0.1))
        ours.fit(backbone, good, FOLDS)
        scores.append(ours.see(backbone, [bad])[0].score)
    assert scores[0] == scores[1]


def test_the_score_is_the_mean_of_the_highest_places():
    values = np.arange(100.0).reshape(10, 10)
    assert highest(values, 0.01) == 99 and highest(values, 0.05) == 97 and highest(values, 1) == 49.5
    assert highest(values[:1, :1], 0.01) == 0
