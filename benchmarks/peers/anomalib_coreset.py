"""anomalib's greedy coreset, for as many centres as somebody has time for, in an environment of its own.

PYTHON -m benchmarks.peers.anomalib_coreset POINTS.npy CENTRES THREADS      PYTHON has anomalib

It prints a line `reply {...}`: the seconds that its random projection takes once, and those of the centres.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch


def main() -> None:
    """Time the steps that `KCenterGreedy.select_coreset_idxs` takes."""
    from anomalib.models.components.sampling import KCenterGreedy

    file, centres, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    points = torch.from_numpy(np.load(file))
    began = time.perf_counter()
    greedy: Any = KCenterGreedy(points, sampling_ratio=centres / len(points))
    greedy.model.fit(points)
    width = greedy.model.transform(points[:8]).shape[1]
    projected = time.perf_counter() - began
    began = time.perf_counter()
    chosen = greedy.select_coreset_idxs()
    spent = time.perf_counter() - began
    print("reply", json.dumps({"centres": len(chosen), "dims": width, "setup": projected, "seconds": spent}))


if __name__ == "__main__":
    main()
