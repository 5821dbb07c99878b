"""JPEG files to measure on, made anew on every machine: synthetic scenes and solar cells (ELPV), always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from elpv_dataset.utils import load_dataset

Image = np.ndarray[Any, np.dtype[np.uint8]]

PHOTO = (4000, 3000)  # width and height of a 12-megapixel camera


def synthetic_jpegs(folder: Path, count: int, size: tuple[int, int] = (250, 250), quality: int = 90) -> list[Path]:
    """Write `count` scenes of a size (width, height): clouds of noise at all scales, discs with edges, sensor noise."""
    return [
        _write(folder / f"scene{index:05d}.jpg", _scene(np.random.default_rng(index), *size), quality)
        for index in range(count)
    ]


def elpv_jpegs(folder: Path, count: int, size: tuple[int, int] = (250, 250), quality: int = 90) -> list[Path]:
    """Write `count` of the 2,624 solar cells as colour JPEGs of a size (width, height), such as `PHOTO`.

    The cells are 300 px wide. What is enlarged gets sensor noise, else it would compress, and decode, like no photo.
    """
    cells, _, _ = load_dataset()
    chosen = np.linspace(0, len(cells) - 1, count).astype(int)  # the file is ordered by panel
    paths = []
    for index in chosen:
        cell = cv2.resize(cells[index], size, interpolation=cv2.INTER_CUBIC).astype(np.float32)[:, :, None]
        noise = _sensor_noise(np.random.default_rng(int(index)), *size) if size[0] > cells.shape[2] else 0
        paths.append(_write(folder / f"cell{index:04d}.jpg", _to_bytes(cell + noise), quality))
    return paths


def _scene(random: np.random.Generator, width: int, height: int) -> Image:
    scene = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells < max(width, height) / 2:  # amplitude falls as 1 / frequency, as in photographs
        octave = random.normal(0, 1, (cells, cells, 3)) * 0.4 + random.normal(0, 1, (cells, cells, 1))
        scene += cv2.resize(octave.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) / cells
        cells *= 2
    scene = 128 + 40 * scene / scene.std()
    for _ in range(random.integers(2, 6)):
        centre = (int(random.integers(width)), int(random.integers(height)))
        radius = int(min(width, height) * random.uniform(0.05, 0.25))
        disc = cv2.circle(np.zeros((height, width, 1), np.float32), centre, radius, 1.0, cv2.FILLED, cv2.LINE_AA)
        scene += disc.reshape(height, width, 1) * random.normal(0, 40, 3).astype(np.float32)
    return _to_bytes(scene + _sensor_noise(random, width, height))


def _sensor_noise(random: np.random.Generator, width: int, height: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return 6 * random.standard_normal((height, width, 3), np.float32)


def _to_bytes(image: np.ndarray[Any, Any]) -> Image:
    height, width = image.shape[:2]
    return np.broadcast_to(image, (height, width, 3)).clip(0, 255).astype(np.uint8)


def _write(path: Path, image: Image, quality: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path
