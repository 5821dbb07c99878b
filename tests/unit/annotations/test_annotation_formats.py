"""The same two defects, described in every format, are the same pixels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.annotations.annotated import (
    HEIGHT,
    TREES,
    TRUTH,
    WIDTH,
    beside,
    coco,
    coco_of,
    coco_runs,
    cvat,
    cvat_mask,
    cvat_of,
    flat,
    labelme,
    labelme_of,
    loco,
    mask,
    mirrored_in_each_split,
    mvtec,
    photo,
    read,
    refuses,
    table,
    visa,
    write,
    yolo,
    yolo_elsewhere,
)
from visionft.annotations.layouts import read_marked


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_two_defects_are_the_same_pixels_in_every_format(tree, tmp_path):
    tree(tmp_path)
    first, *others = sorted(read_marked(tmp_path), key=lambda record: record.good)
    assert first.image.stem == "a" and (first.mask(HEIGHT, WIDTH) == TRUTH).all()
    assert [record.good for record in others] == [True] * len(others) and others[-1].image.stem == "b"
    assert not others[0].mask(HEIGHT, WIDTH).any() and not others[0].shapes


@pytest.mark.parametrize(
    ("tree", "kind"),
    [(beside, "crack"), (flat, "defect"), (loco, "structural_anomalies"), (visa, "bent+scratch"), (coco, "crack"),
     (yolo, "crack+scratch"), (labelme, "crack+scratch"), (cvat, "crack+scratch"), (cvat_mask, "crack"),
     (table, "crack")],
)  # fmt: skip
def test_the_kind_is_what_the_source_calls_it(tree, kind, tmp_path):
    tree(tmp_path)
    assert [record.kind for record in read_marked(tmp_path) if not record.good] == [kind]


@pytest.mark.parametrize(
    ("tree", "splits"),
    [(mirrored_in_each_split, ["train", "test"]), (mvtec, ["test", "train"]), (loco, ["test", "train", "val"]),
     (coco_runs, ["train", "train"]), (yolo, ["train", "val"]), (yolo_elsewhere, ["train", "val"]),
     (table, ["test", None]), (beside, [None, None]), (visa, [None, None])],
)  # fmt: skip
def test_the_split_is_what_the_source_says(tree, splits, tmp_path):
    tree(tmp_path)
    assert [record.split for record in sorted(read_marked(tmp_path), key=lambda record: record.good)] == splits


def test_a_table_gives_groups_and_a_file_may_be_named_instead_of_its_folder(tmp_path):
    table(tmp_path)
    assert [record.group for record in read_marked(tmp_path / "parts.csv")] == ["7", "8"]
    for make, name in ((coco, "labels.json"), (yolo, "data.yaml"), (cvat, "annotations.xml"), (labelme, "a.json")):
        make(tmp_path / make.__name__)
        assert read_marked(tmp_path / make.__name__ / name)[0].image.name == "a.png"


def test_a_mask_is_never_taken_for_a_photo(tmp_path):
    for tree in TREES[:9]:
        tree(tmp_path / tree.__name__)
        names = [record.image.stem for record in read_marked(tmp_path / tree.__name__)]
        assert len(names) == (3 if tree is loco else 2) and set(names) == {"a", "b"}


def test_good_parts_may_have_a_name_of_their_own(tmp_path):
    photo(tmp_path / "crack/a.png", tmp_path / "Gutteil/b.png")
    mask(tmp_path / "crack/a_mask.png")
    assert read(tmp_path)["b.png"].kind == "Gutteil"
    assert read(tmp_path, good="gutteil")["b.png"].good
    refuses(tmp_path, "no photo of a kind 'gut_teile'", "Gutteil, crack", good="gut_teile")


def test_a_defect_in_a_class_folder_may_lack_its_mask(tmp_path):
    beside(tmp_path)
    photo(tmp_path / "crack/c.png")
    assert read(tmp_path)["c.png"].kind == "crack" and read(tmp_path)["c.png"].mask(HEIGHT, WIDTH) is None


def test_products_are_not_taken_for_kinds_of_defect(tmp_path):
    beside(tmp_path / "tile")
    beside(tmp_path / "hinge")
    refuses(tmp_path, "good parts lie below hinge/", "name the folder of one product")


def test_labelme_draws_circles_and_cvat_ellipses_and_turned_boxes(tmp_path):
    circle = {"label": "pore", "points": [[20, 15], [20, 5]], "shape_type": "circle"}
    photo(tmp_path / "l/a.png", tmp_path / "c/a.png", tmp_path / "c/b.png")
    write(tmp_path / "l/a.json", labelme_of("a.png", [circle]))
    ellipse = '<ellipse label="pore" cx="20" cy="15" rx="10" ry="10"/>'
    write(tmp_path / "c/a.xml", cvat_of(ellipse))
    round_ = read(tmp_path / "l")["a.png"].mask(HEIGHT, WIDTH)
    assert round_.sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert (round_ == read(tmp_path / "c")["a.png"].mask(HEIGHT, WIDTH)).all()
    write(tmp_path / "c/a.xml", cvat_of('<box label="x" xtl="10" ytl="12" xbr="30" ybr="18" rotation="90"/>'))
    upright = np.zeros_like(TRUTH)
    upright[5:25, 17:23] = True
    assert (read(tmp_path / "c")["a.png"].mask(HEIGHT, WIDTH) == upright).all()


def test_a_box_that_reaches_beyond_the_photo_is_cut_off_and_one_outside_is_refused(tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b.png")
    write(tmp_path / "x.json", coco_of([{"bbox": [-5, -5, 10, 10]}]))
    (shape,) = read(tmp_path)["a.png"].shapes
    assert (shape.left, shape.top, shape.right, shape.bottom) == (0, 0, 5, 5)
    write(tmp_path / "x.json", coco_of([{"bbox": [40, 0, 10, 10]}]))
    refuses(tmp_path, "x.json, annotation 0", "40, 0 to 50, 10", "outside the photo", "40 x 30")


def test_cvat_keeps_the_photos_of_a_project_in_a_folder_per_subset(tmp_path):
    photo(tmp_path / "images/Train/a.png", tmp_path / "images/Test/b.png")
    content = cvat_of("").replace('id="0"', 'id="0" subset="Train"').replace('id="1"', 'id="1" subset="Test"')
    write(tmp_path / "x.xml", content)
    assert [(record.image.name, record.split) for record in read_marked(tmp_path)] == [
        ("a.png", "train"), ("b.png", "test"),
    ]  # fmt: skip
