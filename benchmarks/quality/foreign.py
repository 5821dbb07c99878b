"""Another product under the camera: is it rejected, and called foreign? And is no photo of the right one?

python -m benchmarks.quality.foreign [--shared FOLDER] [--shown 100] [--threads 2]

An inspector is fitted to the good photos of each data set, dealt as in `benchmarks.quality.inspection`, and shown
photos of the others, its own good ones that it has not learnt from, and its own defects; and its own good ones turned
by a quarter, taken with half of the light, and out of focus.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.harness import write
from benchmarks.quality.inspection import BORDER, FITTED, Photos, photos
from visionft.data.cache import cached
from visionft.data.sources import read
from visionft.inspection.inspector import Inspector

CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by a quarter": lambda photo: np.rot90(photo).copy(),
    "half of the light": lambda photo: (photo // 2).astype(np.uint8),
    "out of focus": lambda photo: np.atleast_3d(cv2.GaussianBlur(photo, (0, 0), 4)),
}


def shown(dealt: Mapping[str, Photos], own: str, most: int) -> dict[str, list[np.ndarray]]:
    """What an inspector of one data set is shown, decoded."""
    some = dealt[own]
    test = list(zip(some.test, some.defective, strict=True))
    files = {"own good": [file for file, bad in test if not bad], "own defects": [file for file, bad in test if bad]}
    files |= {other: dealt[other].test for other in dealt if other != own}
    found = {}
    for name, every in files.items():
        kept = [every[at] for at in np.linspace(0, len(every) - 1, min(most, len(every))).astype(int)]
        found[name] = [*cached(read(kept, labelled=False), channels=3, white=255, store="off")]
    good = found["own good"]
    return found | {f"own good, {name}": [change(photo) for photo in good] for name, change in CHANGES.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set against every other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--shown", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    dealt = {data: photos(data, 0, words.shared, 0) for data in FITTED if data != "tiles" or words.shared}
    rows = list[dict[str, Any]]()
    for data, some in dealt.items():
        inspector = Inspector.fit(some.good, false_reject=0.01, border=BORDER.get(data, 0), quiet=True)
        for what, images in shown(dealt, data, words.shown).items():
            verdicts = inspector.judge(images, [""] * len(images))
            rows.append({
                "fitted_to": data, "shown": what, "photos": len(images),
                "rejected": round(float(np.mean([one.reject for one in verdicts])), 4),
                "foreign": round(float(np.mean([one.foreign for one in verdicts])), 4),
            })  # fmt: skip
            print(rows[-1], flush=True)
    print(write("foreign", rows, "python -m benchmarks.quality.foreign"))


if __name__ == "__main__":
    main()
