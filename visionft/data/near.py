"""Which images look like copies of each other? Thumbnails compared pixel by pixel, what all images share taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # pixels of a thumbnail
BLUR = 3.0  # thumbnail pixels: light that changes more slowly says nothing of the subject
SHARED = 16  # directions in which most images differ alike (frames, bars, lamps), and the images that pay for each
IMAGES_EACH, FITTED = 32, 512
FLAT = 1.0  # gray levels: an image with less detail resembles every other such image
ALIKE = 0.97  # correlation
ROWS = 1024  # compared at once


def near_copies(
    pixels: Sequence[np.ndarray], *, alike: float = ALIKE, progress: Callable[[int, int], None] | None = None
) -> list[tuple[int, int, float]]:
    """Pairs of places (first < second) and their correlation, the most alike first.

    Correlated are 32 x 32 gray thumbnails without slow changes of light, without their mean, and without the 16 leading
    principal components of all of them: photos of parts in one frame share the frame, copies share the rest as well.
    Measured on 2,624 solar cells, pairs above 0.97 are neighbouring slices of one crystal (67 pairs); a copy at 80 % of
    the size and JPEG quality 70 has 0.98 to 0.99. A mirrored copy is not found, nor one of an image without detail.
    """
    rows, busy = [], []
    for at, image in enumerate(pixels):
        row, detail = _thumbnail(image)
        rows.append(row)
        busy.append(detail >= FLAT)
        if progress:
            progress(at + 1, len(pixels))
    if not rows:
        return []
    z = _distinct(torch.from_numpy(np.stack(rows)), torch.tensor(busy))
    found = []
    for start in range(0, len(z), ROWS):
        close = z[start : start + ROWS] @ z[start:].T
        for i, j in (close.triu(1) > alike).nonzero().tolist():
            found.append((start + i, start + j, float(close[i, j])))
    return sorted(found, key=lambda pair: -pair[2])


def _thumbnail(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The detail of an image as SIDE * SIDE numbers of mean 0, and its spread in gray levels."""
    gray = image[..., :3].mean(2, dtype=np.float32)
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    detail = small - cv2.GaussianBlur(small, (0, 0), BLUR)
    detail = detail - detail.mean()
    return (detail / max(float(np.linalg.norm(detail)), 1e-6)).ravel(), float(detail.std())


def _distinct(rows: Tensor, busy: Tensor) -> Tensor:
    """Rows of length 1 without what they share; rows of zeros where there is no detail."""
    known = rows[busy][:: max(1, int(busy.sum()) // FITTED)]
    count = min(SHARED, len(known) // IMAGES_EACH)
    if count:
        mean = known.mean(0)
        shared = torch.linalg.svd(known - mean, full_matrices=False).Vh[:count]
        rows = rows - mean
        rows = rows - (rows @ shared.T) @ shared
    return F.normalize(rows, dim=1, eps=1e-6) * busy[:, None]
