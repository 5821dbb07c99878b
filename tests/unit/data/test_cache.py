"""Whatever store is used, the same pixels come out; a cache on disk survives crowds, kills and changed files."""

from __future__ import annotations

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionft.data import cache
from visionft.data.cache import InMemory, OnDisk, Undecoded, cached
from visionft.data.decode import pixels
from visionft.data.records import Table
from visionft.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Table:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{at}.png" for at in range(7)]
    for at, file in enumerate(files):
        shape = (20 + at, 30, 3) if at % 2 else (20 + at, 30)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)
    gray_as_colour = np.repeat(rng.integers(0, 256, (9, 8, 1), dtype=np.uint8), 3, axis=2)
    return Table.of([*files, gray_as_colour, rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)])


@pytest.mark.parametrize("store", ["ram", "disk", "off", "auto"])
@pytest.mark.parametrize(("channels", "edge"), [(3, None), (3, 12), (1, 12), (4, 12)])
def test_every_store_gives_the_pixels_that_decoding_gives(table, tmp_path, store, channels, edge):
    images = cached(table, edge=edge, channels=channels, store=store, folder=tmp_path / "cache")
    assert len(images) == len(table)
    for image, record in zip(images, table, strict=True):
        np.testing.assert_array_equal(image, pixels(record, channels=channels, edge=edge))
        assert image.dtype == np.uint8 and image.shape[2] == channels and not image.flags.writeable
    np.testing.assert_array_equal(images[-1], images[len(table) - 1])
    assert table[8].image.flags.writeable  # the user's own array is not frozen


@pytest.mark.parametrize("store", ["ram", "disk"])
def test_gray_images_take_a_third_of_the_room(table, tmp_path, store):
    images = cached(table, store=store, folder=tmp_path)
    assert [images.stored(at).shape[2] for at in range(9)] == [1, 3, 1, 3, 1, 3, 1, 1, 3]


def test_a_disk_cache_is_found_again_until_a_file_or_an_option_changes(table, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(cache, "_write", lambda *args, write=cache._write: (built.append(1), write(*args)))
    for _ in range(2):
        cached(table, store="disk", folder=tmp_path)
    assert len(built) == 1
    cached(table, store="disk", folder=tmp_path, edge=5)
    assert len(built) == 2
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(table[0].image)
    assert (cached(table, store="disk", folder=tmp_path)[0] == 7).all()
    assert len(built) == 3


def test_a_mapped_file_is_reopened_where_it_is_unpickled(table, tmp_path):
    images = cached(table, store="disk", folder=tmp_path)
    first = images[0]
    sent = pickle.dumps(images)
    assert len(sent) < 4000  # no pixels travel
    np.testing.assert_array_equal(pickle.loads(sent)[0], first)


def test_several_builders_at_once_all_succeed_and_leave_one_cache(table, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(cached, table, store="disk", folder=tmp_path / "cache") for _ in range(4)]
        for job in jobs:
            np.testing.assert_array_equal(job.result()[3], pixels(table[3]))
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 1


def test_a_killed_builders_leftovers_go_and_a_living_ones_stay(table, tmp_path):
    dead, alive = tmp_path / "decoded" / "x.1.part", tmp_path / "decoded" / "x.2.part"
    for part in (dead, alive):
        part.mkdir(parents=True)
        (part / "pixels.bin").write_bytes(b"half")
    long_ago = time.time() - 2 * cache.ABANDONED
    os.utime(dead / "pixels.bin", (long_ago, long_ago))
    cached(table, store="disk", folder=tmp_path)
    assert not dead.exists() and alive.exists()


def test_a_failed_build_leaves_nothing_behind_and_names_the_image(table, tmp_path):
    table[4].image.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"4\.png is not an image"):
        cached(table, store="disk", folder=tmp_path / "cache")
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_auto_prefers_memory_then_disk_then_decoding_each_time(table, tmp_path, monkeypatch):
    assert isinstance(cached(table, folder=tmp_path), InMemory)
    monkeypatch.setattr(cache, "available_memory", lambda: 1000)
    monkeypatch.setattr(cache, "_free_space", lambda place: 1000)
    assert isinstance(cached(table, folder=tmp_path), Undecoded)
    monkeypatch.setattr(cache, "_free_space", lambda place: 10**9)
    assert isinstance(cached(table, folder=tmp_path), OnDisk)
    monkeypatch.setattr(cache, "available_memory", lambda: 10**12)
    assert isinstance(cached(table, folder=tmp_path), OnDisk)  # it is there already


def test_the_size_is_estimated_closely(table):
    whole = sum(image.nbytes for image in cached(table, store="ram").images)
    estimate = cache.estimated_bytes(table, pixels)
    assert abs(estimate - whole) <= len(table)


def test_progress_counts_every_image(table):
    seen = []
    cached(table, store="ram", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(table), len(table))


def test_the_cache_folder_can_be_chosen(monkeypatch):
    monkeypatch.setenv("VISIONFT_CACHE", "elsewhere")
    assert cache.cache_root() == Path("elsewhere")
    monkeypatch.delenv("VISIONFT_CACHE")
    assert cache.cache_root() == Path.home() / ".cache" / "visionft"


def test_what_nobody_has_read_for_a_month_makes_room_for_what_is_new(table, tmp_path):
    stale, read = ([*table][:2], [*table][2:4])
    for records in (stale, read):
        cached(Table(tuple(records)), store="disk", folder=tmp_path)
    entries = list((tmp_path / "decoded").iterdir())
    for entry in entries:
        os.utime(entry, times=(0, time.time() - cache.UNUSED - 60))
    cached(Table(tuple(read)), store="disk", folder=tmp_path)  # found, and so used again
    cached(table, store="disk", folder=tmp_path)
    assert len(list((tmp_path / "decoded").iterdir())) == 2
    assert len(entries) == 2
