"""A few numbers by which photos of today can be compared with those that an inspector was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from visionft.arrays import Floats

if TYPE_CHECKING:
    from .eye import Seen

PIXELS = ("brightness", "contrast", "sharpness")


def names(count: int) -> list[str]:
    """What so many `signs` are, in their order: the score, each eye's, and what the pixels say."""
    return ["score", *(f"eye {at + 1}" for at in range(count - 1 - len(PIXELS))), *PIXELS]


def signs(score: float, each: Sequence[float], photo: np.ndarray) -> Floats:
    """What a photo scores, in all and by eye, and what light, scene and lens were like."""
    return np.array([score, *each, *of_pixels(photo)])


def table(seen: Sequence[Seen], photos: Sequence[np.ndarray]) -> Floats:
    """N S, a row for each photo."""
    return np.stack([signs(one.score, one.each, photo) for one, photo in zip(seen, photos, strict=True)])


def of_pixels(image: np.ndarray) -> tuple[float, float, float]:
    """Of a photo (H W C of uint8): mean and standard deviation of its gray values, 0 to 1, and its sharpness.

    Sharpness is the logarithm of the mean square of the Laplacian over the variance: it falls when the lens loses its
    focus, and neither with the light nor with the contrast.
    """
    gray = image.mean(2, dtype=np.float32) / 255
    edges = cv2.Laplacian(gray, cv2.CV_32F)
    spread = float(gray.std())
    return float(gray.mean()), spread, float(np.log((np.square(edges).mean() + 1e-12) / (spread**2 + 1e-6)))
