"""Every layout that people keep images in becomes one table, and what does not work says what would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionft.data.decode import pixels as decoded
from visionft.data.sources import read
from visionft.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(table, root):
    return [str(record.image.relative_to(root)) for record in table]


def refuses(source, labelled, *words):
    with pytest.raises(DataError) as caught:
        read(source, labelled=labelled)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_folder_is_read_recursively_in_natural_order_without_hidden_files(tmp_path):
    touch(tmp_path, "cell10.png", "cell2.PNG", "b/1.jpg", "b/.2.jpg", ".git/3.jpg", "notes.txt")
    table = read(tmp_path, labelled=False)
    assert names(table, tmp_path) == ["b/1.jpg", "cell2.PNG", "cell10.png"]
    assert not any(record.label is not None for record in table)


def test_a_link_back_to_a_folder_above_is_followed_once(tmp_path):
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(read(tmp_path, labelled=False)) == 1


def test_class_folders_give_the_labels(tmp_path):
    touch(tmp_path, "good/1.png", "bad/deep/2.png", "bad/1.png", "empty/readme.md")
    table = read(str(tmp_path), labelled=True)
    assert table.classes == ("bad", "good")
    assert [(name, record.label) for name, record in zip(names(table, tmp_path), table, strict=True)] == [
        ("bad/1.png", 0), ("bad/deep/2.png", 0), ("good/1.png", 1),
    ]  # fmt: skip


def test_train_and_test_folders_share_their_classes(tmp_path):
    touch(tmp_path, "train/good/1.png", "train/bad/2.png", "Validation/bad/3.png", "test/good/4.png")
    table = read(tmp_path, labelled=True)
    assert table.classes == ("bad", "good")
    assert {(record.image.name, record.split, record.label) for record in table} == {
        ("1.png", "train", 1), ("2.png", "train", 0), ("3.png", "val", 0), ("4.png", "test", 1),
    }  # fmt: skip


def test_a_class_that_only_test_has_is_an_error(tmp_path):
    touch(tmp_path, "train/good/1.png", "train/bad/2.png", "test/godo/4.png")
    refuses(tmp_path, True, "test/godo", "bad, good")


def test_a_csv_gives_labels_groups_and_splits_under_many_names(tmp_path):
    touch(tmp_path, "img/1.png", "img/2.png", "img/10.png")
    rows = "﻿File Name;Class;Patient;Subset\nimg/1.png;10;a;train\n\nimg/2.png;2;a;valid\nimg/10.png;2;;test\n"
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    table = read(tmp_path / "labels.csv", labelled=True)
    assert table.classes == ("2", "10")  # by value, not by letter
    assert [(record.label, record.group, record.split) for record in table] == [
        (1, "a", "train"), (0, "a", "val"), (0, None, "test"),
    ]  # fmt: skip


def test_a_csv_that_cannot_be_used_says_which_lines(tmp_path):
    touch(tmp_path, "1.png")
    file = tmp_path / "labels.csv"
    for text, words in {
        "": ("empty", "path,label"),
        "image_id,kind\n1.png,a\n": ("needs a column path", "filename", "image_id, kind"),
        "path,kind\n1.png,a\n": ("needs a column label", "path, kind"),
        "path,label\n1.png,a\n2.png,b\n1.png,b\n3.png,a\n": ("2 lines", "line 3, 5", "2.png"),
        "path,label\n1.png,a\n1.png,\n": ("no label", "line 3"),
        "path,label\n1.png\n1.png,a\n": ("2 columns", "line 2"),
        "path,label,split\n1.png,a,holdout\n": ("train, val or test", "line 2"),
    }.items():
        file.write_text(text)
        refuses(file, True, "labels.csv", *words)


def test_lists_of_paths_and_arrays_are_read_as_given(tmp_path):
    touch(tmp_path, "b.png", "a.png")
    array = np.zeros((4, 5, 3), np.uint8)
    table = read([tmp_path / "b.png", array, str(tmp_path / "a.png")], labelled=False)
    assert [record.name for record in table] == [str(tmp_path / "b.png"), "array 1", str(tmp_path / "a.png")]
    assert len(read(np.zeros((7, 4, 5), np.uint8), labelled=False)) == 7
    assert len(read((array, array), labelled=False)) == 2  # two images, not images and labels


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_what_pillow_has_opened_is_what_its_file_says(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    if mode == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(tmp_path / "a.png")
    else:
        Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    for source in (Image.open(tmp_path / "a.png"), [Image.open(tmp_path / "a.png")]):
        one, other = (decoded(read(some, labelled=False)[0]) for some in (source, tmp_path / "a.png"))
        assert np.array_equal(one, other)


@pytest.mark.parametrize("source", [3, None, object()])
def test_what_names_no_images_says_what_would(source):
    with pytest.raises(DataError, match="names no images; name a folder"):
        read(source, labelled=False)


def test_a_pair_of_images_and_labels_is_labelled():
    images = np.zeros((3, 4, 5, 3), np.uint8)
    table = read((images, ["good", "bad", "good"]), labelled=True)
    assert (table.classes, table.labels.tolist()) == (("bad", "good"), [1, 0, 1])
    assert read((images, np.array([5, 10, 5])), labelled=True).classes == ("5", "10")
    assert read((images, ["good", "bad", "good"]), labelled=False).classes == ()
    refuses((images, ["good"]), True, "3 images but 1 labels")
    refuses([images[0]], True, "(images, labels)")


def test_a_missing_folder_suggests_its_neighbour(tmp_path):
    touch(tmp_path, "photos/1.png")
    refuses(tmp_path / "fotos", False, "fotos does not exist", "did you mean", "photos")
    refuses(tmp_path / "fotos" / "deeper", False, "did you mean", "photos")


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    touch(tmp_path, "a.heic", "b.heic", "c.txt")
    refuses(tmp_path, False, "holds no images", "2 .heic", "1 .txt", "png")


def test_pictures_that_cannot_be_read_are_not_passed_over_in_silence(tmp_path):
    touch(tmp_path, "a.jpg", "b.heic", "c.dcm")
    assert "1 .heic" in read(tmp_path, labelled=False).source


def test_a_flat_folder_says_which_layouts_carry_labels(tmp_path):
    touch(tmp_path, "1.png", "2.png", "labels.csv")
    refuses(tmp_path, True, "2 images", "CLASS/image.png", "train/CLASS", "path,label", "labels.csv")


def test_images_beside_class_folders_are_not_dropped_in_silence(tmp_path):
    touch(tmp_path, "good/1.png", "bad/2.png", "stray.png")
    refuses(tmp_path, True, "1 images lie beside", "stray.png")


def test_one_class_is_not_enough(tmp_path):
    touch(tmp_path, "good/1.png", "good/2.png")
    refuses(tmp_path, True, "only one class, 'good'")
