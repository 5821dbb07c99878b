"""What `source=` names: a camera by its number, a stream by its address, a video, or a folder of photos to come."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2

from visionft.config import suggest
from visionft.data.decode import Reading, decode
from visionft.data.sources import is_image
from visionft.errors import ConfigError, DataError
from visionft.inspection.verbs import InspectWatch

from .camera import Camera, Capture
from .film import Film
from .inbox import Inbox
from .lines import known, log_file
from .shots import Source, Taken, Wanted, frame_reader

PATIENCE = 10_000  # ms that a stream may take to open, and to give a frame
PREFIX = "CAP_PROP_"
COMMON = ("frame_width", "frame_height", "fps", "exposure", "auto_exposure", "gain", "focus", "autofocus", "fourcc")
EXACT = {cv2.CAP_PROP_FRAME_WIDTH: "frame_width", cv2.CAP_PROP_FRAME_HEIGHT: "frame_height"}


def opened(recipe: InspectWatch, images: Reading, wanted: Wanted | None) -> Source:
    """The source of a recipe; `images` says how photos are read.

    Raises ConfigError or DataError where there is no such thing.
    """
    read, taken = frame_reader(**images), Taken(recipe.every, wanted)
    file = Path(str(recipe.source)).expanduser()
    if named := _live(recipe, file):
        return Camera(*named, read, buffer=recipe.buffer, taken=taken, give_up=recipe.give_up)
    if not file.exists():
        raise DataError(f"source={file} does not exist; it is a camera's number, an address, a video or a folder")
    if recipe.camera:
        raise ConfigError(f"camera= is for cameras, and {file} is none")
    if file.is_dir():
        judged = partial(known, log_file(recipe)) if recipe.out else set
        return Inbox(_folder(recipe, file, taken), partial(decode, **images), judged, give_up=recipe.give_up)
    if is_image(file):
        raise ConfigError(f"{file} is a photo; see `visionft inspect predict`")
    return Film(file, read, taken=taken)


def _live(recipe: InspectWatch, file: Path) -> tuple[str, Callable[[], Capture]] | None:
    """Name and opener of what is no file."""
    source = recipe.source
    if callable(source):
        return "camera", source
    if "://" in str(source):
        address = urlsplit(str(source))
        name = f"{address.hostname or address.scheme}{address.path}"  # without the password, and what may follow it
        return re.sub(r"[^\w.-]+", "-", name).strip("-"), partial(_stream, str(source), _settings(recipe.camera))
    if str(source).isdigit():
        return f"camera{source}", partial(_device, int(source), _settings(recipe.camera))
    if file.is_char_device():
        return file.name, partial(_device, str(file), _settings(recipe.camera))
    return None


def _folder(recipe: InspectWatch, folder: Path, taken: Taken) -> Path:
    if taken.every is not None or taken.wanted is not None:
        raise ConfigError("every= and wanted= are for cameras and videos: of a folder every photo is judged")
    if recipe.out and Path(recipe.out).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"out={recipe.out} lies in the folder that is watched: its pictures would be judged, too")
    return folder


def _settings(words: Mapping[str, Any]) -> dict[int, float]:
    """What OpenCV calls these settings."""
    for name, value in words.items():
        if not hasattr(cv2, PREFIX + name.upper()):
            raise ConfigError(f"camera.{name} is no setting of OpenCV{suggest(name, COMMON)}")
        if not isinstance(value, int | float):
            raise ConfigError(f"camera.{name}={value!r} is a number")
    return {getattr(cv2, PREFIX + name.upper()): float(value) for name, value in words.items()}


def _device(which: int | str, settings: Mapping[int, float]) -> Capture:
    return _set(cv2.VideoCapture(which), settings)


def _stream(address: str, settings: Mapping[int, float]) -> Capture:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, PATIENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, PATIENCE]
    return _set(cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits), settings)


def _set(capture: cv2.VideoCapture, settings: Mapping[int, float]) -> Capture:
    """Photos of another size than was asked for are not what the inspector knows: that is an error."""
    for setting, value in settings.items():
        capture.set(setting, value)
    for setting in settings.keys() & EXACT.keys():
        if capture.isOpened() and (found := capture.get(setting)) != settings[setting]:
            raise ConfigError(f"it cannot do camera.{EXACT[setting]}={settings[setting]:g}; nearest is {found:g}")
    return capture
