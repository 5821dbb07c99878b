"""Bytes of an image file to its own pixels: upright, RGB order, at the file's own depth; or a DataError saying why not.

OpenCV decodes the common cases (8-bit gray and RGB JPEG and PNG, 16-bit colour) because it is faster and lets other
threads run; Pillow reads every header and decodes the rest, where it is strict about damage and right about palettes,
transparency, CMYK and TIFF. Each choice was made by comparing the two, pixel by pixel.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from visionft.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000")
Image.init()  # loads Pillow's format plugins, which it would otherwise do on first use: not safe from several threads
ORIENTATION = 0x0112  # the EXIF tag
Kind = Literal["gray", "rgb", "rgba", "rgbx", "bands"]  # rgbx: a fourth band that is not said to be opacity

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> what a viewer does with H W C
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class Picture:
    """A decoded file before any conversion."""

    pixels: np.ndarray  # H W C, upright; uint8, uint16, int32 or float32
    kind: Kind  # what the channels are
    format: str  # what the content is, whatever the file is called
    mode: str  # Pillow's name for it ("L", "RGB", "P", "I;16", "CMYK"); "RGB;16" for what Pillow has no name for
    full: tuple[int, int] | None = None  # the file's own height and width where a JPEG was decoded smaller


def picture(data: bytes, *, edge: int | None = None) -> Picture:
    """Decode; with `edge`, a large JPEG may come at 1/2, 1/4 or 1/8 size while its short side stays at least `edge`."""
    if not data:
        raise DataError("is empty (0 bytes)")
    try:
        if data.startswith(b"\x93NUMPY"):
            return _npy(data)
        if data[:4] in (b"II*\0", b"MM\0*") and (deep := _deep_tiff(data)):
            return deep
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _by_opencv(data, image, edge) or _by_pillow(image)
    except UnidentifiedImageError:
        raise DataError(f"is not an image that can be read (it begins with {data[:12]!r})") from None
    except DataError:
        raise
    except Exception as error:  # on damaged input the decoders raise whatever their parsers happen to trip over
        raise DataError(f"cannot be decoded: {error}") from error


def opened(image: Image.Image) -> np.ndarray:
    """The pixels of an image that Pillow has opened: H W C, upright, as its file would be read."""
    try:
        return _by_pillow(image).pixels
    except Exception as error:  # Pillow decodes only now
        raise DataError(f"an image opened by Pillow cannot be decoded: {error}") from error


def _by_opencv(data: bytes, image: Image.Image, edge: int | None) -> Picture | None:
    """Decode what OpenCV gets right; None leaves the rest to Pillow."""
    if image.format == "PNG" and data[24] == 16:  # Pillow keeps the high byte only
        pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
        mode = {0: "I;16", 2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}[data[25]]
        return Picture(_turned(_rgb(pixels), _orientation(data, image)), kind_of(pixels), "PNG", mode)
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info and not getattr(image, "is_animated", False)
    whole_jpeg = image.format in ("JPEG", "MPO") and data.rstrip(b"\0").endswith(b"\xff\xd9")
    # without its end marker a JPEG is cut off or has bytes appended: OpenCV 4 fills the missing part silently
    if image.format == "PNG" and plain:
        flag = cv2.IMREAD_UNCHANGED
    elif whole_jpeg and image.mode in ("L", "RGB"):
        flag = _reduced(image, edge)
    else:
        return None
    pixels, orientation = _rgb(_imdecode(data, flag)), _orientation(data, image)
    width, height = image.size if orientation <= 4 else image.size[::-1]
    return Picture(_turned(pixels, orientation), kind_of(pixels), str(image.format), image.mode, (height, width))


def kind_of(pixels: np.ndarray) -> Kind:
    """What 1, 3 and 4 channels are when nothing else is said."""
    kinds: dict[int, Kind] = {1: "gray", 3: "rgb", 4: "rgba"}
    return kinds.get(pixels.shape[2], "bands")


def _by_pillow(image: Image.Image) -> Picture:
    form, mode = str(image.format), image.mode
    image.load()
    orientation = 1 if form == "TIFF" else _orientation(b"", image)  # loading turns a TIFF upright by itself
    if "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
    elif mode not in ("L", "RGB", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"):
        image = image.convert("L" if mode == "1" else "RGB")
    pixels = np.array(image)
    pixels = _turned(pixels.reshape(*pixels.shape[:2], -1), orientation)
    return Picture(pixels, kind_of(pixels), form, mode)


def _reduced(image: Image.Image, edge: int | None) -> int:
    """The OpenCV flag that decodes at the smallest size whose short side is still `edge` or more."""
    short = min(image.size)
    for factor in (8, 4, 2):
        # libjpeg rounds both sides up; what it adds would shift the far border, here by a quarter pixel at most
        added = max(-side % factor for side in image.size)
        if edge is not None and short >= edge * factor and added * edge <= short / 4:
            kind = "GRAYSCALE" if image.mode == "L" else "COLOR"
            return int(getattr(cv2, f"IMREAD_REDUCED_{kind}_{factor}")) | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.IMREAD_UNCHANGED  # this one ignores the orientation by itself


def _imdecode(data: bytes, flag: int) -> np.ndarray:
    pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise DataError("is damaged or cut off: the decoder could not finish the image")
    return pixels.reshape(*pixels.shape[:2], -1)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's channel order to everybody else's."""
    if pixels.shape[2] < 3:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(UPRIGHT[orientation](pixels)) if orientation in UPRIGHT else pixels


