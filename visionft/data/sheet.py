"""A contact sheet: what a policy does to images, to be looked at before training on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from visionft.atomic import replace
from visionft.errors import DataError
from visionft.objective import View

from .views import Views

GAP = 4


def sheet(
    pixels: Sequence[np.ndarray], policy: object, *, size: int, count: int, channels: int, seed: int
) -> np.ndarray:
    """H W 3 uint8: one row an image, as evaluation sees it and then `count` augmented versions."""
    plain = Views(pixels, {"image": View("none")}, {"image": size}, channels=channels, seed=seed)
    changed = Views(pixels, {"image": View(policy, count=count)}, {"image": size}, channels=channels, seed=seed)
    rows = [np.stack([plain[i]["image"], *changed[i]["image"]]) for i in range(len(pixels))]
    grid = np.stack(rows)[..., :3]  # R V H W C
    if grid.shape[-1] != 3:
        grid = grid[..., :1].repeat(3, -1)
    padded = np.pad(grid, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    r, v, h, w, c = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(r * h, v * w, c)


def png(image: np.ndarray) -> bytes:
    """H W 3 RGB uint8 as the bytes of a PNG."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])


def write_png(path: Path, image: np.ndarray) -> None:
    """Write H W 3 RGB uint8 as a picture; the extension says which kind."""
    if not cv2.haveImageWriter(path.name):
        raise DataError(f"{path} cannot be written: there is no encoder for {path.suffix or 'no extension'}; try .png")
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda beside: beside.write_bytes(data.tobytes()))
