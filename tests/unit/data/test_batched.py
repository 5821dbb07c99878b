"""Batches drawn by matrix products are the pictures that albumentations makes of the same draws."""

from __future__ import annotations

import colorsys

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from visionft.data.batched import TAPS, Recorder, coloured, hued, possible, resampling, smoothing
from visionft.data.policies import POLICIES, policy
from visionft.data.views import Views
from visionft.objective import View
from visionft.order import Draw

CPU = torch.device("cpu")
SMALL = A.Resize(8, 8, area_for_downscale="image")


@pytest.fixture(scope="module")
def photos(pixels) -> list[np.ndarray]:
    """The images at half to four times their size: some must grow, some shrink, some both."""
    return [cv2.resize(p, None, fx=f, fy=f) for p, f in zip(pixels, np.linspace(0.5, 4, len(pixels)), strict=True)]


def both(photos, choice, side, **options) -> tuple[np.ndarray, np.ndarray]:
    """The same draws made by albumentations and by matrix products, N H W C."""
    made = []
    for batched in (False, True):
        data = Views(photos, {"image": View(choice)}, {"image": side}, batched=batched, **options)
        batch = data.collate([data[Draw(i, 3)] for i in range(len(photos))])
        made.append(batch["image"].to(CPU).movedim(1, -1).numpy().astype(np.int64))
    return made[0], made[1]


@pytest.mark.parametrize("side", [16, 48, 96])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_crops_and_mirrors_are_opencvs_to_a_grey_level(photos, side, channels):
    images = [np.resize(p, (*p.shape[:2], channels)) for p in photos]
    theirs, ours = both(images, "mae", side, channels=channels)
    apart = np.abs(theirs - ours)
    assert apart.mean() < 0.1
    assert apart.max() <= 1


def test_whole_images_are_resized_as_evaluation_does(photos):
    theirs, ours = both(photos, "none", 32)
    assert np.abs(theirs - ours).mean() < 0.1


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.3, 2.0])
def test_blur_is_opencvs(photos, sigma):
    blur = A.Compose([A.Resize(40, 40, area_for_downscale="image"), A.GaussianBlur(sigma_limit=(sigma, sigma), p=1)])
    theirs, ours = both(photos, blur, 40)
    assert np.abs(theirs - ours).max() <= 2


@pytest.mark.parametrize(
    "steps",
    [
        {"brightness": (0.8, 1.2)},
        {"contrast": (0.6, 1.2)},
        {"saturation": (0.5, 1.5)},
        {"brightness": (0.8, 1.1), "contrast": (0.7, 1.1), "saturation": (0.8, 1.1)},
    ],
)
def test_colours_are_albumentations_in_any_order_where_nothing_is_clipped(photos, steps):
    calm = [(0.5 * p + 60).astype(np.uint8) for p in photos]
    none = dict.fromkeys(("brightness", "contrast", "saturation"), (1, 1))
    jitter = A.ColorJitter(**none | steps, hue=(0, 0), p=1)
    theirs, ours = both(calm, A.Compose([A.Resize(32, 32, area_for_downscale="image"), jitter]), 32)
    assert np.abs(theirs - ours).max() <= 3  # they round after each of four steps
    assert np.abs(theirs - ours).mean() < 1


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.05, 0.1])
def test_hue_turns_the_same_way_and_keeps_grey_grey(photos, hue):
    jitter = A.ColorJitter((1, 1), (1, 1), (1, 1), (hue, hue), p=1)
    turn = A.Compose([A.Resize(32, 32, area_for_downscale="image"), jitter])
    still = A.Compose([A.Resize(32, 32, area_for_downscale="image")])
    theirs, ours = both(photos, turn, 32)
    before = both(photos, still, 32)[1]
    assert np.abs(theirs - ours).mean() < 0.25 * np.abs(theirs - before).mean()  # theirs are of 180 hues
    greys = [np.repeat(p[..., :1], 3, 2) for p in photos]
    _, made = both(greys, turn, 32)
    assert np.abs(made - made[..., :1]).max() <= 1


