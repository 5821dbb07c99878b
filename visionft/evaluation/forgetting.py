"""How far have representations moved? Linear CKA, which no rotation or scale of features changes, and plain drift."""

from __future__ import annotations

import numpy as np

from visionft.errors import DataError

from .bootstrap import Floats


def cka(one: Floats, other: Floats) -> float:
    """Linear centred kernel alignment of N D and N E features of the same images, 0 to 1 (arXiv:1905.00414).

    1 when one is the other rotated and scaled. Raises DataError when the images differ in number or a side is constant.
    """
    if len(one) != len(other):
        raise DataError(f"CKA compares features of the same images, not of {len(one)} and {len(other)}")
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (one, other))
    across, within = np.linalg.norm(a.T @ b) ** 2, np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    if within == 0:
        raise DataError("CKA of features that are the same for all images is not defined")
    return float(across / within)


def drift(before: Floats, after: Floats) -> float:
    """Length of the change of features over their length, |after - before| / |before|, over all images."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))