def _orientation(data: bytes, image: Image.Image) -> int:
    # for a PNG, asking Pillow for EXIF decodes all pixels to look behind them: ask only where there is something
    behind = b"eXIf" in data or b"Raw profile type" in data
    if not (behind or image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # viewers show a picture whose EXIF block is damaged as it lies, and so do we
        return 1


def _npy(data: bytes) -> Picture:
    pixels = np.load(io.BytesIO(data), allow_pickle=False)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise DataError(f"holds an array of shape {pixels.shape}; an image is H W or H W C")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return Picture(pixels, kind_of(pixels), "NPY", f"{pixels.shape[2]} x {pixels.dtype}")


def _deep_tiff(data: bytes) -> Picture | None:
    """Decode a TIFF that Pillow would shorten or refuse: colour deeper than 8 bits, or more bands than colours."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    bands, bits, extra = int(tags.get(277, 1)), max(tags.get(258, (1,))), tags.get(338, ())[:1]
    opaque = extra in ((1,), (2,))
    if tags.get(262) not in (0, 1, 2) or bands == 1 or (bits <= 8 and (bands == 3 or (opaque and bands in (2, 4)))):
        return None
    if tags.get(262) == 2 and bands in (3, 4):
        pixels = _rgb(_imdecode(data, cv2.IMREAD_UNCHANGED))  # OpenCV turns a TIFF upright by itself
        return Picture(
            pixels, "rgb" if bands == 3 else "rgba" if opaque else "rgbx", "TIFF", f"{'RGBX'[:bands]};{bits}"
        )
    pixels = _turned(_strips(data, tags), int(tags.get(274, 1)))
    return Picture(pixels, "bands", "TIFF", f"{bands} bands;{bits}")


def _strips(data: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> np.ndarray:
    """The bands of a TIFF stored plainly or deflated, H W C; neither library reads more than four."""
    width, height, bands = int(tags[256]), int(tags[257]), int(tags[277])
    kind = {1: "u", 2: "i", 3: "f"}.get(tags.get(339, (1,))[0], "u")
    compression, predictor = int(tags.get(259, 1)), int(tags.get(317, 1))
    if compression not in (1, 8, 32946) or predictor != 1 or 273 not in tags or max(tags[258]) % 8:
        raise DataError(f"has {bands} bands stored in a way that cannot be read here; save it uncompressed or as .npy")
    pieces = [data[start : start + size] for start, size in zip(tags[273], tags[279], strict=True)]
    raw = b"".join(pieces if compression == 1 else map(zlib.decompress, pieces))
    dtype = np.dtype(f"{'<' if data[:2] == b'II' else '>'}{kind}{max(tags[258]) // 8}")
    if len(raw) != width * height * bands * dtype.itemsize:
        raise DataError("is damaged or cut off: it holds fewer pixels than it announces")
    planar = int(tags.get(284, 1)) == 2
    shape = (bands, height, width) if planar else (height, width, bands)
    pixels = np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    return np.ascontiguousarray(pixels.transpose(1, 2, 0) if planar else pixels)
