"""The scan names what is wrong with a data set, once, in plain words, and hands on only what can be used."""

from __future__ import annotations

import io
import json
import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from visionft.data.examine import listen
from visionft.data.records import Record, Table
from visionft.data.scan import scan
from visionft.errors import DataError


def picture(seed: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def saved(folder, name: str, image: np.ndarray, form: str | None = None, **options: object):
    Image.fromarray(image).save(folder / name, form, **options)
    return folder / name


def left_over_jpeg(seed: int) -> bytes:
    """A JPEG with a few bytes between a complete picture and its end marker, as some cameras write them."""
    stream = io.BytesIO()
    Image.fromarray(picture(seed)).save(stream, "JPEG")
    return stream.getvalue()[:-2] + b"\x12\x34\x56\x78\xff\xd9"


def test_every_usable_record_gets_the_digest_of_its_content_and_keeps_its_place(tmp_path):
    files = [saved(tmp_path, f"{name}.png", picture(at)) for at, name in enumerate("cab")]
    table = scan(Table.of(files)).table
    assert [record.image for record in table] == files
    (tmp_path / "moved.png").write_bytes(files[0].read_bytes())
    assert scan(Table.of([tmp_path / "moved.png"])).table[0].digest == table[0].digest
    assert len({record.digest for record in table}) == 3


def test_bad_images_are_an_error_that_lists_them_and_says_how_to_go_on(tmp_path):
    good = saved(tmp_path, "good.png", picture(0))
    bad = [tmp_path / f"bad{number}.png" for number in range(12)]
    for file in bad:
        file.write_bytes(b"")
    table = Table.of([*bad, good], source="parts")
    with pytest.raises(
        DataError, match="12 of 13 images of parts cannot be used; bad=skip would leave them out"
    ) as error:
        scan(table)
    assert f"{bad[9]} is empty" in str(error.value) and "and 2 more" in str(error.value)
    result = scan(table, bad="skip")
    assert [record.image for record in result.table] == [good]
    assert result.bad == {str(file): "is empty (0 bytes)" for file in bad}
    assert any("12 left out" in line and "and 2 more" in line for line in result.lines())


def test_nothing_usable_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none is left"):
        scan(Table.of([tmp_path / "bad.png"]), bad="skip")


def test_a_jpeg_that_the_decoder_only_complains_about_is_named_and_its_neighbours_are_not(tmp_path):
    files = [saved(tmp_path, f"{at}.jpg", picture(at, 200)) for at in range(6)]
    data = bytearray(files[3].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    files[3].write_bytes(data)
    assert cv2.imread(str(files[3])) is not None  # the decoder itself lets it pass
    bad = scan(Table.of(files), bad="skip").bad
    assert list(bad) == [str(files[3])] and "Corrupt JPEG data" in bad[str(files[3])]


def test_left_over_data_is_damage_in_one_jpeg_and_a_habit_in_all(tmp_path):
    files = [tmp_path / f"{at}.jpg" for at in range(20)]
    for at, file in enumerate(files):
        file.write_bytes(left_over_jpeg(at))
    habit = scan(Table.of(files))  # of the four bytes the decoder may swallow some unnoticed
    assert len(habit.left_over) >= 8 and any("left-over" in line for line in habit.lines())
    others = [saved(tmp_path, f"whole{at}.jpg", picture(at)) for at in range(3)]
    assert list(scan(Table.of([*others, habit.left_over[0]]), bad="skip").bad) == [habit.left_over[0]]


def test_a_remark_about_a_colour_profile_is_no_damage(tmp_path, capfd):
    file = saved(tmp_path, "profile.png", picture(0), icc_profile=zlib.compress(b"no profile"))
    assert len(scan(Table.of([file])).table) == 1
    assert capfd.readouterr().err == ""


def test_what_others_write_to_stderr_meanwhile_is_passed_on(capfd):
    with listen() as heard:
        os.write(2, b"Corrupt JPEG data: bad Huffman code\n")
        os.write(2, b"a message from elsewhere\n")
    assert b"Huffman" in heard
    assert capfd.readouterr().err == "a message from elsewhere\n"


def test_duplicates_conflicting_labels_and_leaks_are_told_apart(tmp_path):
    files = [saved(tmp_path, f"{at}.png", picture(content)) for at, content in enumerate([0, 0, 1, 1, 2, 2, 3])]
    labels, splits = [0, 0, 0, 1, 1, 1, 1], ["train"] * 5 + ["test", "train"]
    result = scan(Table.of(files, labels, splits=splits, classes=("good", "bad")))
    same = [tuple(map(str, pair)) for pair in ((files[0], files[1]), (files[2], files[3]), (files[4], files[5]))]
    assert result.duplicates == tuple(same)
    assert result.conflicts == (same[1],)
    assert result.leaks == (same[2],)
    assert result.balance == {"good": 3, "bad": 4}
    assert sum("DIFFERENT LABELS" in line for line in result.lines()) == 1


def test_arrays_are_duplicates_when_values_shape_and_type_agree():
    flat = np.arange(36, dtype=np.uint8)
    arrays = [flat.reshape(6, 6), flat.reshape(6, 6).copy(), flat.reshape(4, 9), flat.reshape(6, 6).astype(np.uint16)]
    assert scan(Table.of(arrays)).duplicates == (("array 0", "array 1"),)


@pytest.mark.parametrize(("peak", "white"), [(255, 255), (900, 1023), (4095, 4095), (10000, 16383), (16384, None)])
def test_sixteen_bit_files_of_a_camera_with_fewer_bits_suggest_its_white(tmp_path, peak, white):
    files = [tmp_path / "dark.png", tmp_path / "bright.png"]
    cv2.imwrite(str(files[0]), np.full((4, 4), 3, np.uint16))
    cv2.imwrite(str(files[1]), np.full((4, 4), peak, np.uint16))
    result = scan(Table.of(files))
    assert (result.deep, result.peak, result.suggested_white) == (2, peak, white)
    assert any(f"set white={white}" in line for line in result.lines()) == (white is not None)
    assert scan(Table.of(files), white=peak).suggested_white is None


def test_sizes_formats_and_modes_are_counted(tmp_path):
    files = [saved(tmp_path, "a.png", picture(0, 10)[:6]), saved(tmp_path, "b.jpg", picture(1, 30)[:, :20])]
    files.append(saved(tmp_path, "c.png", picture(2, 14)[..., 0]))
    result = scan(Table.of(files))
    assert result.sizes == {"min": (10, 6), "median": (14, 14), "max": (20, 30)}
    assert result.formats == {"PNG": 2, "JPEG": 1} and result.modes == {"RGB": 2, "L": 1}


def test_the_findings_are_json_and_progress_reaches_the_end(tmp_path):
    files = [saved(tmp_path, f"{at}.jpg", picture(0), "PNG") for at in range(3)]
    seen = []
    result = scan(Table.of(files), report=seen.append, progress=lambda done, total: seen.append((done, total)))
    facts = json.loads(json.dumps(result.facts()))
    assert facts["images"] == 3 and len(facts["misnamed"]) == 3 and facts["duplicates"] == [[str(f) for f in files]]
    assert seen == [(3, 3), *result.lines()]


def test_an_image_with_the_wrong_number_of_channels_is_bad(tmp_path):
    result = scan(Table((Record(np.zeros((4, 4, 7))), Record(np.zeros((4, 4))))), bad="skip")
    assert result.bad == {"array 0": "has 7 channels, but channels=3 is asked for"}


def test_what_is_shown_as_white_is_a_part_of_what_a_deep_image_is(tmp_path):
    """Features are kept by digest: those of the dark reading must not answer for the bright one."""
    files = [tmp_path / "deep.png", tmp_path / "plain.png"]
    cv2.imwrite(str(files[0]), np.full((4, 4), 900, np.uint16))
    cv2.imwrite(str(files[1]), np.full((4, 4), 90, np.uint8))
    dark, bright = ([record.digest for record in scan(Table.of(files), white=white).table] for white in (65535, 1023))
    assert dark[0] != bright[0]
    assert dark[1] == bright[1]
