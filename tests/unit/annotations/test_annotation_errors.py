"""What is wrong with a file of annotations is said: which file, which entry, and what would work."""

from __future__ import annotations

import pytest

from tests.unit.annotations.annotated import (
    CRACK,
    HEIGHT,
    OUTLINE,
    WIDTH,
    beside,
    coco,
    coco_of,
    cvat,
    cvat_of,
    flat,
    labelme,
    labelme_of,
    mask,
    mvtec,
    photo,
    read,
    refuses,
    two_masks_beside,
    visa,
    write,
    yolo,
)
from visionft.annotations.layouts import LAYOUTS, read_marked


def test_nothing_to_read_names_the_layouts_and_what_is_there_instead(tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b/c.png")
    refuses(tmp_path, "holds no annotations", "2 .png", *LAYOUTS)
    refuses(tmp_path, "there is no layout 'yollo'", "did you mean yolo?", layout="yollo")
    refuses(tmp_path, "no annotations in the layout coco", layout="coco")
    refuses(tmp_path / "nowhere", "does not exist")
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "cable")
    refuses(tmp_path, "did you mean", "bottle or", "cable?")


def test_two_layouts_in_one_folder_must_be_told_apart(tmp_path):
    photo(tmp_path / "crack/a.png", tmp_path / "good/b.png")
    mask(tmp_path / "crack/a_mask.png")
    write(tmp_path / "x.csv", "path,label,mask\ncrack/a.png,crack,crack/a_mask.png\n")
    refuses(tmp_path, "several layouts", "x.csv", "layout=")
    assert len(read_marked(tmp_path, layout="table")) == 1 and len(read_marked(tmp_path, layout="folders")) == 2


def test_masks_without_photo_and_photos_without_mask_are_counted_and_named(tmp_path):
    beside(tmp_path / "x")
    mask(tmp_path / "x/crack/c_mask.png")
    refuses(tmp_path / "x", "1 masks belong to no photo", "c_mask.png")
    flat(tmp_path / "y")
    photo(tmp_path / "y/images/c.png")
    refuses(tmp_path / "y", "1 photos have neither a mask nor a folder", "c.png", "good/")
    photo(tmp_path / "y/images/a.jpg")
    mask(tmp_path / "y/masks/c.png")
    refuses(tmp_path / "y", "could belong to two photos")
    two_masks_beside(tmp_path / "z")
    mask(tmp_path / "z/free/b_mask.png")
    refuses(tmp_path / "z", "b_mask.png marks a defect in a photo that is called free")


