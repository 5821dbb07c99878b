"""An image file's bytes, or an array, to uint8 pixels H W C of the size and channels asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from PIL import Image

from visionft.data.picture import Kind, Picture, kind_of, picture
from visionft.data.records import Record
from visionft.errors import DataError


class Reading(TypedDict):
    """How the files of a run are read, in the words of `decode`."""

    channels: int
    white: int


def decode(data: bytes, *, channels: int = 3, edge: int | None = None, white: int = 65535) -> np.ndarray:
    """Decode to uint8 H W C: upright, RGB order, the short side reduced to `edge` (never enlarged).

    Values deeper than 8 bits become round(x * 255 / white), clipped; floats are 0 (black) to 1 (white).
    With 1 channel colour becomes luma (ITU-R 601), with 1 or 3 transparency is laid over white, 4 is RGBA.
    Any other number must be the file's own. DataError says what is wrong, without the path, which it does not know.
    """
    return converted(picture(data, edge=edge), channels=channels, edge=edge, white=white)


def pixels(record: Record, *, channels: int = 3, edge: int | None = None, white: int = 65535) -> np.ndarray:
    """Decode a record's file, or convert its array, as `decode` does, perhaps uncopied; errors name the record."""
    try:
        if isinstance(record.image, Path):
            return decode(record.image.read_bytes(), channels=channels, edge=edge, white=white)
        return converted(of_array(record.image), channels=channels, edge=edge, white=white)
    except DataError as error:
        raise DataError(f"{record.name} {error}") from error
    except OSError as error:
        raise DataError(f"{record.name} cannot be read: {error.strerror or error}") from error


def of_array(array: np.ndarray) -> Picture:
    """View an array as a decoded file: gray, RGB, RGBA (four channels) or any other number of bands."""
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"has shape {array.shape}; an image is H W or H W C")
    if array.dtype.kind not in "bf" and array.dtype not in (np.uint8, np.uint16):
        raise DataError(f"has dtype {array.dtype}; an image is uint8, uint16 or float from 0 to 1")
    bands = array.reshape(*array.shape[:2], -1)
    return Picture(bands, kind_of(bands), "array", f"{bands.shape[2]} x {array.dtype}")


def converted(image: Picture, *, channels: int, edge: int | None = None, white: int = 65535) -> np.ndarray:
    """Bring a decoded picture to uint8, `channels` and `edge`."""
    x = to_uint8(image.pixels, white)
    if image.kind == "gray":
        x = shrink(x, edge, image.full)  # before it is tripled
    return shrink(with_channels(x, image.kind, channels), edge, image.full)


def to_uint8(x: np.ndarray, white: int) -> np.ndarray:
    """Map the value `white` (1.0 for floats) to 255."""
    if x.dtype == np.uint8:
        return x
    if x.dtype == np.bool_:
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype.kind == "f":
        low, high = float(x.min()), float(x.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # also false for NaN
            raise DataError(f"has float values from {low:g} to {high:g}; they must lie between 0 (black) and 1 (white)")
        scaled: np.ndarray = np.rint(x.clip(0, 1) * 255)
        return scaled.astype(np.uint8)
    if x.dtype == np.uint16:
        mapped: np.ndarray = _table(white)[x]
        return mapped
    return _rounded(x, white)


@cache
def _table(white: int) -> np.ndarray:
    return _rounded(np.arange(65536), white)


def _rounded(x: np.ndarray, white: int) -> np.ndarray:
    wide = x.astype(np.int64).clip(0, white)
    scaled: np.ndarray = (wide * 510 + white) // (2 * white)  # round(x * 255 / white), halves up
    return scaled.astype(np.uint8)


def with_channels(x: np.ndarray, kind: Kind, channels: int) -> np.ndarray:
    """Convert uint8 H W C to the number of channels asked for."""
    if kind == "bands" or channels not in (1, 3, 4):
        if channels != x.shape[2]:
            raise DataError(f"has {x.shape[2]} channels, but channels={channels} is asked for")
        return np.ascontiguousarray(x)
    if x.shape[2] == channels:
        return np.ascontiguousarray(x)
    if kind == "rgba":
        x = over_white(x)
    elif kind == "rgbx":
        x = np.ascontiguousarray(x[:, :, :3])
    if channels == 1:
        return np.array(Image.fromarray(x).convert("L"))[:, :, None]
    colour = cv2.cvtColor(x, cv2.COLOR_GRAY2RGB) if kind == "gray" else x
    return colour if channels == 3 else np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)])


def over_white(x: np.ndarray) -> np.ndarray:
    """Lay RGBA over white, which is what viewers show."""
    picture = Image.fromarray(np.ascontiguousarray(x))
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def shrink(x: np.ndarray, edge: int | None, full: tuple[int, int] | None = None) -> np.ndarray:
    """Reduce the short side to `edge` by area averaging; a smaller image stays as it is.

    `full` is the height and width before a decoder reduced them: it rounds both up, which would bend the aspect.
    """
    height, width = full or x.shape[:2]
    if edge is None or min(height, width) <= edge:
        return x
    scale = edge / min(height, width)
    size = (max(edge, round(width * scale)), max(edge, round(height * scale)))
    if x.shape[1::-1] == size:
        return x
    bands = np.array_split(x, -(-x.shape[2] // 4), axis=2)  # OpenCV averages up to four at a time
    parts = [cv2.resize(np.ascontiguousarray(band), size, interpolation=cv2.INTER_AREA) for band in bands]
    return np.concatenate([part.reshape(size[1], size[0], -1) for part in parts], axis=2)
