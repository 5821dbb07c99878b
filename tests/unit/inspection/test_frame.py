"""A frame cuts what does not count and brings maps back to where they belong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionft.errors import ConfigError, DataError
from visionft.inspection.frame import Frame, Framed, fitted


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_a_border_is_cut_as_css_orders_its_sides():
    image = photo()
    assert np.array_equal(Frame.of([1, 2, 3, 4]).cut(image), image[1:-3, 4:-2])
    assert np.array_equal(Frame.of(2).cut(image), image[2:-2, 2:-2])
    assert Frame.of().cut(image) is image and Frame.of().whole


def test_a_map_of_what_was_cut_comes_back_to_its_place():
    heat = np.arange(35.0 * 54).reshape(35, 54) + 7
    found = Frame.of([1, 2, 4, 4]).back(heat, 40, 60)
    assert found.shape == (40, 60) and np.array_equal(found[1:-4, 4:-2], heat)
    assert (found[0] == -np.inf).all() and (found[:, :4] == -np.inf).all()


def test_outside_of_a_region_is_one_colour_and_calm(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:20] = 255
    mask[5:7, 5:7] = 0
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    frame, image = Frame.of(region=tmp_path / "m.png"), photo()
    part = frame.cut(image)
    assert part.shape == (20, 30, 3) and np.array_equal(part[4:], image[14:30, 10:40])
    mean = np.concatenate([part[4:].reshape(-1, 3), part[:4, 4:].reshape(-1, 3)]).mean(0)
    assert np.abs(part[:4, :4].astype(float) - mean).max() <= 0.51
    heat = np.full((20, 30), 5.0)
    heat[10, 10] = 1
    found = frame.back(heat, 40, 60)
    assert (found[10:14, 10:14] == -np.inf).all() and (found[:10] == -np.inf).all() and found[20, 30] == 5
    assert frame.cut(photo(80, 120)).shape == (40, 60, 3)  # the same part at twice the resolution


def test_what_makes_no_sense_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((8, 8), np.uint8))
    cv2.imwrite(str(tmp_path / "white.png"), np.full((8, 8), 255, np.uint8))
    with pytest.raises(ConfigError, match="top, right, bottom, left"):
        Frame.of([1, 2])
    with pytest.raises(ConfigError, match="paint the border dark"):
        Frame.of(3, tmp_path / "white.png")
    with pytest.raises(DataError, match="dark everywhere"):
        Frame.of(region=tmp_path / "dark.png")
    with pytest.raises(DataError, match="not of the same aspect"):
        Frame.of(region=tmp_path / "white.png").cut(photo())
    with pytest.raises(DataError, match="nothing left inside"):
        Frame.of(20).cut(photo())


def test_sizes_of_photos_are_noted_as_they_are_read():
    framed = Framed([photo(), photo(50, 70)], Frame.of(5))
    assert [image.shape for image in framed] == [(30, 50, 3), (40, 60, 3)]
    assert framed.sizes == {0: (40, 60), 1: (50, 70)}


def test_a_mask_that_is_fitted_keeps_at_least_a_place():
    mask = np.zeros((64, 64), bool)
    mask[3, 3] = True
    assert fitted(mask, 4, 4).all() and fitted(mask, 64, 64) is mask
    mask[:32] = True
    assert np.array_equal(fitted(mask, 2, 2), [[True, True], [False, False]])