@pytest.mark.parametrize("name", ["ssl", "dino"])
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_policies_give_nearly_the_same_pictures(photos, name, channels):
    images = [p[..., :channels] for p in photos]
    theirs, ours = both(images, name, 48, channels=channels)
    assert np.abs(theirs - ours).mean() < 1
    for a, b in zip(theirs, ours, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def test_solarised_pixels_are_turned_over_from_the_threshold_on(photos):
    policy = A.Compose([A.Resize(24, 24, area_for_downscale="image"), A.Solarize((0.5, 0.5), p=1)])
    theirs, ours = both(photos, policy, 24)
    assert (np.abs(theirs - ours) > 1).mean() < 0.01  # but for those that lie on the threshold


def test_a_batch_of_views_has_their_shape_in_any_batch_and_worker(pixels):
    views = {"views": View("ssl", count=2), "crops": View("dino", count=3, scale=(0.1, 0.4)), "image": View("medium")}
    sides = {"views": 32, "crops": 16, "image": 32}
    data = Views(pixels, views, sides, labels=np.arange(24), batched=True)
    whole = data.collate([data[Draw(i, 1)] for i in range(4)])
    made = {key: value.to(CPU) for key, value in whole.items()}
    assert made["views"].shape == (4, 2, 3, 32, 32)
    assert made["crops"].shape == (4, 3, 3, 16, 16)
    assert made["views"].dtype == torch.uint8
    assert made["views"].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(made["image"], data.collate([data[Draw(i, 1)] for i in range(4)])["image"])  # bent: one by one
    alone = data.collate([data[Draw(2, 1)]])
    for key in ("views", "crops"):
        torch.testing.assert_close(alone[key].to(CPU)[0].int(), made[key][2].int(), atol=1, rtol=0)
    draws = [[Draw(i, 1) for i in range(4)]]
    loaded = next(iter(DataLoader(data, batch_sampler=draws, num_workers=1, collate_fn=data.collate)))
    assert torch.equal(loaded["views"].to(CPU), made["views"])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        *((name, name in ("none", "ssl", "dino", "mae")) for name in POLICIES),
        (A.Compose([A.HorizontalFlip()]), False),  # nobody knows how large it becomes
        (A.Compose([SMALL, A.HorizontalFlip(), A.Solarize()]), True),
        (A.Compose([SMALL, A.Solarize(), A.ToGray()]), False),
        (A.Compose([SMALL, A.GaussianBlur(sigma_limit=(0.1, 9))]), False),
        (A.Compose([SMALL, A.ToGray(num_output_channels=1)]), False),
        (A.Compose([SMALL, A.HorizontalFlip()], p=0.5), False),  # sometimes as large as it came
        (A.Compose([A.RandomResizedCrop((8, 8), area_for_downscale="image", p=0.5)]), False),
        (A.Compose([A.Resize(8, 8)]), False),  # drops pixels where it shrinks
    ],
)
def test_only_what_matrix_products_can_follow_is_batched(choice, expected):
    assert possible(policy(choice, 8)) is expected


@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_colour_steps_on_colour_and_gray(photos, channels):
    jitters = [A.ColorJitter((0.9, 1.1), (0.9, 1.1), (0.9, 1.1), (0, 0), p=1) for _ in range(2)]
    calm = [(0.5 * p[..., :channels] + 60).astype(np.uint8) for p in photos]
    steps = [A.Resize(32, 32, area_for_downscale="image"), *jitters]
    theirs, ours = both(calm, A.Compose(steps), 32, channels=channels)
    assert np.abs(theirs - ours).max() <= 8  # they drop the fraction after each of eight steps
    assert np.abs(theirs - ours).mean() <= 4


def test_recording_draws_what_the_policy_would(photos):
    made, noted = policy("ssl", 32), policy("ssl", 32)
    for p in (made, noted):
        p.set_random_seed(7)
    recorder = Recorder(noted)
    for photo in photos[:6]:
        made(image=photo)
        recorder(photo)
    assert made.transforms[0].py_random.random() == noted.transforms[0].py_random.random()


def test_resampling_rows_add_up_and_read_nothing_beyond_the_image():
    rows = resampling(torch.tensor([3, 8, 20]), 8, 20, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(rows.sum(2), torch.ones(3, 8))
    assert rows[0, :, 3:].abs().sum() == 0
    torch.testing.assert_close(rows[1, :, :8], torch.eye(8))
    torch.testing.assert_close(rows[2] @ torch.ones(20), torch.ones(8))
    torch.testing.assert_close(rows[2, 0, :4], torch.tensor([0.4, 0.4, 0.2, 0.0]))  # 2.5 pixels into one


def test_smoothing_without_a_kernel_changes_nothing_and_mirrors_at_the_border():
    nothing = torch.zeros(1, TAPS)
    nothing[0, TAPS // 2] = 1
    torch.testing.assert_close(smoothing(nothing, 5)[0], torch.eye(5))
    shift = torch.zeros(1, TAPS)
    shift[0, TAPS // 2 - 1] = 1  # the neighbour before
    torch.testing.assert_close(smoothing(shift, 4)[0] @ torch.arange(4.0), torch.tensor([1.0, 0.0, 1.0, 2.0]))


def test_no_colour_step_changes_nothing():
    x, none = torch.rand(2, 3, 4, 4), torch.zeros(2)
    torch.testing.assert_close(coloured(x, none, none, none), x)


def test_hue_is_pythons():
    x = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    made = hued(x, torch.tensor([0.3]))
    for i in range(5):
        h, s, v = colorsys.rgb_to_hsv(*x[0, :, i, i].tolist())
        expected = torch.tensor(colorsys.hsv_to_rgb((h + 0.3) % 1, s, v))
        torch.testing.assert_close(made[0, :, i, i], expected, rtol=1e-4, atol=1e-5)
