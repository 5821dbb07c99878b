"""A linear probe on features computed once, against 20 epochs that run the frozen backbone each time, as peers do.

python -m benchmarks.speed.probe [--images 512] [--epochs 20]

Both sides train a linear head on the same images and weights. `frozen loop` is the textbook: fp32, backbone under
no_grad, AdamW on the head, every epoch from pixels. `cached fp32` computes the same features once, in fp32, and
trains the same head by the same epochs: what caching alone gains. `ours` is what users get: features in the fastest
arithmetic, the L2 chosen by cross-validation, L-BFGS. Decoding and augmentation are in none of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import write
from visionft import backbones
from visionft.backbone import Backbone
from visionft.data.cache import cached
from visionft.data.records import Table
from visionft.data.samples import elpv
from visionft.data.scan import scan
from visionft.evaluation.probe import fit_probe
from visionft.features import features

BATCH = 32


def frozen_loop(backbone: Backbone, images: Tensor, labels: Tensor, epochs: int) -> float:
    """Accuracy on the training images after `epochs` passes through the backbone."""
    head = nn.Linear(backbone.dim, 2)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(BATCH):
            with torch.no_grad():
                z = backbone(images[part])
            _learn(head, optimizer, z, labels[part])
    return float(len(images))


def cached_loop(backbone: Backbone, images: Tensor, labels: Tensor, epochs: int) -> float:
    """The same head and epochs on features computed once, in fp32."""
    with torch.no_grad():
        z = torch.cat([backbone(part) for part in images.split(BATCH)])
    head = nn.Linear(backbone.dim, 2)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    for epoch in range(epochs):
        for part in torch.randperm(len(z), generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            _learn(head, optimizer, z[part], labels[part])
    return float(len(images))


def _learn(head: nn.Linear, optimizer: torch.optim.Optimizer, z: Tensor, labels: Tensor) -> None:
    nn.functional.cross_entropy(head(z), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Time the three in turn, twice, and keep each one's faster run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=160)
    words = parser.parse_args()
    torch.set_num_threads(2)
    table: Table = scan(elpv().take(range(0, 2624, 2624 // words.images))).table
    pixels = cached(table, edge=words.size, store="ram")
    labels = torch.from_numpy(table.labels)
    square = [np.asarray(p)[: words.size, : words.size] for p in pixels]
    images = torch.from_numpy(np.stack(square)).movedim(-1, 1)
    backbone = backbones.load("tf_efficientnet_lite0", "package:efficientnet-lite0", size=words.size).eval()
    digests = [r.digest for r in table]

    def ours() -> None:
        z = features(backbone, pixels, digests, size=words.size, store=False)
        fit_probe(z, labels, classes=2)

    cases: dict[str, Callable[[], object]] = {
        "frozen loop": lambda: frozen_loop(backbone, images, labels, words.epochs),
        "cached fp32": lambda: cached_loop(backbone, images, labels, words.epochs),
        "ours": ours,
    }
    for case in list(cases.values())[1:]:
        case()  # kernels of every shape are compiled before anything is timed
    rounds = [{name: _seconds(case) for name, case in cases.items()} for _ in range(2)]
    best = {name: min(r[name] for r in rounds) for name in cases}
    rows = [
        {
            "case": name,
            "seconds": round(seconds, 3),
            "speedup": round(best["frozen loop"] / seconds, 1),
            "images": len(table),
            "epochs": words.epochs,
            "size": words.size,
            "backbone": backbone.name,
        }
        for name, seconds in best.items()
    ]
    for row in rows:
        print(row)
    print(write("probe", rows, "python -m benchmarks.speed.probe"))


if __name__ == "__main__":
    main()
