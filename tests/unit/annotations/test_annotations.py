"""Shapes become the pixels whose centres they hold, run lengths come back, and a photo says which defect it has."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.annotations.annotated import pack, runs_of
from visionft.annotations import rle
from visionft.annotations.border import ellipse, size_of, turned
from visionft.annotations.layouts import Bitmap, Box, Marked, MaskFile, Polygon, drawn, read_marked
from visionft.annotations.marked import GOOD, is_good, marked
from visionft.annotations.shapes import marks_of
from visionft.errors import DataError

SQUARE = ((2.0, 3.0), (7.0, 3.0), (7.0, 5.0), (2.0, 5.0))
masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda bits: np.array(bits).reshape(shape)
    )
)


def test_a_box_with_whole_corners_marks_its_area_and_touching_boxes_share_nothing():
    left, right = Box("a", 2, 3, 7, 5), Box("a", 7, 3, 9, 5)
    mask = drawn([left], 8, 10)
    assert mask.sum() == 10 and mask[3:5, 2:7].all()
    assert not (mask & drawn([right], 8, 10)).any()
    assert drawn([left, right], 8, 10).sum() == 14


def test_a_polygon_of_a_boxs_corners_is_the_box_whichever_way_it_runs():
    box = drawn([Box("a", 2, 3, 7, 5)], 8, 10)
    for points in (SQUARE, SQUARE[::-1], SQUARE[2:] + SQUARE[:2]):
        assert (drawn([Polygon("a", points)], 8, 10) == box).all()


@pytest.mark.parametrize("side", [2, 7, 20])
def test_two_triangles_share_out_their_square(side):
    lower, upper = (drawn([Polygon("a", ((0, 0), corner, (side, side)))], 24, 24) for corner in ((0, side), (side, 0)))
    assert lower.sum() + upper.sum() == side**2 and (lower | upper)[:side, :side].all()
    assert {int(lower.sum()), int(upper.sum())} == {side * (side - 1) // 2, side * (side + 1) // 2}


@given(points=st.lists(st.tuples(st.integers(-5, 20), st.integers(-5, 20)), min_size=3, max_size=7, unique=True))
@settings(max_examples=60, deadline=None)
def test_a_polygon_marks_the_centres_that_a_ray_from_the_left_enters_an_odd_number_of_times(points):
    mask = drawn([Polygon("a", tuple(points))], 15, 15)
    inside, sure = np.zeros((15, 15), bool), np.ones((15, 15), bool)  # unsure: a centre on an edge
    for y, x in np.ndindex(15, 15):
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if (y0 > y + 0.5) != (y1 > y + 0.5):
                cross = x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                inside[y, x] ^= cross < x + 0.5
                sure[y, x] &= abs(cross - x - 0.5) > 1e-9
    if (inside & sure).any():
        assert (mask == inside)[sure].all()


def test_a_polygon_is_cut_off_at_the_border_of_the_photo_and_moves_with_its_points():
    wide = drawn([Polygon("a", ((-5, -5), (30, -5), (30, 4), (-5, 4)))], 8, 10)
    assert wide[:4].all() and not wide[4:].any()
    points = ((1.2, 1.7), (5.9, 2.1), (4.4, 6.3))
    moved = drawn([Polygon("a", tuple((x + 3, y + 2) for x, y in points))], 12, 12)
    assert (moved[2:, 3:] == drawn([Polygon("a", points)], 12, 12)[:-2, :-3]).all()


def test_a_shape_thinner_than_a_pixel_still_marks_what_it_crosses():
    mask = drawn([Polygon("a", ((1.1, 2.1), (8.3, 2.2), (8.3, 2.3)))], 8, 10)
    assert mask[2, 1:9].all() and mask.sum() == 8
    assert drawn([Box("a", 3.1, 4.1, 3.2, 4.2)], 8, 10).sum() == 1


def test_an_ellipse_has_the_area_of_one_and_a_circle_does_not_mind_being_turned():
    upright = drawn([ellipse("a", (50, 40), (30, 20), (100, 120), "here")], 100, 120)
    assert upright.sum() == pytest.approx(np.pi * 30 * 20, rel=0.01)
    quarter = drawn([ellipse("a", (50, 40), (20, 30), (100, 120), "here", degrees=90)], 100, 120)
    assert (upright != quarter).mean() < 0.001
    assert turned([(1, 0)], (0, 0), 90)[0] == pytest.approx((0, 1))  # clockwise as seen: y points down


def test_a_bitmap_lies_where_it_is_said_to_and_is_cut_off_at_the_border():
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    mask = drawn([Bitmap("a", 4, 2, pixels)], 8, 10)
    assert (mask[2:4, 4:7] == pixels).all() and mask.sum() == 4
    assert (drawn([Bitmap("a", -1, -1, pixels)], 8, 10)[0, :2] == pixels[1, 1:]).all()
    assert drawn([Bitmap("a", 9, 7, pixels)], 8, 10).sum() == 1
    assert drawn([Bitmap("a", 12, 9, pixels), Bitmap("a", -9, -9, pixels)], 8, 10).sum() == 0


def test_a_mask_file_marks_what_is_not_black_at_the_size_of_the_photo(tmp_path):
    pixels = np.zeros((6, 8), np.uint8)
    pixels[1:3, 2:5] = 1  # a class number, all but black to the eye
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    shape = MaskFile("a", tmp_path / "mask.png")
    assert (drawn([shape], 6, 8) == (pixels > 0)).all()
    assert (drawn([shape], 12, 16) == np.kron(pixels > 0, np.ones((2, 2), bool))).all()
    with pytest.raises(DataError, match=r"mask\.png is 8 x 6, its photo 6 x 8"):
        drawn([shape], 8, 6)


def test_a_mask_may_be_transparent_coloured_or_a_jpeg(tmp_path):
    marks = np.zeros((16, 16), bool)
    marks[4:9, 5:12] = True
    Image.fromarray(np.dstack([np.full((16, 16, 3), 200), marks * 255]).astype(np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(np.dstack([marks * 90, marks * 0, marks * 0]).astype(np.uint8)).save(tmp_path / "red.png")
    cv2.imwrite(str(tmp_path / "grey.jpg"), marks * np.uint8(255), [cv2.IMWRITE_JPEG_QUALITY, 95])
    for name in ("alpha.png", "red.png", "grey.jpg"):
        assert (marks_of(tmp_path / name) == marks).all(), name
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        marks_of(tmp_path / "none.png")


@given(mask=masks, by_column=st.booleans())
@settings(max_examples=100, deadline=None)
def test_run_lengths_come_back_as_the_mask_they_were_made_of(mask, by_column):
    height, width = mask.shape
    runs = runs_of(mask.T.ravel() if by_column else mask.ravel())
    assert (rle.decode(runs, height, width, "here", by_column=by_column) == mask).all()


@given(runs=st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_compressed_run_lengths_come_back(runs):
    assert rle.unpack(pack(runs), "here") == runs


def test_compressed_run_lengths_are_those_of_coco():
    assert rle.unpack("52203", "here") == [5, 2, 2, 2, 5]  # what its own tools write for a ring in 4 x 4
    assert pack([5, 2, 2, 2, 5]) == "52203"


@pytest.mark.parametrize("text", ["5220C", "52\n", "5220é", "522O"])
def test_damaged_run_lengths_are_refused(text):
    with pytest.raises(DataError, match=r"here: .*export it again"):
        rle.decode(rle.unpack(text, "here"), 4, 4, "here", by_column=True)


def test_the_kind_of_a_photo_is_said_or_that_of_its_shapes(tmp_path):
    crack, scratch, fine = (Box(kind, 0, 0, 1, 1) for kind in ("crack", "scratch", "OK"))
    photo = tmp_path / "a.png"
    assert marked(photo, [], GOOD) == Marked(photo) and Marked(photo).good
    assert marked(photo, [fine], GOOD) == Marked(photo)  # a box around what is good is no defect
    assert marked(photo, [scratch, fine, crack, crack], GOOD).kind == "crack+scratch"
    assert marked(photo, [], GOOD, kind="crack") == Marked(photo, kind="crack")
    assert marked(photo, [], GOOD, kind="i.O.").kind == "good"
    with pytest.raises(DataError, match=r"a\.png is called good, but 1 defects are marked"):
        marked(photo, [crack], GOOD, kind="good")


def test_good_has_many_names():
    assert all(is_good(name, GOOD) for name in ("good", "OK", "Normal", "defect-free", "no_defect", "i.O."))
    assert not any(is_good(name, GOOD) for name in ("bad", "not good", "crack", "free of oil"))


def test_a_mask_is_black_for_a_good_part_and_none_where_nobody_drew_the_defect(tmp_path):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((6, 8), np.uint8))
    photo = tmp_path / "a.png"
    assert Marked(photo).mask(6, 8).shape == (6, 8) and not Marked(photo).mask(6, 8).any()
    assert Marked(photo, (Box("crack", 1, 1, 3, 2),), "crack").mask(6, 8).sum() == 2
    assert Marked(photo, kind="crack").mask(6, 8) is None
    assert Marked(photo, (MaskFile("crack", tmp_path / "black.png"),), "crack").mask(6, 8) is None


def test_the_size_of_a_photo_is_that_of_the_upright_one(tmp_path):
    picture, exif = Image.new("RGB", (8, 6)), Image.Exif()
    for orientation, size in ((1, (6, 8)), (3, (6, 8)), (6, (8, 6))):
        exif[0x0112] = orientation
        for name in ("a.jpg", "a.png", "a.webp"):
            picture.save(tmp_path / name, exif=exif)
            assert size_of(tmp_path / name) == size, (name, orientation)
    np.save(tmp_path / "a.npy", np.zeros((6, 8, 5), np.uint8))
    assert size_of(tmp_path / "a.npy") == (6, 8)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        size_of(tmp_path / "b.png")


def test_class_folders_without_any_mask_tell_kinds_but_not_places(tmp_path):
    for name in ("ok/a.png", "scratch/b.png", "dent/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6), np.uint8))
    found = read_marked(tmp_path)
    assert [record.kind for record in found] == ["dent", "good", "scratch"]
    assert [record.mask(4, 6) is None for record in found] == [True, False, True]
    with pytest.raises(DataError, match="holds no annotations"):
        read_marked(tmp_path / "scratch")
