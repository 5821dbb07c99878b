"""One photo with two defects (a) and one without (b), described in every format; and what is needed to write it."""

from __future__ import annotations

import base64
import io
import json
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from visionft.annotations.layouts import read_marked
from visionft.errors import DataError

WIDTH, HEIGHT = 40, 30
CRACK = [(3, 4), (18, 4), (18, 9), (10, 9), (10, 14), (3, 14)]  # an L
SCRATCH = (22, 12, 35, 20)  # left, top, right, bottom
TRUTH = np.zeros((HEIGHT, WIDTH), bool)
TRUTH[4:9, 3:18] = TRUTH[9:14, 3:10] = TRUTH[12:20, 22:35] = True
ONE = np.zeros_like(TRUTH)
ONE[4:14, 3:18] = TRUTH[4:14, 3:18]


def read(source, **options):
    """The records by the name of their photo."""
    return {record.image.name: record for record in read_marked(source, **options)}


def refuses(source, *words, **options):
    with pytest.raises(DataError) as caught:
        read_marked(source, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def photo(*places):
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(place)


def mask(place, marks=TRUTH):
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(marks.astype(np.uint8) * 255).save(place)


def write(place, content):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return place


def runs_of(flat):
    """The lengths of the runs of a sequence that begins outside."""
    found = [len(list(run)) for _, run in groupby(flat.tolist())]
    return [0, *found] if flat[0] else found


def pack(runs):
    """COCO's compression: differences to the run two before, as 5-bit chunks with a sign, low bits first."""
    text = ""
    for place, run in enumerate(runs):
        left, more = run - runs[place - 2] if place > 2 else run, True
        while more:
            chunk, left = left & 31, left >> 5
            more = left != (-1 if chunk & 16 else 0)
            text += chr(48 + chunk + 32 * more)
    return text


def png(marks):
    stream = io.BytesIO()
    Image.fromarray(marks.astype(np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def beside(root):
    photo(root / "crack/a.png", root / "good/b.png")
    mask(root / "crack/a_mask.png")


def two_masks_beside(root):
    photo(root / "crack/a.jpg", root / "free/b.jpg")
    mask(root / "crack/a_mask_1.png", ONE)
    mask(root / "crack/a-mask-2.png", TRUTH & ~ONE)
    mask(root / "free/b_mask.png", TRUTH & False)


def mirrored(root):
    photo(root / "images/crack/a.png", root / "images/good/b.png")
    mask(root / "masks/crack/a.png")


def mirrored_in_each_split(root):
    photo(root / "train/crack/a.png", root / "test/ok/b.png")
    mask(root / "train/crack/ground_truth/a_mask.png")


def flat(root):
    photo(root / "images/a.png", root / "images/b.png")
    mask(root / "masks/a.png")
    mask(root / "masks/b.png", TRUTH & False)


def mvtec(root):
    photo(root / "test/crack/a.png", root / "train/good/b.png")
    mask(root / "ground_truth/crack/a_mask.png")


def loco(root):
    photo(root / "test/structural_anomalies/a.png", root / "train/good/a.png", root / "validation/good/b.png")
    mask(root / "ground_truth/structural_anomalies/a/000.png", ONE)
    mask(root / "ground_truth/structural_anomalies/a/001.png", TRUTH & ~ONE)


def visa_for_pytorch(root):
    photo(root / "test/bad/a.JPG", root / "train/good/b.JPG")
    mask(root / "ground_truth/bad/a.png")


def visa(root):
    photo(root / "Data/Images/Anomaly/a.JPG", root / "Data/Images/Normal/b.JPG")
    mask(root / "Data/Masks/Anomaly/a.png", TRUTH)
    rows = 'image,label,mask\npcb/Data/Images/Normal/b.JPG,normal,\npcb/Data/Images/Anomaly/a.JPG,"scratch, bent",m\n'
    write(root / "image_anno.csv", rows)


def coco_of(annotations, **more):
    images = [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}, {"id": 8, "file_name": "b.png"}]
    found = [{"id": at, "image_id": 7, "category_id": 1, **entry} for at, entry in enumerate(annotations)]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "crack"}], **more}


