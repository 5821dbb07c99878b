"""Run lengths: how many pixels in a row are outside, inside, outside, ... the defect (COCO, CVAT)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionft.annotations.shapes import Bools
from visionft.errors import DataError


def decode(runs: Sequence[int], height: int, width: int, where: str, *, by_column: bool) -> Bools:
    """Runs that begin outside to pixels H W; COCO goes down the columns, CVAT along the rows."""
    if sum(runs) != height * width:
        raise DataError(
            f"{where}: the run lengths cover {sum(runs)} pixels, the mask has {width} x {height}; export it again"
        )
    inside = np.arange(len(runs)) % 2 == 1
    flat: Bools = np.repeat(inside, runs)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)


def unpack(text: str, where: str) -> list[int]:
    """COCO's compressed runs: 5 bits a character, low bits first, from the third run on less the run two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        chunk = ord(character) - 48
        if not 0 <= chunk < 64:
            raise DataError(f"{where}: {character!r} does not occur in compressed run lengths; export it again")
        value |= (chunk & 31) << shift
        shift += 5
        if chunk & 32:  # more follows
            continue
        value -= (chunk & 16) << (shift - 4)  # the last chunk's high bit is the sign
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift or min(runs, default=0) < 0:
        raise DataError(f"{where}: the compressed run lengths are cut off or damaged; export it again")
    return runs
