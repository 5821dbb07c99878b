"""What is drawn for an image depends on (seed, epoch, index) alone, and its choices on each other not at all."""

from __future__ import annotations

import itertools

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from visionft.data.sheet import GAP, sheet, write_png
from visionft.data.views import Stream, Views, batches
from visionft.errors import DataError
from visionft.objective import View
from visionft.order import Draw, Order

SIZE = 24
VIEWS = {"views": View("ssl", count=2), "image": View("medium")}
SIDES = {"views": SIZE, "image": SIZE}


def views(pixels, what=None, **options) -> Views:
    what = VIEWS if what is None else what
    return Views(pixels, what, dict.fromkeys(what, SIZE), **options)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_the_same_draw_gives_the_same_picture_whatever_came_before(pixels):
    first, second = views(pixels), views(pixels)
    expected = first[Draw(5, 2)]
    for index in (3, 9, 5):
        second[Draw(index, 1)]
    np.random.default_rng(0)
    assert equal(second[Draw(5, 2)], expected)
    assert equal(second[Draw(5, 2)], expected)


def test_seed_epoch_and_index_each_change_the_picture(pixels):
    same = [pixels[0]] * 3
    data = views(same)
    pictures = [data[Draw(0, 0)], data[Draw(0, 1)], data[Draw(1, 0)], views(same, seed=1)[Draw(0, 0)]]
    for a, b in itertools.combinations(pictures, 2):
        assert a["draw"] != b["draw"]
        assert not np.array_equal(a["views"], b["views"])


def test_the_views_of_an_image_differ(pixels):
    made = views(pixels)[Draw(0)]["views"]
    assert made.shape == (2, SIZE, SIZE, 3)
    assert not np.array_equal(made[0], made[1])


def test_draws_are_int64_and_distinct():
    stream = Stream()
    names = {stream.restart(seed, epoch, index) for seed in range(3) for epoch in range(10) for index in range(100)}
    assert len(names) == 3000
    assert all(0 <= name < 2**63 for name in names)


def test_any_number_of_workers_makes_the_same_batches(pixels, labels):
    def made(workers: int) -> list[dict]:
        data = views(pixels, labels=labels)
        loader = DataLoader(
            data, batch_sampler=Order(24, 8, seed=3), num_workers=workers, collate_fn=data.collate,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return list(itertools.islice(loader, 5))

    alone = made(0)
    for workers in (1, 2):
        for a, b in zip(alone, made(workers), strict=True):
            assert a.keys() == b.keys() == {"draw", "views", "image", "label"}
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_making_views_leaves_the_global_streams_alone(pixels):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the very stream that must not be touched)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    views(pixels)[Draw(0)]
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002


