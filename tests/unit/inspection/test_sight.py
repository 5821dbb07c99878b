"""Tiles cover images and join without seams; energies of fine bands have their closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionft.errors import ConfigError
from visionft.inspection.highpass import TINY, energies
from visionft.inspection.sight import Sight, Tiles


@given(
    height=st.integers(8, 300), width=st.integers(8, 300), tile=st.sampled_from([32, 64, 100]),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
)  # fmt: skip
def test_every_pixel_lies_in_a_tile_and_neighbours_overlap_as_much_as_asked(height, width, tile, overlap):
    tiles = Tiles.of(height, width, tile, overlap)
    seen = np.zeros((height, width), int)
    for top, left in tiles.corners:
        assert 0 <= top <= height - tiles.side[0] and 0 <= left <= width - tiles.side[1]
        seen[top : top + tiles.side[0], left : left + tiles.side[1]] += 1
    assert seen.min() >= 1
    for at, side in ((0, tiles.side[0]), (1, tiles.side[1])):
        starts = sorted({corner[at] for corner in tiles.corners})
        assert all(b - a <= side * (1 - overlap) + 1 for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize(("height", "width"), [(128, 128), (200, 320), (128, 250)])
def test_tiles_of_one_picture_join_to_that_picture(height, width):
    """What is the same in all tiles comes back whole: a plane sampled every 8 pixels."""
    stride, tiles = 8, Tiles.of(height, width, 128, 0.25)
    y, x = np.mgrid[: height // stride, : width // stride]
    plane = 3.0 + 0.5 * y - 0.25 * x
    own = []
    for top, left in tiles.corners:
        rows, columns = (side // stride for side in tiles.side)
        top, left = min(round(top / stride), plane.shape[0] - rows), min(round(left / stride), plane.shape[1] - columns)
        own.append(plane[top : top + rows, left : left + columns])
    assert tiles.joined(own, stride) == pytest.approx(plane)


def test_a_small_image_is_one_tile_at_its_own_size():
    sight, image = Sight(tile=64), np.zeros((40, 50, 3), np.uint8)
    (only,) = sight.cut(image)
    assert only.shape == (40, 50, 3)
    assert Sight(scale=2, tile=200).scaled(image).shape == (80, 100, 3)
    assert Sight(scale=0.5).scaled(image[..., :1]).shape == (20, 25, 1)


def test_nothing_is_made_smaller_unless_said():
    image = np.random.default_rng(0).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    assert all(tile.shape == (300, 512, 3) for tile in Sight().cut(image))
    assert Sight().scaled(image) is image


@pytest.mark.parametrize("words", [{"scale": 0}, {"tile": 0}, {"overlap": 0.6}, {"pool": 2}])
def test_a_sight_that_cannot_be_is_refused(words):
    with pytest.raises(ConfigError, match="makes no sense"):
        Sight(**words)


def test_facts_come_back():
    sight = Sight(what="bands", scale=1.5, layers=(1, 4))
    assert Sight(**sight.facts()) == sight


def test_a_flat_image_has_no_energy_and_brightness_changes_none():
    flat = torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)
    assert energies(flat) == pytest.approx(np.full((1, 8, 8, 3), np.log(TINY**2)), abs=1e-3)
    noise = torch.randint(40, 80, (2, 1, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert energies(noise).shape == (2, 8, 12, 3)
    assert torch.allclose(energies(noise), energies(noise + 100), atol=1e-3)


@pytest.mark.parametrize(("period", "band"), [(2, 0), (8, 1), (16, 2)])
def test_stripes_have_their_energy_in_the_band_of_their_width(period, band):
    stripes = (torch.arange(128) // (period // 2) % 2 * 200).to(torch.uint8).expand(1, 1, 128, 128)
    assert int(energies(stripes).mean((0, 1, 2)).argmax()) == band


def test_double_the_contrast_is_four_times_the_energy():
    noise = torch.randint(0, 127, (1, 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    more = (energies(noise * 2) - energies(noise))[..., 0]  # of the band that is far from the noise of files
    assert more.numpy() == pytest.approx(np.log(4), abs=1e-3)


def test_an_image_too_small_for_its_bands_is_refused():
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        energies(torch.zeros(1, 1, 16, 64, dtype=torch.uint8))
