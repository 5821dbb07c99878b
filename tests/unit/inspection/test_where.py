"""Regions have the boxes and areas of what was planted, colours are the same in every image."""

from __future__ import annotations

import numpy as np
import pytest

from visionft.inspection.where import Scale, grown, marked, overlay, regions

SCALE = Scale(calm=1.0, mark=3.0)


def heat(height: int = 40, width: int = 60) -> np.ndarray:
    found = np.full((height, width), 0.5)
    found[5:9, 10:30] = 4.0
    found[20:22, 40:41] = 9.0
    return found


def test_regions_are_what_was_planted_the_hottest_first():
    hot, wide = regions(heat(), SCALE.mark)
    assert hot.box == (40, 20, 41, 22) and hot.pixels == 2 and hot.peak == 9
    assert wide.box == (10, 5, 30, 9) and wide.pixels == 80 and wide.peak == 4
    assert wide.area(0.1) == pytest.approx(0.8)
    assert regions(heat(), 10) == []


def test_corners_connect_and_boxes_that_overlap_do_not():
    found = np.zeros((8, 8))
    found[1, 1] = found[2, 2] = 5  # one, by its corners
    found[5, 5:8] = found[7, 5:8] = 7
    assert [region.pixels for region in regions(found, 1)] == [3, 3, 2]


def test_the_mark_itself_is_not_marked():
    assert not marked(np.full((2, 2), 3.0), 3.0).any()


def test_colours_mean_the_same_in_every_image():
    assert SCALE.share(np.array([0.0, 1.0, 2.0, 3.0, 5.0, 99.0])) == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    image = np.full((40, 60, 3), 120, np.uint8)
    calm = overlay(image, np.full((40, 60), 0.9), SCALE)
    assert np.array_equal(calm, image)
    drawn = overlay(image, heat(), SCALE)
    assert np.array_equal(drawn[30:], image[30:]) and not np.array_equal(drawn[6, 20], image[6, 20])
    again = overlay(image, np.maximum(heat(), np.eye(40, 60) * 50), SCALE)
    assert np.array_equal(again[6, 20], drawn[6, 20])  # another, hotter place changes nothing here


def test_a_map_of_places_lies_where_the_places_are():
    places = np.zeros((4, 6))
    places[1, 4] = 1
    found = grown(places, 40, 60)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert 10 <= y < 20 and 40 <= x < 50 and found.shape == (40, 60)
    assert found.mean() == pytest.approx(places.mean(), rel=0.05)
