"""What a line asks of whoever judges its parts: an inspector, or the file that one was exported to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from visionft.arrays import Floats
from visionft.data.decode import Reading

from .verdict import Verdict

if TYPE_CHECKING:
    from .promise import Promise


class Judging(Protocol):
    """Reads photos in its way, judges them, and remembers what good parts were like."""

    @property
    def images(self) -> Reading:
        """How files are read: channels, white."""

    @property
    def promise(self) -> Promise:
        """The threshold, and how many good parts it may reject."""

    @property
    def signs(self) -> Floats:
        """N S, of good parts, held out: see `signs`."""

    def judge(self, pixels: Sequence[np.ndarray], names: Sequence[str]) -> list[Verdict]:
        """Verdicts on decoded photos. Raises DataError where a photo is not one that it can judge."""

    def gray(self) -> np.ndarray:
        """A photo that it can judge, H W C, of nothing."""
