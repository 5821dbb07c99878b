"""A 10 % coreset of 300 photos at 224 px: the same patches for us and for anomalib, and our whole fit from files.

python -m benchmarks.speed.coreset [--peer-python PYTHON] [--photos 300] [--share 0.1] [--centres 200 600] [--threads 2]

The photos are flawless solar cells, the patches those that anomalib's PatchCore makes of them with these weights (two
layers of tf_efficientnet_lite0, 28 x 28 places of 152 features). anomalib chooses one centre after the other, all steps
alike: it is timed for two numbers of centres, and what the whole coreset takes is the straight line through them, which
is said (`extrapolated`). `radius` is how far the farthest patch is from its nearest centre: lower is better.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import write
from benchmarks.quality.inspection import BACKBONE, SIZE, WEIGHTS, photos
from benchmarks.turns import once, peak_mb
from visionft import backbones
from visionft.data.cache import cached
from visionft.data.sources import read
from visionft.inspection.coreset import coreset, radius
from visionft.inspection.inspector import Inspector
from visionft.inspection.sight import Sight
from visionft.inspection.stream import stream

CELL = 300  # pixels of a photo's side
SIGHT = Sight(scale=SIZE / CELL, layers=(-3, -2))


def ours(files: Sequence[str], points: torch.Tensor, share: float) -> list[dict[str, Any]]:
    """The coreset alone, and a fit from files with as large a bank."""
    k = round(share * len(points))
    began = time.perf_counter()
    chosen = coreset(points, k)
    spent = time.perf_counter() - began
    eye = {"name": "patches", "layers": [-3, -2], "scale": SIZE / CELL,
           "scorer": {"name": "neighbours", "share": share, "most": k}}  # fmt: skip
    rows = [{"case": "ours, coreset", "centres": k, "seconds": round(spent, 1), "extrapolated": False,
             "radius": round(radius(points, points[chosen]), 2)}]  # fmt: skip
    del points
    began = time.perf_counter()
    fitted = Inspector.fit(list(files), eyes=[eye], false_reject=0.01, quiet=True)
    spent = time.perf_counter() - began
    bank = len(fitted.panel.eyes[0].scorer.state()["bank"])
    return [*rows, {"case": "ours, fit from files, held out by ten folds", "centres": bank, "seconds": round(spent, 1),
                    "extrapolated": False, "peak_mb": peak_mb()}]  # fmt: skip


def anomalib(file: Path, n: int, words: argparse.Namespace) -> dict[str, Any]:
    """Seconds of its coreset, by the line through two measurements."""
    k = round(words.share * n)
    told = [
        once(words.peer_python, "benchmarks.peers.anomalib_coreset", str(file), str(count), str(words.threads),
             threads=words.threads) for count in words.centres
    ]  # fmt: skip
    (few, a), (many, b) = ((one["centres"], one["seconds"]) for one in told)
    each = (b - a) / (many - few)
    return {"case": "anomalib, coreset", "centres": k, "seconds": round(b + each * (k - many), 1), "extrapolated": True,
            "seconds_a_centre": round(each, 4), "measured": told, "dims": told[0]["dims"]}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the patches, and time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--centres", type=int, nargs=2, default=[200, 600])
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    files = photos("elpv", 0, None, 0).good[: words.photos]
    backbone = backbones.load(BACKBONE, WEIGHTS).eval()
    parts = stream([SIGHT], backbone, cached(read(files, labelled=False), channels=3, store="ram"))
    points = torch.cat([patches[SIGHT].flatten(0, 2) for patches, _ in parts])
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "points.npy"
        np.save(file, points.numpy())
        rows = [anomalib(file, len(points), words), *ours(files, points, words.share)]
    rows = [{**row, "photos": words.photos, "patches": len(points), "features": points.shape[1]} for row in rows]
    for row in rows:
        print(row, flush=True)
    print(write("coreset", rows, "python -m benchmarks.speed.coreset"))


if __name__ == "__main__":
    main()