OUTLINE = {"segmentation": [[side for point in CRACK for side in point]]}
SIDES = {"bbox": [22, 12, 13, 8], "segmentation": []}


def coco(root):
    photo(root / "images/a.png", root / "images/b.png")
    write(root / "labels.json", coco_of([OUTLINE, SIDES]))


def coco_runs(root):
    photo(root / "train2017/a.png", root / "train2017/b.png")
    first, second = runs_of(ONE.T.ravel()), runs_of((TRUTH & ~ONE).T.ravel())
    entries = [{"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}} for counts in (first, pack(second))]
    write(root / "annotations/instances_train2017.json", coco_of(entries))


CORNERS = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in CRACK)
YOLO = f"0 {CORNERS}\n1 {28.5 / WIDTH:.6f} {16 / HEIGHT:.6f} {13 / WIDTH:.6f} {8 / HEIGHT:.6f}\n"


def yolo(root):
    photo(root / "images/train/a.png", root / "images/val/b.png")
    write(root / "labels/train/a.txt", YOLO)
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [crack, scratch]\n")


def yolo_elsewhere(root):
    photo(root / "train/images/a.png", root / "valid/images/b.png")
    write(root / "train/labels/a.txt", YOLO)
    write(root / "valid/labels/b.txt", "")
    write(root / "list.txt", "./valid/images/b.png\n")
    write(root / "data.yaml", "train: [../train/images]\nval: list.txt\nnames:\n  0: crack\n  1: scratch\n")


def yolo_without_yaml(root):
    photo(root / "images/a.png", root / "images/b.png")
    write(root / "labels/a.txt", YOLO)
    write(root / "labels/classes.txt", "crack\nscratch\n")


def labelme_of(name, shapes):
    return {"version": "5.5.0", "shapes": shapes, "imagePath": name, "imageHeight": HEIGHT, "imageWidth": WIDTH}


def labelme(root):
    photo(root / "a.png", root / "good/b.png")
    crack = {"label": "crack", "points": CRACK}
    scratch = {"label": "scratch", "points": [[35, 20], [22, 12]], "shape_type": "rectangle"}
    write(root / "a.json", labelme_of("a.png", [crack, scratch]))


def labelme_mask(root):
    photo(root / "photos/a.png", root / "photos/b.png")
    shape = {"label": "crack", "points": [[3, 4], [34, 19]], "shape_type": "mask", "mask": png(TRUTH[4:20, 3:35])}
    write(root / "a.json", labelme_of("photos\\a.png", [shape]))
    write(root / "b.json", labelme_of("photos/b.png", []))


def cvat_of(inner, head="", attributes=f'width="{WIDTH}" height="{HEIGHT}"'):
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{head}<annotations><version>1.1</version>'
        f'<image id="0" name="a.png" {attributes}>{inner}</image><image id="1" name="b.png"></image></annotations>'
    )


def cvat(root):
    photo(root / "images/a.png", root / "images/b.png")
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in CRACK)
    box = '<box label="scratch" xtl="22.00" ytl="12.00" xbr="35.00" ybr="20.00" z_order="0"></box>'
    write(root / "annotations.xml", cvat_of(f'<polygon label="crack" points="{points}"/>{box}'))


def cvat_mask(root):
    photo(root / "a.png", root / "b.png")
    counts = ", ".join(map(str, runs_of(TRUTH[4:20, 3:35].ravel())))
    sides = 'left="3" top="4" width="32" height="16"'
    write(root / "annotations.xml", cvat_of(f'<mask label="x" rle="{counts}" {sides}/><tag label="crack"/>'))


def table(root):
    photo(root / "photos/a.png", root / "photos/b.png")
    mask(root / "photos/a_m.png")
    write(
        root / "parts.csv", "File;Class;Mask;Lot;Split\nphotos/a.png;crack;photos/a_m.png;7;test\nphotos/b.png;OK;;8;\n"
    )


TREES = (
    beside, two_masks_beside, mirrored, mirrored_in_each_split, flat, mvtec, loco, visa_for_pytorch, visa, coco,
    coco_runs, yolo, yolo_elsewhere, yolo_without_yaml, labelme, labelme_mask, cvat, cvat_mask, table,
)  # fmt: skip
