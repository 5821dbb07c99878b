"""Decoding agrees with Pillow on every mode and size, and reducing keeps what area averaging must keep."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from visionft.data.decode import decode
from visionft.errors import DataError

LOSSLESS = {  # format -> the modes it can hold
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
}
PAIRS = [(form, mode) for form, modes in LOSSLESS.items() for mode in modes]
side = st.integers(1, 40)
seed = st.integers(0, 2**32 - 1)


def noise(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    bands = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    if mode == "P":
        image = Image.frombytes("P", (width, height), values.tobytes())
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        return image
    return Image.frombytes("L" if mode == "1" else mode, (width, height), values.tobytes()).convert(mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}), **options)
    return stream.getvalue()


def as_viewed(data: bytes, mode: str) -> np.ndarray:
    """Pillow's own conversion of the stored file: upright, over white, H W C."""
    with Image.open(io.BytesIO(data)) as stored:
        image = ImageOps.exif_transpose(stored)
    if mode != "RGBA" and (image.has_transparency_data or image.mode == "LA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "CMYK" or (image.mode == "P" and mode == "L"):
        image = image.convert("RGB")
    array = np.asarray(image.convert(mode))
    return array.reshape(*array.shape[:2], -1)


@given(st.sampled_from(PAIRS), side, side, seed, st.sampled_from([1, 3, 4]))
@settings(max_examples=150, deadline=None)
def test_lossless_formats_decode_to_pillows_pixels(pair, width, height, seed, channels):
    form, mode = pair
    data = encoded(noise(mode, width, height, seed), form)
    expected = as_viewed(data, {1: "L", 3: "RGB", 4: "RGBA"}[channels])
    np.testing.assert_array_equal(decode(data, channels=channels), expected)


@given(side, side, seed, st.sampled_from([0, 3, b"\x00\x80\xff"]))
@settings(max_examples=30, deadline=None)
def test_a_palette_with_transparency_is_laid_over_white(width, height, seed, transparency):
    data = encoded(noise("P", width, height, seed), "PNG", transparency=transparency)
    np.testing.assert_array_equal(decode(data), as_viewed(data, "RGB"))


@given(st.sampled_from(["L", "RGB", "CMYK"]), side, side, seed, st.sampled_from([0, 1, 2]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_jpeg_decodes_as_in_pillow(mode, width, height, seed, subsampling, progressive):
    options = {} if mode == "L" else {"subsampling": subsampling}
    data = encoded(noise(mode, width, height, seed), "JPEG", progressive=progressive, **options)
    difference = decode(data).astype(int) - as_viewed(data, "RGB")
    assert np.abs(difference).max() <= 2  # two builds of libjpeg may round the inverse DCT differently


UPRIGHT = [("JPEG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("TIFF", "P")]
UPRIGHT += [(form, mode) for form in ("PNG", "TIFF") for mode in ("L", "LA", "RGB")] + [("PNG", "P")]


@given(st.sampled_from(UPRIGHT), st.integers(1, 8), side, side)
@settings(max_examples=120, deadline=None)
def test_every_orientation_is_turned_upright(pair, orientation, width, height):
    form, mode = pair
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(mode, width, height, 0), form, exif=exif)
    expected = as_viewed(data, "RGB")
    assert expected.shape[:2] == ((width, height) if orientation > 4 else (height, width))
    difference = decode(data).astype(int) - expected
    assert np.abs(difference).max() <= (2 if form == "JPEG" else 0)


@given(
    side, side, st.sampled_from([".png", ".tiff"]), st.sampled_from([1, 3]), st.sampled_from([255, 1023, 4095, 65535])
)
@settings(max_examples=60, deadline=None)
def test_sixteen_bits_are_rounded_not_shifted(width, height, extension, bands, white):
    deep = np.random.default_rng(width * height).integers(0, 65536, (height, width, bands), dtype=np.uint16)
    data = cv2.imencode(extension, deep[..., ::-1])[1].tobytes()
    exact = np.floor(deep.clip(0, white) * 255.0 / white + 0.5)
    np.testing.assert_array_equal(decode(data, channels=bands, white=white), exact)


@given(side, side, st.integers(5, 9), st.sampled_from(["u1", "u2"]))
@settings(max_examples=20, deadline=None)
def test_other_numbers_of_channels_are_the_files_own_or_an_error(width, height, bands, dtype):
    values = np.random.default_rng(bands).integers(0, 256, (height, width, bands)).astype(dtype)
    stream = io.BytesIO()
    np.save(stream, values)
    np.testing.assert_array_equal(decode(stream.getvalue(), channels=bands, white=255), values)
    with pytest.raises(DataError, match=f"{bands} channels.*channels=3"):
        decode(stream.getvalue(), channels=3)
    with pytest.raises(DataError, match=f"3 channels.*channels={bands}"):
        decode(encoded(noise("RGB", width, height, 0), "PNG"), channels=bands)


@given(
    st.sampled_from(["JPEG", "PNG"]),
    st.sampled_from(["L", "RGB"]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 64),
)
@settings(max_examples=80, deadline=None)
def test_the_short_side_is_reduced_to_edge_and_never_enlarged(form, mode, width, height, edge):
    image = decode(encoded(noise(mode, width, height, 0), form), edge=edge)
    short = min(width, height, edge)
    scale = short / min(width, height)
    assert min(image.shape[:2]) == short
    assert abs(image.shape[0] - height * scale) <= 0.5 and abs(image.shape[1] - width * scale) <= 0.5


@given(st.integers(1, 12), st.integers(1, 12), st.integers(2, 5), seed)
@settings(max_examples=30, deadline=None)
def test_reducing_by_a_whole_factor_is_the_mean_of_each_block(width, height, factor, seed):
    image = noise("RGB", width * factor, height * factor, seed)
    blocks = np.asarray(image, dtype=float).reshape(height, factor, width, factor, 3).mean((1, 3))
    reduced = decode(encoded(image, "PNG"), edge=min(width, height))
    assert np.abs(reduced - blocks).max() <= 0.5 + 1e-6


@given(st.integers(64, 400), st.integers(64, 400), st.integers(32, 64), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_jpeg_decoded_small_looks_like_one_decoded_whole(width, height, edge, orientation):
    across, down = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 5, height))
    smooth = np.stack([np.sin(across + k) * np.cos(down) for k in range(3)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.uint8(127 + 120 * smooth)), "JPEG", quality=95, exif=exif)
    whole = decode(data)
    small = decode(data, edge=edge)
    expected = cv2.resize(whole, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 2


@pytest.mark.slow
def test_twenty_megapixels_are_reduced_exactly():
    image = noise("RGB", 5472, 3648, 0)
    assert decode(encoded(image, "JPEG"), edge=224).shape == (224, 336, 3)
    reduced = decode(encoded(image, "TIFF"), edge=228)  # 3648 = 16 x 228
    blocks = np.asarray(image, dtype=np.float32).reshape(228, 16, 342, 16, 3).mean((1, 3))
    assert np.abs(reduced - blocks).max() <= 0.51
