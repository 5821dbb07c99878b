"""Pixel AUROC, AUPRO and the best F1, against brute force."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionft.evaluation.anomaly import Pixels, f1_max, span
from visionft.evaluation.ranking import auroc

SIDE = 32


def maps(seed: int, count: int = 6, levels: int = 40):
    """Scores on a grid of few values, and masks with a few blobs each; the first image is good."""
    rng = np.random.default_rng(seed)
    scores, masks = [], []
    for at in range(count):
        mask = np.zeros((SIDE, SIDE), bool)
        for _ in range(0 if at == 0 else int(rng.integers(1, 4))):
            top, left = rng.integers(0, SIDE - 8, 2)
            mask[top : top + rng.integers(2, 8), left : left + rng.integers(2, 8)] = True
        scores.append(np.round((rng.random((SIDE, SIDE)) + 0.6 * mask) * levels) / levels)
        masks.append(mask)
    return scores, masks


def counted(scores, masks) -> Pixels:
    pixels = Pixels(*span(scores))
    for score, mask in zip(scores, masks, strict=True):
        pixels.add(score, mask)
    return pixels


def brute_pro(scores, masks, limit: float) -> float:
    """The definition, threshold by threshold."""
    good = np.concatenate([s[~m] for s, m in zip(scores, masks, strict=True)])
    regions = []
    for score, mask in zip(scores, masks, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [score[labels == region] for region in range(1, count)]
    cuts = np.unique(np.concatenate([s.ravel() for s in scores]))[::-1]
    fpr = [0.0, *((good >= cut).mean() for cut in cuts)]
    pro = [0.0, *(np.mean([(region >= cut).mean() for region in regions]) for cut in cuts)]
    at = np.append(np.array(fpr)[np.array(fpr) < limit], limit)
    height = np.interp(at, fpr, pro)
    return float((np.diff(at) * (height[1:] + height[:-1]) / 2).sum() / limit)


@pytest.mark.parametrize("seed", range(4))
def test_pixel_numbers_are_those_of_brute_force(seed):
    scores, masks = maps(seed)
    pixels = counted(scores, masks)
    every, truth = (np.concatenate([x.ravel() for x in some]) for some in (scores, masks))
    assert pixels.auroc() == pytest.approx(auroc(every, truth.astype(np.int64)), abs=1e-9)
    for limit in (0.05, 0.3, 1.0):
        assert pixels.aupro(limit) == pytest.approx(brute_pro(scores, masks, limit), abs=1e-9)


def test_perfect_maps_have_one_and_constant_ones_chance():
    _, masks = maps(0)
    perfect = counted([mask.astype(float) for mask in masks], masks)
    assert perfect.auroc() == 1 and perfect.aupro() == pytest.approx(1)
    flat = Pixels(0, 1)
    for mask in masks:
        flat.add(np.full(mask.shape, 0.5), mask)
    assert flat.auroc() == 0.5 and flat.aupro(0.3) == pytest.approx(0.15)


def test_a_small_defect_counts_as_much_as_a_large_one():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:20, :20] = mask[30, 30] = True
    score = np.zeros((SIDE, SIDE))
    score[:20, :20] = 1
    missed = counted([score], [mask]).aupro()
    assert 0.5 < missed < 0.6  # half of the defects at no false positive, though all but one pixel is found


def test_without_defects_or_good_pixels_nothing_is_claimed():
    score = np.ones((4, 4))
    for mask in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        pixels = Pixels(0, 1)
        pixels.add(score, mask)
        assert np.isnan(pixels.auroc()) and np.isnan(pixels.aupro())


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_the_best_f1_is_that_of_the_best_cut(rows):
    scores, labels = np.array([s for s, _ in rows], float), np.array([int(y) for _, y in rows])
    best, cut = f1_max(scores, labels)
    if not labels.any():
        assert np.isnan(best)
        return
    told = [2 * ((scores >= c) & (labels == 1)).sum() / ((scores >= c).sum() + labels.sum()) for c in set(scores)]
    assert best == pytest.approx(max(told))
    assert 2 * ((scores >= cut) & (labels == 1)).sum() / ((scores >= cut).sum() + labels.sum()) == pytest.approx(best)