def test_mvtec_and_visa_miss_no_mask(tmp_path):
    mvtec(tmp_path / "m")
    photo(tmp_path / "m/test/crack/c.png")
    refuses(tmp_path / "m", "1 photos with a defect have no mask", "ground_truth/crack/c_mask.png")
    (tmp_path / "m/test/crack/c.png").unlink()
    mask(tmp_path / "m/ground_truth/crack/d_mask.png")
    refuses(tmp_path / "m", "1 masks belong to no photo", "d_mask.png")
    photo(tmp_path / "m/test/e.png")
    refuses(tmp_path / "m", "1 photos lie in no folder", "e.png")
    visa(tmp_path / "v")
    photo(tmp_path / "v/Data/Images/Anomaly/c.JPG")
    refuses(tmp_path / "v", "lack a mask", "Anomaly/c")
    mask(tmp_path / "v/Data/Masks/Anomaly/c.png")
    refuses(tmp_path / "v", "image_anno.csv", "Anomaly/c.JPG")
    (tmp_path / "v/image_anno.csv").unlink()
    assert {record.kind for record in read_marked(tmp_path / "v")} == {"good", "anomaly"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": [{"image_id": 9, "category_id": 1}]}, ["annotation 0", "image_id 9", "7 (a.png)"]),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3}]}, ["annotation 5", "category_id 3", "1 (crack)"]),
        ({"annotations": [{"image_id": 7}]}, ["annotation 0 has no category_id"]),
        ({"annotations": [[]]}, ["annotation 0 has no image_id"]),
        ({"annotations": {}}, ["annotations is a dict, not a list"]),
        ({"categories": [{"id": 1, "name": " "}]}, ["categories[0] has an empty name"]),
        ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]}, ["images[1] has the id 7"]),
        ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "a.png"}]}, ["photos more than once"]),
        ({"images": [{"id": 7, "file_name": "c.png"}]}, ["1 photos (of 1)", "c.png", "looked for in"]),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 30, "height": 40}]}, ["30 x 40", "40 x 30", "upright"]),
    ],
)
def test_a_coco_file_that_cannot_be_used_says_which_entry(change, words, tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b.png")
    write(tmp_path / "x.json", coco_of([OUTLINE]) | change)
    refuses(tmp_path, "x.json", *words)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"segmentation": [[1, 1, 5, 5]]}, ["polygon of 2 points", "3 or more"]),
        ({"segmentation": [[1, 1, 5, 5, 9, 1, 4]]}, ["polygon of 7 numbers"]),
        ({"segmentation": [[1, 1, 5, "x", 9, 1]]}, ["should be numbers"]),
        ({"segmentation": [1, 1, 5, 5, 9, 1]}, ["should be numbers"]),
        ({"segmentation": [[1, 1, 5, float("nan"), 9, 1]]}, ["should be finite numbers"]),
        ({"segmentation": []}, ["neither a segmentation nor a bbox"]),
        ({"bbox": [1, 1, 5]}, ["should be 4 finite numbers"]),
        ({"bbox": [1, 1, 0, 5]}, ["box from 1, 1 to 1, 6 has no area"]),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2]}}, ["cover 3 pixels"]),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 1201]}}, ["whole numbers"]),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1200]}}, ["marks no pixel"]),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": [1200]}}, ["mask of 30 x 40"]),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "52203Q"}}, ["cut off or damaged"]),
    ],
)
def test_a_coco_shape_that_cannot_be_used_says_why(entry, words, tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b.png")
    write(tmp_path / "x.json", coco_of([entry]))
    refuses(tmp_path, "x.json, annotation 0", *words)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    for tree, name in ((coco, "labels.json"), (labelme, "a.json"), (cvat, "annotations.xml")):
        tree(tmp_path / tree.__name__)
        file = tmp_path / tree.__name__ / name
        file.write_text(file.read_text()[:-5])
        refuses(file.parent, name, "damaged or cut off", "line")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", ["class 2", "0 (crack), 1 (scratch)"]),
        ("0 0.5 0.5 0.1", ["4 values", "a box has 5"]),
        ("0 0.5 0.5 0.1 0.1 0.9", ["6 values"]),
        ("0 0.5 0.5 0.1 a", ["should be numbers"]),
        ("0 20 15 4 3", ["fractions"]),
        ("0 1.5 0.5 0.1 0.1", ["outside the photo"]),
        ("0 0.5 0.5 0 0.1", ["no area"]),
    ],
)
def test_a_yolo_line_that_cannot_be_used_is_named(line, words, tmp_path):
    yolo(tmp_path)
    write(tmp_path / "labels/train/a.txt", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    refuses(tmp_path, "a.txt, line 3", *words)


def test_a_yolo_tree_that_cannot_be_used_says_what_is_missing(tmp_path):
    yolo(tmp_path)
    write(tmp_path / "labels/train/c.txt", "")
    refuses(tmp_path, "1 label files belong to no photo", "c.txt")
    photo(tmp_path / "images/train/c.png", tmp_path / "images/train/c.jpg")
    refuses(tmp_path, "1 label files could be of two photos", "c.txt")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/train\nnames: [crack]\n")
    refuses(tmp_path, "3 photos more than once")
    write(tmp_path / "data.yaml", "train: images/trian\nnames: [crack]\n")
    refuses(tmp_path, "names the photos images/trian", "there is no")
    write(tmp_path / "data.yaml", "train: images/val\nnames: [crack]\n")
    refuses(tmp_path, "none of 1 photos has a label file", "labels/val/b.txt")
    write(tmp_path / "data.yaml", "train: images/val\nnames:\n")
    refuses(tmp_path, "names no classes")
    write(tmp_path / "data.yaml", "train: images/val\nnames: [crack\n")
    refuses(tmp_path, "damaged or no YAML", "line")
    (tmp_path / "data.yaml").unlink()
    refuses(tmp_path, "neither a data.yaml nor a classes.txt")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"points": CRACK}, ["has no label"]),
        ({"label": "x", "points": CRACK[:2]}, ["polygon of 2 points"]),
        ({"label": "x", "points": CRACK[:2], "shape_type": "line"}, ["a line of 2 points", "draw a polygon"]),
        ({"label": "x", "points": CRACK[:3], "shape_type": "rectangle"}, ["a rectangle of 3 points"]),
        ({"label": "x", "points": [[9, 9], [9, 9]], "shape_type": "circle"}, ["no area"]),
        ({"label": "x", "points": [[1, 2, 3]]}, ["2 finite numbers"]),
        ({"label": "x", "points": CRACK[:2], "shape_type": "mask"}, ["has no mask"]),
        ({"label": "x", "points": CRACK[:2], "shape_type": "mask", "mask": "!"}, ["the mask", "draw it again"]),
        ({"label": "x", "points": CRACK[:2], "shape_type": "mask", "mask": "aGk="}, ["the mask is not an image"]),
        ({"label": "x", "points": [[90, 90], [99, 99]], "shape_type": "rectangle"}, ["outside the photo"]),
    ],
)
def test_a_labelme_shape_that_cannot_be_used_is_named(shape, words, tmp_path):
    photo(tmp_path / "a.png")
    write(tmp_path / "a.json", labelme_of("a.png", [shape]))
    refuses(tmp_path, "a.json, shape 1", *words)


