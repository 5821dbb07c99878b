"""Every policy turns any image into pixels of the size asked for, and none cuts away what it promised to keep."""

from __future__ import annotations

import inspect

import albumentations as A
import numpy as np
import pytest

from visionft.data.policies import POLICIES, policy
from visionft.errors import ConfigError

SHAPES = [(64, 64), (40, 70), (300, 45), (31, 33), (5, 40), (1, 1)]


def image(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def seeded(name: str, size: int, seed: int = 0, **options) -> A.Compose:
    made = policy(name, size, **options)
    made.set_random_seed(seed)
    return made


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", POLICIES)
def test_any_image_becomes_uint8_pixels_of_the_size_asked_for(name, channels):
    for size in (32, 48):
        made = seeded(name, size, channels=channels)
        for shape in SHAPES:
            for _ in range(3):
                out = made(image=image(*shape, channels))["image"]
                assert out.shape == (size, size, channels), (shape, size)
                assert out.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", POLICIES)
def test_every_transform_of_a_policy_can_take_these_channels(name, channels):
    """With every probability at one, nothing can hide behind luck."""
    made = seeded(name, 32, channels=channels)
    for transform in made.transforms:
        transform.p = 1.0
    out = made(image=image(50, 60, channels))["image"]
    assert out.shape == (32, 32, channels)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (64, 64)], ids=str)
def test_none_is_the_whole_image_every_time(shape):
    """Each quarter of an image is a quarter of what evaluation sees: nothing is cut off."""
    height, width = shape
    picture = np.zeros((height, width, 3), np.uint8)
    for at, value in enumerate((10, 90, 170, 250)):
        y, x = divmod(at, 2)
        picture[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2] = value
    made = policy("none", 32)
    outs = [made(image=picture)["image"] for _ in range(3)]
    assert all(np.array_equal(out, outs[0]) for out in outs)
    for at, value in enumerate((10, 90, 170, 250)):
        y, x = divmod(at, 2)
        assert (outs[0][y * 16 + 1 : y * 16 + 15, x * 16 + 1 : x * 16 + 15] == value).all()
    square = image(32, 32, 3)
    assert np.array_equal(made(image=square)["image"], square)


def test_downscaling_averages_instead_of_picking_pixels():
    """A one-pixel checkerboard becomes gray; picking every eighth pixel would leave it black or white."""
    board = np.indices((256, 256)).sum(0) % 2 * 255
    picture = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    for name in ("none", "mae"):
        out = seeded(name, 32)(image=picture)["image"]
        assert (abs(out.astype(int) - 127) < 40).all(), name


def marked(height: int, width: int, y: int, x: int) -> np.ndarray:
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = 255
    return picture


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (128, 64)], ids=str)
def test_inspection_never_cuts_a_defect_away(shape):
    """Shift (3 %), scale (5 % about the middle) and turn (3 degrees) together move a border by less than a tenth."""
    height, width = shape
    made = seeded("inspection", 64)
    low, high = 0.11, 0.89
    for y in (low, 0.5, high):
        for x in (low, 0.5, high):
            for _ in range(12):
                out = made(image=marked(height, width, round(y * height), round(x * width)))["image"].astype(int)
                assert out.max() > np.median(out) + 60, f"the defect at {y:.2f}, {x:.2f} is gone"


def test_inspection_shows_every_flip_and_quarter_turn():
    made = seeded("inspection", 32)
    picture = marked(32, 32, 8, 12)
    found = set()
    for _ in range(120):
        out = made(image=picture)["image"].astype(int).sum(2)
        y, x = (places.mean() for places in np.nonzero(out > (out.max() + np.median(out)) / 2))
        found.add((y < 16, x < 16, abs(y - 16) > abs(x - 16)))
    assert len(found) == 8


@pytest.mark.parametrize("name", ["light", "medium", "strong", "ssl", "dino", "mae"])
def test_the_scale_of_the_crop_is_what_is_asked_for(name):
    def areas(made: A.Compose) -> np.ndarray:
        crop = next(t for t in made.transforms if isinstance(t, A.RandomResizedCrop))
        only = A.Compose([crop], seed=0)
        y, x = np.indices((200, 200))
        ramp = np.dstack([y, x, x]).astype(np.uint8)
        outs = [only(image=ramp)["image"].astype(float) for _ in range(100)]
        return np.array([np.ptp(o[..., 0]) * np.ptp(o[..., 1]) for o in outs]) / 200**2

    found = areas(policy(name, 64, scale=(0.1, 0.2)))
    assert found.min() > 0.07
    assert found.max() < 0.22


def test_gray_images_stay_gray_in_colour_policies():
    """Channels that are equal before are equal after: a gray image has no hue that could be turned."""
    picture = np.repeat(image(48, 48, 1), 3, axis=2)
    for name in ("none", "light", "inspection", "mae", "ssl"):
        made = seeded(name, 32)
        for _ in range(10):
            assert np.ptp(made(image=picture)["image"].astype(int), axis=2).max() <= 2, name


def test_users_bring_their_own():
    compose = A.Compose([A.Resize(8, 8)])
    for own in (compose, A.Resize(8, 8), A.OneOf([A.Resize(8, 8)], p=1)):
        assert policy(own, 99)(image=image(9, 9, 3))["image"].shape == (8, 8, 3)


@pytest.mark.parametrize(("name", "hint"), [("sssl", "did you mean ssl"), ("zzz", "none, light"), (None, "None")])
def test_an_unknown_policy_is_named_with_what_there_is(name, hint):
    with pytest.raises(ConfigError, match=hint):
        policy(name, 32)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_says_what_it_is_for(name):
    assert inspect.getdoc(POLICIES[name])
