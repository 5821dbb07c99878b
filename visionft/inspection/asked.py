"""What somebody hands over to be judged: a file, an array, a folder, a list; and an answer of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionft.data.cache import cached
from visionft.data.decode import Reading
from visionft.data.sources import read

from .verdict import Verdict

Judge = Callable[[Sequence[np.ndarray], list[str]], list[Verdict]]  # pixels and names


def asked(images: Any, how: Reading, judge: Judge) -> Verdict | list[Verdict]:
    """One verdict on a file or an array (H W or H W C, uint8), a list on a folder or a list of these.

    `how` files are read: channels, white. Raises DataError naming every file that cannot be.
    """
    single = isinstance(images, np.ndarray) and images.ndim < 4
    table = read([images] if single else images, labelled=False)
    found = judge(cached(table, **how, store="off"), [record.name for record in table])
    one = single or (isinstance(images, (str, Path)) and Path(images).is_file() and len(found) == 1)
    return found[0] if one else found