def test_labelme_photos_without_json_are_not_taken_for_good(tmp_path):
    labelme(tmp_path)
    photo(tmp_path / "c.png")
    refuses(tmp_path, "1 photos have no JSON", "c.png", "good/")


def test_a_labelme_photo_that_was_renamed_with_its_json_is_found_and_one_that_is_gone_is_named(tmp_path):
    labelme(tmp_path)
    write(tmp_path / "a.json", labelme_of("old [1].png", [{"label": "x", "points": CRACK}]))
    assert read(tmp_path)["a.png"].kind == "x"
    (tmp_path / "a.png").unlink()
    refuses(tmp_path, "a.json is about", "old [1].png", "not there")
    write(tmp_path / "config.json", {"colour": "red"})
    write(tmp_path / "a.json", labelme_of("good/b.png", []))
    refuses(tmp_path, "config.json has no shapes")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (cvat_of('<polyline label="x" points="1,1;2,2"/>'), ["image a.png has a polyline", "draw one of"]),
        (cvat_of('<polygon label="x" points="1,1;2,2"/>'), ["image a.png, shape 1", "2 points"]),
        (cvat_of('<polygon label="x" points="1,1;2;3,3"/>'), ["2 finite numbers"]),
        (cvat_of('<box xtl="1" ytl="1" xbr="2" ybr="2"/>'), ["shape 1 has no label"]),
        (cvat_of('<box label="x" xtl="1" ytl="1" xbr="2"/>'), ["has no ybr"]),
        (cvat_of('<mask label="x" rle="1,2" left="0" top="0" width="2" height="2"/>'), ["cover 3 pixels"]),
        (cvat_of('<mask label="x" rle="0,41" left="0" top="0" width="41" height="1"/>'), ["mask of 41 x 1", "40 x 30"]),
        (cvat_of('<tag label="OK"/><box label="x" xtl="1" ytl="1" xbr="2" ybr="2"/>'), ["called OK, but 1 defects"]),
        (cvat_of("", attributes='width="99" height="30"'), ["annotated at 99 x 30"]),
        (cvat_of("", head='<!DOCTYPE a [<!ENTITY b "c">]>'), ["has a DOCTYPE"]),
        (cvat_of("").replace("b.png", "c.png"), ["1 photos (of 2)", "c.png"]),
        (cvat_of("").replace("b.png", "a.png"), ["1 photos more than once"]),
        ("<annotations><track/></annotations>", ["is about a video", "CVAT for images 1.1"]),
        ("<a><annotations/></a>", ["begins with <a>"]),
    ],
)
def test_a_cvat_file_that_cannot_be_used_says_why(content, words, tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b.png")
    write(tmp_path / "x.xml", content)
    refuses(tmp_path, *words)


def test_a_table_that_cannot_be_used_says_which_lines(tmp_path):
    photo(tmp_path / "a.png", tmp_path / "b.png")
    mask(tmp_path / "m.png")
    for rows, words in {
        "a.png,crack,no.png\n": ["1 masks do not exist (line 2)", "no.png"],
        "a.png,good,m.png\n": ["m.png marks a defect", "called good"],
        "a.png,crack,m.png\na.png,crack,\n": ["1 photos more than once"],
        "c.png,crack,m.png\n": ["line 2", "c.png"],
    }.items():
        write(tmp_path / "x.csv", f"path,label,mask\n{rows}")
        refuses(tmp_path / "x.csv", *words)
