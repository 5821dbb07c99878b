"""An eye judges image by image, finds where a defect is; its held-out scores are those of one without the fold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionft import backbones
from visionft.inspection.eye import Eye, held_out, highest, learn, look
from visionft.inspection.gaussian import Gaussian
from visionft.inspection.neighbours import Neighbours
from visionft.inspection.sight import Sight
from visionft.inspection.statistics import Statistics

FOLDS = 3
SIGHT = Sight(layers=(1, 2), tile=64)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
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


def see(eye, backbone, images, **words):
    return look([eye], backbone, images, **words)[0]


def eye(scorer=None, **words):
    return Eye(SIGHT, scorer or Neighbours(share=1.0), **words)


def test_it_finds_the_defect_and_where_it_is(backbone, good, bad):
    ours = eye()
    learn([ours], backbone, good, FOLDS)
    *calm, odd = see(ours, backbone, [*good, bad])
    assert odd.score > max(seen.score for seen in calm)
    y, x = (np.array(np.unravel_index(odd.map.argmax(), odd.map.shape)) + 0.5) * 64 / odd.map.shape[0]
    assert 36 <= y <= 56 and 4 <= x <= 24


@pytest.mark.parametrize("scorer", [
    lambda: Neighbours(share=1.0, most=100_000), Gaussian, lambda: Statistics(dims=3),
])  # fmt: skip
def test_held_out_scores_are_those_of_an_eye_that_never_saw_the_fold(backbone, good, scorer):
    tiled = Sight(layers=(1,), tile=48)  # several tiles an image: each is judged as if none of its fold had been there
    whole = Eye(tiled, scorer())
    learn([whole], backbone, good, FOLDS)
    (held,) = held_out([whole], backbone, good, FOLDS)
    for fold in range(FOLDS):
        other = Eye(tiled, scorer())
        learn([other], backbone, [image for at, image in enumerate(good) if at % FOLDS != fold], FOLDS)
        out = range(fold, len(good), FOLDS)
        for at, seen in zip(out, see(other, backbone, [good[at] for at in out]), strict=True):
            assert held[at].score == pytest.approx(seen.score, rel=2e-3)


def test_an_image_of_one_tile_is_held_out_as_if_only_it_had_not_been_there(backbone, good):
    places = {"aligned": True, "cells": 4}
    whole = eye(Gaussian(**places), top=20)
    learn([whole], backbone, good, FOLDS)
    (held,), own = held_out([whole], backbone, good, FOLDS), see(whole, backbone, good)
    for at, image in enumerate(good):
        other = eye(Gaussian(**places), top=20)
        learn([other], backbone, [*good[:at], *good[at + 1 :]], FOLDS)
        (seen,) = see(other, backbone, [image])
        assert held[at].score == pytest.approx(seen.score, rel=0.05) and own[at].score < 0.9 * seen.score


def test_defects_were_never_seen_by_those_that_learn_from_good_parts_alone(backbone, good, bad):
    ours = eye(Gaussian(aligned=True, cells=4))
    learn([ours], backbone, good, FOLDS)
    (held,) = held_out([ours], backbone, [bad] * 3, FOLDS, bad=True)
    assert [one.score for one in held] == pytest.approx([one.score for one in see(ours, backbone, [bad] * 3)])


def test_images_of_any_size_are_judged_one_by_one(backbone, good, bad):
    ours = eye()
    learn([ours], backbone, good, FOLDS)
    wide = np.concatenate([good[1], bad], axis=1)  # two tiles and one between them
    mixed = [good[2], wide, bad, good[3], wide]
    together = [seen.score for seen in see(ours, backbone, mixed)]
    alone = [see(ours, backbone, [image])[0].score for image in mixed]
    assert together == pytest.approx(alone, rel=1e-4) and together[1] == together[4]
    (seen,) = see(ours, backbone, [wide])
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
    learn([ours], backbone, good, FOLDS)
    see(ours, backbone, images)
    assert images.looks == len(good)


def test_the_same_good_images_make_the_same_eye(backbone, good, bad):
    scores = []
    for _ in range(2):
        ours = eye(Neighbours(share=0.1))
        learn([ours], backbone, good, FOLDS)
        scores.append(see(ours, backbone, [bad])[0].score)
    assert scores[0] == scores[1]


def test_the_score_is_the_mean_of_the_highest_places():
    values = np.arange(100.0).reshape(10, 10)
    assert highest(values, 1) == 99 and highest(values, 5) == 97 and highest(values, 1000) == 49.5
    assert highest(values[:1, :1], 10) == 0


def test_eyes_of_one_sight_share_their_patches_and_see_what_each_sees_alone(backbone, good, bad, monkeypatch):
    eyes = [eye(), eye(Gaussian(), top=20), Eye(Sight(layers=(1,), tile=64), Statistics(dims=3))]
    for one in eyes:
        learn([one], backbone, good, FOLDS)
    alone = [[seen.score for seen in see(one, backbone, [good[0], bad])] for one in eyes]
    forwards, plain = [], backbone.maps
    monkeypatch.setattr(backbone, "maps", lambda tiles, layers: forwards.append(layers) or plain(tiles, layers))
    together = look(eyes, backbone, [good[0], bad])
    assert [[seen.score for seen in own] for own in together] == alone
    assert forwards == [[1, 2]]  # layer 1 alone is among them


def test_places_outside_a_region_do_not_count(backbone, good, bad):
    ours = eye()
    learn([ours], backbone, good, FOLDS)
    above = np.zeros((64, 64), bool)
    above[:24] = True
    (calm, odd), (whole_calm, whole_odd) = (see(ours, backbone, [good[0], bad], inside=m) for m in (above, None))
    assert odd.score - calm.score < 0.2 * (whole_odd.score - whole_calm.score)
    assert np.array_equal(odd.map, whole_odd.map)


def test_a_gaussian_of_places_takes_images_of_any_size():
    torch.manual_seed(0)
    wide, tall = torch.randn(6, 4, 9, 3), torch.randn(6, 9, 4, 3)
    fold = torch.arange(6) % FOLDS
    ours = Gaussian(aligned=True, cells=6).fit([(wide, fold), (tall, fold)], FOLDS)
    for shape in ((2, 4, 9, 3), (2, 9, 4, 3), (2, 12, 12, 3), (2, 2, 2, 3)):
        found = ours.score(torch.randn(*shape), without=0)
        assert found.shape == shape[:3] and found.isfinite().all()
