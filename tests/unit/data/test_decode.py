"""What a viewer would show is what decoding returns; what cannot be shown is refused with a reason."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from visionft.data.decode import decode, pixels
from visionft.data.picture import picture
from visionft.data.records import Record
from visionft.errors import DataError


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def tiff(
    values: np.ndarray, *, orientation: int = 1, photometric: int = 2, extra: int = 0, planar: bool = False
) -> bytes:
    """The plainest TIFF of H W C values, written here because no library at hand writes these kinds."""
    height, width, bands = values.shape
    kind = {"u": 1, "f": 3}[values.dtype.kind]
    body = (values.transpose(2, 0, 1) if planar else values).astype(values.dtype.newbyteorder("<")).tobytes()
    shorts = {258: [values.itemsize * 8] * bands, 339: [kind] * bands}
    if photometric == 2 and bands > 3:
        shorts[338] = [extra] * (bands - 3)
    single = {256: width, 257: height, 259: 1, 262: photometric, 274: orientation, 277: bands, 278: height}
    single |= {279: len(body) // (bands if planar else 1), 284: 1 + planar}
    tags = sorted([*single, *shorts, 273])
    tail, rows = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    room = sum(2 * len(column) for column in shorts.values() if len(column) > 2) + (8 * bands if planar else 0)
    offsets = [start + room + band * len(body) // bands for band in range(bands)] if planar else [start + room]
    for tag in tags:
        column = shorts.get(tag) or (offsets if tag == 273 else [single[tag]] * (bands if planar and tag == 279 else 1))
        letter, code = ("H", 3) if tag in shorts else ("I", 4)
        packed = struct.pack(f"<{len(column)}{letter}", *column)
        if len(packed) > 4:
            rows += struct.pack("<HHII", tag, code, len(column), start + len(tail))
            tail += packed
        else:
            rows += struct.pack("<HHI", tag, code, len(column)) + packed.ljust(4, b"\0")
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + struct.pack("<I", 0) + tail
    return header.ljust(start + room, b"\0") + body


def test_transparency_is_laid_over_white_and_kept_when_four_channels_are_asked_for():
    clear = encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    half = encoded(Image.new("LA", (2, 2), (0, 128)))
    assert (decode(clear) == 255).all() and (decode(clear, channels=1) == 255).all()
    assert (decode(half) == 127).all()
    assert decode(clear, channels=4)[0, 0].tolist() == [255, 0, 0, 0]
    assert decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3))), channels=4)[0, 0].tolist() == [1, 2, 3, 255]


def test_luma_weighs_the_primaries_as_bt601_does():
    primaries = encoded(Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)))
    assert decode(primaries, channels=1).ravel().tolist() == [76, 150, 29]


def test_gray_is_the_same_in_one_channel_and_in_three():
    gray = encoded(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)), "JPEG", quality=50)
    np.testing.assert_array_equal(decode(gray, edge=5), np.repeat(decode(gray, channels=1, edge=5), 3, axis=2))


def test_a_cmyk_jpeg_is_not_inverted():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(decode(data)[0, 0].astype(int) - [255, 0, 0]).max() <= 2


def test_sixteen_bit_gray_with_alpha_is_laid_over_white():
    deep = np.zeros((1, 2, 4), np.uint16)
    deep[0, 0] = 65535, 0, 0, 32768  # blue, half opaque, in OpenCV's order
    data = cv2.imencode(".png", deep)[1].tobytes()
    assert decode(data)[0].tolist() == [[127, 127, 255], [255, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bands", [3, 5])
def test_deep_and_many_banded_tiffs_are_turned_upright_like_eight_bit_ones(orientation, bands):
    values = np.random.default_rng(0).integers(0, 256, (5, 7, bands), dtype=np.uint8)
    deep = tiff(values.astype(np.uint16) * 257, orientation=orientation, photometric=2 if bands == 3 else 1)
    shallow = [tiff(values[:, :, [band]], orientation=orientation, photometric=1) for band in range(bands)]
    expected = np.dstack([decode(data, channels=1) for data in shallow])
    np.testing.assert_array_equal(decode(deep, channels=bands), expected)


@pytest.mark.parametrize("planar", [False, True])
def test_a_tiff_with_more_bands_than_colours_keeps_them_all(planar):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 6), dtype=np.uint16)
    np.testing.assert_array_equal(picture(tiff(values, photometric=1, planar=planar)).pixels, values)
    with pytest.raises(DataError, match="6 channels, but channels=3"):
        decode(tiff(values, photometric=1, planar=planar))


def test_a_fourth_band_that_is_not_opacity_is_no_transparency():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decode(tiff(values)), values[:, :, :3])
    np.testing.assert_array_equal(decode(tiff(values), channels=4), values)
    np.testing.assert_array_equal(decode(tiff(values, extra=2), channels=4), values)
    assert (decode(tiff(values, extra=2)) >= values[:, :, :3]).all()  # lightened by the white behind


def test_floats_run_from_black_at_zero_to_white_at_one():
    image = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert decode(encoded(image, "TIFF"), channels=1).ravel().tolist() == [0, 128, 255]
    for wrong in (251.0, -3.0, np.nan):
        with pytest.raises(DataError, match="between 0"):
            decode(encoded(Image.fromarray(np.array([[0, wrong]], np.float32)), "TIFF"))


def test_arrays_are_decoded_like_files():
    colour = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        pixels(Record(colour, number=0), edge=3), decode(encoded(Image.fromarray(colour)), edge=3)
    )
    assert (pixels(Record(np.full((2, 2), 4095, np.uint16)), white=4095) == 255).all()
    assert (pixels(Record(np.array([[False, True]]))) == [[[0] * 3, [255] * 3]]).all()


def test_errors_name_the_record_and_the_reason(tmp_path):
    for name, content, reason in [
        ("empty.png", b"", "is empty"),
        ("page.png", b"<html></html>", "not an image"),
        ("cut.jpg", encoded(Image.new("RGB", (64, 64)), "JPEG")[:-20], "cannot be decoded"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}.*{reason}"):
            pixels(Record(tmp_path / name))
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        pixels(Record(tmp_path / "gone.png"))
    with pytest.raises(DataError, match=r"array 7 has shape \(3,\)"):
        pixels(Record(np.zeros(3), number=7))
    with pytest.raises(DataError, match=r"array 9 has dtype int64; an image is uint8, uint16 or float"):
        pixels(Record(np.full((4, 4, 3), 200), number=9))  # 200 of 65,535 would be black
    with pytest.raises(DataError, match=r"array 8 has dtype complex"):
        pixels(Record(np.zeros((3, 3), complex), number=8))


def test_a_jpeg_with_bytes_after_its_end_is_whole():
    image = encoded(Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20), "JPEG")
    np.testing.assert_array_equal(decode(image + b"trailer"), decode(image))
    np.testing.assert_array_equal(decode(image + b"\0" * 16), decode(image))


def test_an_animation_is_its_first_frame():
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for form in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(first, form, save_all=True, append_images=[second], **options)
        assert decode(data)[0, 0].tolist() == [255, 0, 0], form


def test_damaged_exif_does_not_cost_the_image():
    data = encoded(Image.new("RGB", (4, 3), "red"), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0")
    assert decode(data).shape == (3, 4, 3)