def two_halves() -> np.ndarray:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, : SIZE // 2] = (200, 0, 0)
    image[:, SIZE // 2 :] = (0, 0, 60)
    return image


def choices(compose: A.Compose, draws: int = 500) -> np.ndarray:
    """Whether each draw was mirrored, and whether it was gray: 2 N."""
    data = views([two_halves()] * draws, {"image": View(compose)})
    made = [data[Draw(i)]["image"].astype(int) for i in range(draws)]
    mirrored = [image[:, : SIZE // 2].sum() < image[:, SIZE // 2 :].sum() for image in made]
    gray = [bool((np.ptp(image, axis=2) < 3).all()) for image in made]
    return np.array([mirrored, gray], float)


@pytest.mark.parametrize(
    "compose",
    [
        A.Compose([A.HorizontalFlip(p=0.5), A.ToGray(p=0.5)]),
        A.Compose([A.OneOf([A.HorizontalFlip(p=1), A.NoOp(p=1)], p=1), A.Sequential([A.ToGray(p=0.5)], p=1)]),
    ],
    ids=["flat", "nested"],
)
def test_one_choice_says_nothing_about_another(compose):
    mirrored, gray = choices(compose)
    for rate in (mirrored.mean(), gray.mean()):
        assert abs(rate - 0.5) < 0.1  # 4.5 standard deviations
    assert abs(np.corrcoef(mirrored, gray)[0, 1]) < 0.15  # 3.4 standard deviations of 1/sqrt(500)


def test_neighbouring_images_and_epochs_are_drawn_independently():
    data = views([two_halves()] * 400, {"image": View(A.Compose([A.HorizontalFlip(p=0.5)]))})

    def mirrored(epoch: int) -> np.ndarray:
        return np.array([data[Draw(i, epoch)]["image"][0, 0, 0] == 0 for i in range(400)], float)

    first, second = mirrored(0), mirrored(1)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.2
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_two_data_sets_may_share_a_users_compose(pixels):
    """A training set and the images held out to watch it often do."""
    compose = A.Compose([A.RandomResizedCrop((SIZE, SIZE)), A.HorizontalFlip(), A.ColorJitter()])
    shared = View(compose, count=2)
    alone = views(pixels, {"views": shared})[Draw(4, 1)]
    training = views(pixels, {"views": shared})
    held = views(pixels[:6], {"views": shared}, seed=9)
    held[Draw(1)]
    assert equal(training[Draw(4, 1)], alone)
    expected = held[Draw(2)]
    training[Draw(0)]
    assert equal(held[Draw(2)], expected)


def test_a_users_compose_is_used_as_it_is(pixels):
    half = A.Compose([A.Resize(10, 14), A.InvertImg(p=1)])
    made = views(pixels, {"image": View(half)})[Draw(0)]["image"]
    assert made.shape == (10, 14, 3)
    np.testing.assert_array_equal(made, 255 - A.Resize(10, 14)(image=pixels[0])["image"])


def test_batches_are_uint8_channels_last_with_labels_and_draws(pixels, labels):
    data = views(pixels, labels=labels)
    items = [data[Draw(i, 3)] for i in (4, 5, 6)]
    batch = data.collate(items)
    assert batch["views"].shape == (3, 2, 3, SIZE, SIZE)
    assert batch["image"].shape == (3, 3, SIZE, SIZE)
    assert batch["views"].dtype == batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["views"].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert batch["views"].flatten(0, 1).data_ptr() == batch["views"].data_ptr(), "no copy on the way to the backbone"
    assert batch["label"].tolist() == labels[4:7].tolist()
    assert batch["label"].dtype == batch["draw"].dtype == torch.int64
    assert batch["draw"].tolist() == [item["draw"] for item in items]
    np.testing.assert_array_equal(batch["image"][1].permute(1, 2, 0).numpy(), items[1]["image"])


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels_flow_through(channels):
    images = [np.random.default_rng(0).integers(0, 256, (40, 50, channels), dtype=np.uint8) for _ in range(3)]
    batch = next(batches(views(images, channels=channels), 3))
    assert batch["views"].shape == (3, 2, channels, SIZE, SIZE)


def test_evaluation_sees_every_image_once_in_order(pixels):
    data = views(pixels, {"image": View("none")})
    made = list(batches(data, 10))
    assert [len(b["image"]) for b in made] == [10, 10, 4]
    again = torch.cat([b["image"] for b in batches(data, 7)])
    assert torch.equal(torch.cat([b["image"] for b in made]), again)


def test_the_images_are_left_as_they_were(pixels):
    before = [image.copy() for image in pixels]
    data = views(pixels)
    for i in range(len(pixels)):
        data[Draw(i)]
    assert all(np.array_equal(a, b) for a, b in zip(before, pixels, strict=True))
    frozen = pixels[0].copy()
    frozen.flags.writeable = False  # as they come from a cache
    views([frozen])[Draw(0)]


def test_a_sheet_shows_each_image_and_then_its_versions(pixels):
    drawn = sheet(pixels[:3], "ssl", size=SIZE, count=4, channels=3, seed=0)
    assert drawn.shape == (3 * (SIZE + GAP), 5 * (SIZE + GAP), 3)
    plain = views(pixels, {"image": View("none")})
    for row in range(3):
        at = row * (SIZE + GAP)
        np.testing.assert_array_equal(drawn[at : at + SIZE, :SIZE], plain[Draw(row)]["image"])
        assert (drawn[at + SIZE : at + SIZE + GAP] == 255).all()
    assert np.array_equal(drawn, sheet(pixels[:3], "ssl", size=SIZE, count=4, channels=3, seed=0))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_sheet_of_any_number_of_channels_is_a_picture(tmp_path, channels):
    images = [np.random.default_rng(0).integers(0, 256, (40, 50, channels), dtype=np.uint8)]
    drawn = sheet(images, "light", size=SIZE, count=2, channels=channels, seed=0)
    assert drawn.shape[2] == 3
    write_png(tmp_path / "new" / "sheet.png", drawn)
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "sheet.png")), drawn)


def test_a_picture_of_an_unknown_kind_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"sheet\.xyz"):
        write_png(tmp_path / "sheet.xyz", np.zeros((4, 4, 3), np.uint8))
