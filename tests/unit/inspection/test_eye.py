"""An eye judges image by image, finds where a defect is; its held-out scores are those of one without the fold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionft import backbones
from visionft.errors import DataError
from visionft.inspection.eye import Eye, highest
from visionft.inspection.gaussian import Gaussian, _left_out
from visionft.inspection.looking import held_out, learn, look
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


def test_patches_are_left_out_in_closed_form():
    """So many that MKL's batched LU would not end."""
    torch.manual_seed(0)
    n, r, d = 600, 120, 20
    z = torch.randn(2, 1, r, d, dtype=torch.float64)
    found = _left_out(z, torch.full((2,), n), torch.full((2,), r))
    for own, lengths in zip(z[:, 0], found[:, 0], strict=True):
        gone = own.T @ own + torch.outer(own.sum(0), own.sum(0)) / (n - r)
        apart = own + own.sum(0) / (n - r)
        inverse = torch.linalg.inv((n * torch.eye(d, dtype=own.dtype) - gone) / (n - r))
        torch.testing.assert_close(lengths.double(), (apart @ inverse * apart).sum(1).sqrt(), rtol=1e-5, atol=1e-6)


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


@pytest.fixture(scope="module")
def boards(good):
    """Photos of several tiles: stripes on the left, nothing on the right."""
    rng = np.random.default_rng(1)
    blank = [(110 + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8) for image in good]
    return [np.concatenate([image, other], axis=1) for image, other in zip(good, blank, strict=True)]


def of_places() -> Eye:
    return Eye(SIGHT, Gaussian(aligned=True, cells=4), top=5)


def of_banks() -> Eye:
    return Eye(SIGHT, Neighbours(aligned=True, share=1.0, most=100_000), top=5)


@pytest.mark.parametrize(
    ("places", "anywhere"), [(of_places, Gaussian), (of_banks, lambda: Neighbours(share=1.0, most=100_000))]
)
def test_places_of_one_tile_are_not_those_of_another(backbone, boards, places, anywhere):
    bad = boards[-1].copy()
    bad[20:44, 88:112] = boards[0][20:44, :24]  # stripes, where there are none
    places, anywhere = places(), Eye(SIGHT, anywhere(), top=5)
    learn([places, anywhere], backbone, boards[:-1], FOLDS)
    (*calm, odd), (*usual, unnoticed) = look([places, anywhere], backbone, [*boards[:-1], bad])
    stands_out, barely = odd.score / max(seen.score for seen in calm), unnoticed.score / max(s.score for s in usual)
    assert stands_out > 2 and stands_out > 1.3 * barely  # which sees the edges of the patch alone
    y, x = (np.array(np.unravel_index(odd.map.argmax(), odd.map.shape)) + 0.5) * 64 / odd.map.shape[0]
    assert 16 <= y <= 48 and 84 <= x <= 116


def test_tiles_that_know_their_places_are_held_out_one_by_one(backbone, boards):
    whole = of_places()
    learn([whole], backbone, boards, FOLDS)
    (held,), own = held_out([whole], backbone, boards, FOLDS), see(whole, backbone, boards)
    for at, image in enumerate(boards):
        other = of_places()
        learn([other], backbone, [*boards[:at], *boards[at + 1 :]], FOLDS)
        (seen,) = see(other, backbone, [image])
        assert held[at].score == pytest.approx(seen.score, rel=0.1) and own[at].score < 0.95 * seen.score


def test_banks_of_tiles_are_held_out_by_fold(backbone, boards):
    ours = of_banks()
    learn([ours], backbone, boards, FOLDS)
    (held,) = held_out([ours], backbone, boards, FOLDS)
    for fold in range(FOLDS):
        other = of_banks()
        learn([other], backbone, [image for at, image in enumerate(boards) if at % FOLDS != fold], FOLDS)
        for at, seen in zip(range(fold, len(boards), FOLDS), see(other, backbone, boards[fold::FOLDS]), strict=True):
            assert held[at].score == pytest.approx(seen.score, rel=1e-4)


def test_a_tile_has_its_share_of_the_memory():
    part = Neighbours(aligned=True, most=7, memory=100).part(20)
    assert (part.aligned, part.most, part.memory) == (True, 7, 5)


@pytest.mark.parametrize("of_places", [of_places, of_banks])
def test_scorers_of_tiles_come_back_from_their_tensors(backbone, boards, of_places):
    ours = of_places()
    learn([ours], backbone, boards, FOLDS)
    again = Eye.of(ours.facts())
    again.scorers.restore(ours.scorers.state())
    assert len(again.scorers.parts) == 3  # of 64 x 128 pixels
    assert [seen.score for seen in see(again, backbone, boards)] == [seen.score for seen in see(ours, backbone, boards)]


@pytest.mark.parametrize("of_places", [of_places, of_banks])
def test_photos_cut_into_other_tiles_have_no_places_to_compare(backbone, good, boards, of_places):
    ours = of_places()
    learn([ours], backbone, boards, FOLDS)
    for other in (good[0], np.concatenate([boards[0]] * 2), np.rot90(boards[0]).copy()):
        with pytest.raises(DataError, match="of one size"):
            see(ours, backbone, [other])


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
